"""What one step of the recipes without a second network does to the student.

The losses are plain SGD's: the student has to move by the learning rate against the gradient of
the recipe's whole loss, written down here with its literal weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from compress.models.network import LOGITS
from compress.models.registry import build
from compress.recipes import dist, dkd, kd
from compress.recipes.registry import RECIPES, make_recipe
from compress.recipes.standardisation import Z
from compress.recipes.supervised import L_S
from tests.recipes.test_methods import SPEC, a_batch, setting

RATE = 0.01

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

CASES: list[tuple[str, dict[str, Any], Loss]] = [
    ("supervised", {}, lambda F, t, y: L_S(F, y)),
    ("kd", {}, lambda F, t, y: 0.5 * L_S(F, y) + 25 * kd.L_KD(F, t, 5.0)),
    (
        "kd",
        {"temperature": 4.0, "weight": 0.9},
        lambda F, t, y: 0.1 * L_S(F, y) + 14.4 * kd.L_KD(F, t, 4.0),
    ),
    (
        "kd",
        {"temperature": 2.0, "standardise": True},
        lambda F, t, y: 0.5 * L_S(F, y) + 4 * kd.L_KD(Z(F), Z(t), 2.0),
    ),
    (
        "dkd",
        {},
        lambda F, t, y: L_S(F, y) + 16 * (dkd.TCKD(F, t, y, 4.0) + 8 * dkd.NCKD(F, t, y, 4.0)),
    ),
    (
        "dkd",
        {"temperature": 2.0, "alpha": 3.0, "beta": 0.5, "standardise": True},
        lambda F, t, y: (
            L_S(F, y) + 4 * (3 * dkd.TCKD(Z(F), Z(t), y, 2.0) + 0.5 * dkd.NCKD(Z(F), Z(t), y, 2.0))
        ),
    ),
    ("dist", {}, lambda F, t, y: L_S(F, y) + 16 * relations(F, t, 4.0, 2.0, 2.0)),
    (
        "dist",
        {"temperature": 1.0, "beta": 3.0, "gamma": 0.5},
        lambda F, t, y: L_S(F, y) + relations(F, t, 1.0, 3.0, 0.5),
    ),
]


def relations(F: Tensor, t: Tensor, tau: float, beta: float, gamma: float) -> Tensor:
    Y_s, Y_t = torch.softmax(F / tau, dim=1), torch.softmax(t / tau, dim=1)
    return beta * dist.L_inter(Y_s, Y_t) + gamma * dist.L_intra(Y_s, Y_t)


@pytest.mark.parametrize(("name", "options", "loss"), CASES)
def test_the_student_descends_the_whole_loss(
    name: str, options: dict[str, Any], loss: Loss
) -> None:
    torch.manual_seed(0)
    student, batch = build(SPEC), a_batch()
    (t,) = batch.of_teachers(LOGITS)
    then, t_then = copy.deepcopy(student), t.clone()
    method = make_recipe(name, **options).start(
        setting(student, lambda module: torch.optim.SGD(module.parameters(), lr=RATE))
    )

    told = method.step(batch, "train")["loss"]

    expected = loss(then(batch.images), t, batch.labels)
    assert torch.allclose(told, expected, rtol=1e-5)
    gradients = torch.autograd.grad(expected, list(then.parameters()))
    for old, gradient, new in zip(then.parameters(), gradients, student.parameters(), strict=True):
        assert torch.allclose(old - RATE * gradient, new, rtol=1e-4, atol=1e-6)
    assert torch.equal(t, t_then)


def test_every_recipe_without_a_second_network_is_here() -> None:
    alone = {
        name for name in RECIPES if set(make_recipe(name).start(setting()).modules) == {"student"}
    }
    # That of `at` is of feature maps and has its step beside its other tests.
    assert alone == {name for name, _, _ in CASES} | {"at"}
