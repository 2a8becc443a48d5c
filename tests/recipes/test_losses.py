"""Each loss against figures worked out outside the code, from the papers' equations.

F and t are the logits of two images in three classes. The figures were computed with plain
exponentials and logarithms, to sixteen digits, without torch.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from compress.recipes import kd, supervised

F = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]])
t = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 4.0]])
LABELS = torch.tensor([1, 2])


def close(value: Tensor, expected: float) -> bool:
    return float(value) == pytest.approx(expected, abs=2e-6)


def test_eq_1_is_a_softmax_at_a_temperature() -> None:
    expected = torch.tensor([[0.506480, 0.307196, 0.186324], [0.106507, 0.106507, 0.786986]])
    assert torch.allclose(kd.M(t, 2.0), expected, atol=1e-6)


def test_eq_3_is_the_cross_entropy() -> None:
    assert close(supervised.L_S(F, LABELS), 0.288725992)


@pytest.mark.parametrize(
    ("temperature", "expected"), [(1.0, 0.250688469), (2.0, 0.082352901), (5.0, 0.014270189)]
)
def test_eq_2_is_the_divergence_from_teacher_to_student(
    temperature: float, expected: float
) -> None:
    assert close(kd.L_KD(F, t, temperature), expected)


@pytest.mark.parametrize(
    ("temperature", "expected"), [(1.0, 0.395051465), (2.0, 0.473774600), (5.0, 0.501117729)]
)
def test_eq_4_weighs_the_two_terms(temperature: float, expected: float) -> None:
    assert close(kd.L_1(F, t, LABELS, temperature), expected)
