"""Each loss against figures worked out outside the code, from the papers' equations.

F and t are the logits of two images in three classes. The figures were computed with plain
exponentials and logarithms, to sixteen digits, without torch.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from compress.recipes import kd, logit_gan, supervised

F = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]])
t = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 4.0]])
LABELS = torch.tensor([1, 2])
# Three class scores, then Real, then Fake.
D_T = torch.tensor([[1.0, 0.0, 2.0, 3.0, 1.0], [0.0, 1.0, 0.0, 2.0, 2.0]])
D_F = torch.tensor([[0.0, 2.0, 1.0, 1.0, 2.0], [1.0, 0.0, 1.0, 0.0, 3.0]])


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


def test_eq_6_and_its_parts() -> None:
    assert close(logit_gan.log_P_origin(D_T, logit_gan.REAL), -0.410037596)
    assert close(logit_gan.log_P_origin(D_F, logit_gan.FAKE), -0.180924520)
    assert close(logit_gan.log_P_label(D_T, LABELS), -1.979525339)
    assert close(logit_gan.log_P_label(D_F, LABELS), -0.634800384)
    assert close(logit_gan.L_A(D_T, D_F), -0.590962115)
    assert close(logit_gan.L_DS(D_T, D_F, LABELS), -2.614325723)
    assert close(logit_gan.L_GAN(D_T, D_F, LABELS), -1.602643919)


def test_eq_7_sums_over_the_classes() -> None:
    # |1-2| + |2-1| + |0-0| = 2 and |0-0| + |1-0| + |3-4| = 2
    assert close(logit_gan.L_L1(F, t), 2.0)
    assert close(logit_gan.L_L1(F, t, "mean"), 2 / 3)
    assert close(logit_gan.L_L1(F[:1], torch.zeros(1, 3)), 3.0)


def test_eq_8_adds_the_student_s_terms() -> None:
    # 0.288725992 + 2 + (-0.590962115 + 2.614325723) / 2
    assert close(logit_gan.L_2(F, t, LABELS, D_T, D_F), 3.300407796)
