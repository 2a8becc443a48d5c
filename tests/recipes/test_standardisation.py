"""Logit standardisation, alone and in kd and dkd, against figures worked out outside the code.

The figures were computed in plain Python floats without torch: mean and deviation of each row by
their sums (divided by the number of classes), then the losses of the standardised rows by the
definitions, as in ``test_dkd``.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from compress.recipes import dkd, kd
from compress.recipes.standardisation import Z
from tests.recipes.test_dkd import LABELS, F, t


def close(value: Tensor, expected: float) -> bool:
    return float(value) == pytest.approx(expected, abs=2e-6)


def test_algorithm_1_divides_by_the_deviation_of_all_classes() -> None:
    # (1, 2, 0, -1): mean 1/2, variance (1/4 + 9/4 + 1/4 + 9/4) / 4 = 5/4.
    expected = torch.tensor([0.447213595, 1.341640786, -0.447213595, -1.341640786])
    assert torch.allclose(Z(F)[0], expected, atol=1e-6)
    # (2, 1, 0, 1/2): mean 7/8, variance 35/64.
    expected = torch.tensor([1.521277659, 0.169030851, -1.183215957, -0.507092553])
    assert torch.allclose(Z(t)[0], expected, atol=1e-6)


def test_it_takes_no_notice_of_shift_and_scale() -> None:
    assert torch.allclose(Z(3 * F - 2), Z(F), atol=1e-6)
    # Nor may a loss behind it move the logits that way.
    leaf = F.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(kd.L_KD(Z(leaf), Z(t), 2.0), leaf)
    assert gradient.abs().max() > 1e-3
    assert torch.allclose(gradient.sum(dim=1), torch.zeros(3), atol=1e-7)
    assert torch.allclose((gradient * F).sum(dim=1), torch.zeros(3), atol=1e-7)


def test_equal_logits_give_zeros() -> None:
    leaf = torch.full((2, 4), 3.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(Z(leaf).square().sum(), leaf)
    assert torch.equal(Z(leaf), torch.zeros(2, 4))
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(("temperature", "expected"), [(2.0, 0.550043645), (5.0, 0.539730446)])
def test_kd_matches_standardised_logits_and_classifies_with_its_own(
    temperature: float, expected: float
) -> None:
    assert close(kd.L_1(F, t, LABELS, temperature, standardise=True), expected)
    plain = kd.L_1(F, t, LABELS, temperature)
    assert close(plain, float(kd.L_1(F, t, LABELS, temperature, standardise=False)))
    assert not close(plain, expected)


def test_dkd_of_standardised_logits() -> None:
    assert close(dkd.DKD(Z(F), Z(t), LABELS, 4.0, 1.0, 8.0), 0.127666267)
