"""DIST against figures worked out outside the code.

The figures were computed in plain Python floats without torch, by the definitions: softmax as
exp(z_i / tau) over its sum, covariance and variances as means of products of differences from the
mean, the correlation as their quotient, row by row and column by column. The 1e-8 in the
denominator is left out of them.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from compress.errors import UsageError
from compress.recipes import dist
from compress.recipes.registry import make_recipe

F = torch.tensor([[1.0, 2.0, 0.0, -1.0], [0.0, 1.0, 3.0, 0.5], [2.0, -1.0, 1.0, 0.0]])
t = torch.tensor([[2.0, 1.0, 0.0, 0.5], [0.0, 0.0, 4.0, 1.0], [1.0, 0.0, 3.0, -1.0]])
LABELS = torch.tensor([1, 2, 0])


def close(value: Tensor, expected: float) -> bool:
    return float(value) == pytest.approx(expected, abs=5e-6)


def probabilities(z: Tensor, tau: float) -> Tensor:
    return torch.softmax(z / tau, dim=1)


def test_eq_7_is_pearson_s_correlation() -> None:
    # (1, 2, 3) and (1, 2, 4): covariance 1, variances 2/3 and 14/9, so 3 / sqrt(28/3).
    u, v = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 2.0, 4.0]])
    assert close(dist.rho_p(u, v)[0], 0.981980506)
    assert close(dist.rho_p(u, -v)[0], -0.981980506)
    assert close(dist.rho_p(u, 5 * v + 7)[0], 0.981980506)
    rows = dist.rho_p(probabilities(F, 4.0), probabilities(t, 4.0))
    assert torch.allclose(rows, torch.tensor([0.473310872, 0.958659758, 0.441525763]), atol=5e-6)


def test_eq_6_is_one_minus_the_correlation() -> None:
    u = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    v = torch.tensor([[1.0, 2.0, 4.0], [3.0, 2.0, 1.0]])
    assert torch.allclose(dist.d_p(u, v), torch.tensor([0.018019494, 2.0]), atol=5e-6)


@pytest.mark.parametrize(
    ("tau", "inter", "intra"), [(1.0, 0.582486939, 0.829414173), (4.0, 0.375501202, 0.627795317)]
)
def test_eq_8_goes_by_image_and_eq_9_by_class(tau: float, inter: float, intra: float) -> None:
    Y_s, Y_t = probabilities(F, tau), probabilities(t, tau)
    assert close(dist.L_inter(Y_s, Y_t), inter)
    assert close(dist.L_intra(Y_s, Y_t), intra)


@pytest.mark.parametrize(
    ("tau", "beta", "gamma", "expected"),
    [
        # 0.372398313 + 1 (2 0.582486939 + 2 0.829414173)
        (1.0, 2.0, 2.0, 3.196200538),
        (1.0, 3.0, 0.5, 2.534566217),
        # 0.372398313 + 16 (2 0.375501202 + 2 0.627795317)
        (4.0, 2.0, 2.0, 32.477886948),
        (4.0, 3.0, 0.5, 23.418818568),
    ],
)
def test_eq_10_weighs_them(tau: float, beta: float, gamma: float, expected: float) -> None:
    loss = dist.L_tr(F, t, LABELS, tau, beta, gamma)
    assert float(loss) == pytest.approx(expected, rel=2e-6)


def test_one_image_and_equal_logits_stay_finite() -> None:
    """A batch's last part may be one image: no class varies in it."""
    for student, teacher, labels in (
        (F[:1], t[:1], LABELS[:1]),
        (torch.zeros(3, 4), t, LABELS),
    ):
        leaf = student.clone().requires_grad_()
        loss = dist.L_tr(leaf, teacher, labels, 4.0, 2.0, 2.0)
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_the_defaults_are_the_paper_s() -> None:
    assert make_recipe("dist").to_dict() == {"beta": 2.0, "gamma": 2.0, "temperature": 4.0}


def test_bad_values_are_named_at_once() -> None:
    with pytest.raises(UsageError, match=r"temperature is inf, .* beta is -1.0, .* gamma is -2.0"):
        make_recipe("dist", temperature=float("inf"), beta=-1.0, gamma=-2.0)
