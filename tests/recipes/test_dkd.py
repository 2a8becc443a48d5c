"""Decoupled knowledge distillation against figures worked out outside the code.

The figures were computed in plain Python floats without torch, by the definitions: softmax as
exp(z_i / T) over its sum, b and p^ by dividing probabilities (never logits), each divergence as the
sum of p log(p / q), each mean over the three images. For every image they were seen to fulfil
Eq. 5 to 1e-14.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from compress.errors import UsageError
from compress.recipes import dkd, kd
from compress.recipes.registry import make_recipe

F = torch.tensor([[1.0, 2.0, 0.0, -1.0], [0.0, 1.0, 3.0, 0.5], [2.0, -1.0, 1.0, 0.0]])
t = torch.tensor([[2.0, 1.0, 0.0, 0.5], [0.0, 0.0, 4.0, 1.0], [1.0, 0.0, 3.0, -1.0]])
LABELS = torch.tensor([1, 2, 0])


def close(value: Tensor, expected: float) -> bool:
    return float(value) == pytest.approx(expected, abs=2e-6)


def test_the_others_are_all_classes_but_the_label() -> None:
    assert dkd.others(F, LABELS).tolist() == [[0.0, -1.0, 1.0], [0.5, 0.0, 1.0], [-1.0, 1.0, 0.0]]


def test_eq_1_and_2_are_probabilities() -> None:
    b = dkd.log_b(t, LABELS, 4.0).exp()
    assert torch.allclose(b[0], torch.tensor([0.253464665, 0.746535335]), atol=1e-6)
    # In cyclic order from the label on: classes 2, 3, 0.
    p_hat = dkd.log_p_hat(t, LABELS, 4.0).exp()
    expected = torch.tensor([0.264419473, 0.299626517, 0.435954010])
    assert torch.allclose(p_hat[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("temperature", "tckd", "nckd"),
    [(1.0, 0.355598296, 0.177453407), (4.0, 0.018673899, 0.022765372)],
)
def test_eq_5_has_two_divergences_from_teacher_to_student(
    temperature: float, tckd: float, nckd: float
) -> None:
    assert close(dkd.TCKD(F, t, LABELS, temperature), tckd)
    assert close(dkd.NCKD(F, t, LABELS, temperature), nckd)


@pytest.mark.parametrize("image", [0, 1, 2])
def test_eq_6_is_plain_distillation(image: int) -> None:
    one = slice(image, image + 1)
    z, v, label = F[one], t[one], LABELS[one]
    p_t = kd.M(v, 4.0)[0, label]
    whole = dkd.TCKD(z, v, label, 4.0) + (1 - p_t) * dkd.NCKD(z, v, label, 4.0)
    assert close(whole, float(kd.L_KD(z, v, 4.0)))


@pytest.mark.parametrize(
    ("temperature", "alpha", "beta", "expected"),
    [
        (1.0, 1.0, 8.0, 1.775225552),
        (1.0, 3.0, 0.5, 1.155521591),
        (4.0, 1.0, 8.0, 0.200796876),
        (4.0, 3.0, 0.5, 0.067404382),
    ],
)
def test_eq_7_weighs_the_two(
    temperature: float, alpha: float, beta: float, expected: float
) -> None:
    assert close(dkd.DKD(F, t, LABELS, temperature, alpha, beta), expected)


def test_two_classes_leave_nothing_among_the_others() -> None:
    assert close(dkd.NCKD(F[:, :2], t[:, :2], torch.tensor([1, 0, 0]), 4.0), 0.0)


def test_large_logits_stay_finite() -> None:
    student = (1e3 * F).requires_grad_()
    loss = dkd.DKD(student, 1e3 * t, LABELS, 1.0, 1.0, 8.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_the_defaults_are_the_paper_s() -> None:
    assert make_recipe("dkd").to_dict() == {
        "alpha": 1.0,
        "beta": 8.0,
        "temperature": 4.0,
        "standardise": False,
    }


def test_bad_values_are_named_at_once() -> None:
    with pytest.raises(UsageError, match=r"temperature is 0.0, .* alpha is -1.0, .* beta is nan"):
        make_recipe("dkd", temperature=0.0, alpha=-1.0, beta=float("nan"))
