"""FitNet against figures worked out by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.errors import UsageError
from compress.models.network import FEATURES
from compress.models.registry import build
from compress.recipes import fitnet
from compress.recipes.registry import make_recipe
from tests.recipes.test_methods import SPEC, a_batch, setting

# Two images of one channel, two pixels high and one wide.
U = torch.tensor([[[[1.0], [2.0]]], [[[0.0], [-1.0]]]])
R = torch.tensor([[[[0.0], [4.0]]], [[[0.0], [2.0]]]])


def test_eq_3_is_half_the_square() -> None:
    # Squares 1 + 4 and 0 + 9: halves of their means 5/4 and 9/4, of their sums 5/2 and 9/2.
    assert float(fitnet.L_HT(U, R)) == pytest.approx(1.75)
    assert float(fitnet.L_HT(U, R, "mean")) == pytest.approx(1.75)
    assert float(fitnet.L_HT(U, R, "sum")) == pytest.approx(3.5)


def test_the_larger_map_is_averaged() -> None:
    large = torch.arange(16.0).reshape(1, 1, 4, 4)
    small = torch.zeros(1, 3, 2, 2)
    a, b = fitnet.same_size(large, small)
    assert torch.equal(a, torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]]))
    assert torch.equal(b, small)
    b, a = fitnet.same_size(small, large)
    assert torch.equal(a, torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]]))
    high, wide = fitnet.same_size(torch.ones(1, 1, 6, 2), torch.ones(1, 1, 3, 5))
    assert high.shape == wide.shape == (1, 1, 3, 2)


def plain(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=0.01)


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({}, 4.0 / 2),
        ({"weight": 0.5}, 0.5 / 2),
        # 24 channels of 2x2, the size of the student's map.
        ({"weight": 0.5, "reduction": "sum"}, 0.5 / 2 * 24 * 2 * 2),
    ],
)
def test_student_and_regressor_descend_the_whole_loss(
    options: dict[str, float | str], factor: float
) -> None:
    torch.manual_seed(0)
    student, batch = build(SPEC), a_batch()
    method = make_recipe("fitnet", **options).start(setting(student, plain))
    regressor = method.modules["regressor"]
    (conv,) = [module for module in regressor.modules() if isinstance(module, nn.Conv2d)]
    assert (conv.in_channels, conv.out_channels, conv.kernel_size) == (32, 24, (1, 1))
    then, r = copy.deepcopy(student), copy.deepcopy(conv)
    told = method.step(batch, "train")["loss"]

    m_s, m_t = then.features(batch.images), batch.of_teacher(FEATURES)
    hint = m_t.unflatten(3, (2, 2)).unflatten(2, (2, 2)).mean((3, 5))
    apart: Tensor = hint - torch.relu(r(m_s))
    loss = functional.cross_entropy(then.classify(m_s), batch.labels)
    loss = loss + factor * (apart**2).mean()
    assert torch.allclose(told, loss, rtol=1e-5)
    old = [*then.parameters(), *r.parameters()]
    new = [*student.parameters(), *conv.parameters()]
    for before, gradient, after in zip(old, torch.autograd.grad(loss, old), new, strict=True):
        assert torch.allclose(before - 0.01 * gradient, after, rtol=1e-4, atol=1e-6)


def test_equal_channels_need_no_regressor() -> None:
    torch.manual_seed(0)
    student, batch = build(SPEC), a_batch()
    batch = replace(batch, teachers=[{FEATURES: torch.rand(16, 32, 2, 2)}])
    work = replace(setting(student, plain), teacher_shapes={FEATURES: (32, 2, 2)})
    then = copy.deepcopy(student)
    method = make_recipe("fitnet").start(work)
    assert set(method.modules) == {"student"}
    told = method.step(batch, "train")["loss"]
    m_s, m_t = then.features(batch.images), batch.of_teacher(FEATURES)
    expected = functional.cross_entropy(then.classify(m_s), batch.labels)
    assert torch.allclose(told, expected + 2 * ((m_t - m_s) ** 2).mean(), rtol=1e-5)


def test_wrong_options_are_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"'max', not 'mean' or 'sum'.* weight is -1.0"):
        make_recipe("fitnet", weight=-1.0, reduction="max")
