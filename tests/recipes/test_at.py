"""Attention transfer against figures worked out outside the code, in plain Python floats."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from compress.errors import UsageError
from compress.models.network import FEATURES
from compress.models.registry import build
from compress.recipes import at
from compress.recipes.registry import make_recipe
from tests.recipes.test_methods import SPEC, a_batch, setting

# Two images; the student's maps have two channels, the teacher's one.
A_S = torch.tensor(
    [
        [[[1.0, 2.0], [0.0, -1.0]], [[0.0, 1.0], [2.0, 0.0]]],
        [[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 3.0]]],
    ]
)
A_T = torch.tensor([[[[2.0, 0.0], [1.0, 1.0]]], [[[0.0, 1.0], [0.0, -2.0]]]])
# Squared and averaged in squares of two pixels: 3, 1, 1, 1.
LARGE = torch.tensor(
    [[[[1.0, 1.0, 0.0, 0.0], [1.0, 3.0, 2.0, 0.0], [0.0, 0.0, 1.0, 1.0], [2.0, 0.0, 1.0, -1.0]]]]
)


def close(value: Tensor, expected: float) -> bool:
    return float(value) == pytest.approx(expected, abs=2e-6)


def test_eq_1_sums_powers_over_the_channels() -> None:
    expected = torch.tensor([[[[1.0, 5.0], [4.0, 1.0]]], [[[1.0, 0.0], [0.0, 9.0]]]])
    assert torch.allclose(at.F_sum(A_S, 2.0), expected)
    expected = torch.tensor([[[[1.0, 3.0], [2.0, 1.0]]], [[[1.0, 0.0], [0.0, 3.0]]]])
    assert torch.allclose(at.F_sum(A_S, 1.0), expected)


def test_eq_2_s_distance_is_of_vectors_of_length_1() -> None:
    # (1, 5, 4, 1) / sqrt 43 from (4, 0, 1, 1) / sqrt 18; (1, 0, 0, 9) / sqrt 82 from
    # (0, 1, 0, 4) / sqrt 17.
    found = at.distances(at.F_sum(A_S, 2.0), at.F_sum(A_T, 2.0))
    assert torch.allclose(found, torch.tensor([1.163186727, 0.267548683]))
    assert torch.allclose(at.distances(5 * at.F_sum(A_S, 2.0), at.F_sum(A_T, 2.0)), found)


@pytest.mark.parametrize(
    ("p", "expected"), [(1.0, 0.761490486), (2.0, 0.715367705), (3.0, 0.708013742)]
)
def test_eq_2_has_half_the_distances(p: float, expected: float) -> None:
    assert close(at.attention_term(A_S, A_T, p), expected)
    assert close(at.attention_term(A_S, A_T, p, "sum"), expected)
    assert close(at.attention_term(A_S, A_T, p, "mean"), expected / 2)


def test_the_larger_attention_map_is_averaged() -> None:
    assert close(at.attention_term(A_S[:1], LARGE), 0.462442921)
    assert close(at.attention_term(LARGE, A_S[:1]), 0.462442921)


def test_maps_that_attend_alike_are_at_no_distance_and_have_a_gradient() -> None:
    A = A_S.clone().requires_grad_()
    term = at.attention_term(A, A_S)
    assert float(term.detach()) == 0
    (gradient,) = torch.autograd.grad(term, A)
    assert torch.isfinite(gradient).all()
    nothing = torch.zeros_like(A_S).requires_grad_()
    (gradient,) = torch.autograd.grad(at.attention_term(nothing, A_T), nothing)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({}, 0.05 / 2),
        ({"weight": 3.0}, 3.0 / 2),
        ({"weight": 3.0, "reduction": "mean"}, 3.0 / 2 / 16),
    ],
)
def test_the_student_descends_eq_2(options: dict[str, float | str], factor: float) -> None:
    torch.manual_seed(0)
    student, batch, rate = build(SPEC), a_batch(), 0.01
    then = copy.deepcopy(student)
    method = make_recipe("at", **options).start(
        setting(student, lambda module: torch.optim.SGD(module.parameters(), lr=rate))
    )
    told = method.step(batch, "train")["loss"]

    m_s, m_t = then.features(batch.images), batch.of_teacher(FEATURES)
    assert m_t.shape[2:] == (4, 4)
    assert m_s.shape[2:] == (2, 2)
    Q_s = (m_s**2).sum(1).flatten(1)
    Q_t = (m_t**2).sum(1).unflatten(2, (2, 2)).unflatten(1, (2, 2)).mean((2, 4)).flatten(1)
    apart = Q_s / (Q_s**2).sum(1, keepdim=True).sqrt() - Q_t / (Q_t**2).sum(1, keepdim=True).sqrt()
    expected = functional.cross_entropy(then.classify(m_s), batch.labels)
    expected = expected + factor * (apart**2).sum(1).sqrt().sum()
    assert torch.allclose(told, expected, rtol=1e-5)
    gradients = torch.autograd.grad(expected, list(then.parameters()))
    for old, gradient, new in zip(then.parameters(), gradients, student.parameters(), strict=True):
        assert torch.allclose(old - rate * gradient, new, rtol=1e-4, atol=1e-6)


def test_wrong_options_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        make_recipe("at", weight=-1.0, power=0.5, reduction="max")
    for fault in ("weight is -1.0", "power is 0.5", "'max', not 'mean' or 'sum'"):
        assert fault in str(caught.value)
