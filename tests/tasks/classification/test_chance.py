"""Only what is no better than chance is refused, and what would decide is told."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from compress.tasks.classification.chance import binomial_tail, compare_with_chance
from compress.tasks.task import Standing


def answers(*cells: tuple[int, int, int]) -> tuple[Tensor, Tensor, int]:
    """Answers, labels and classes from (answer, label, count)."""
    answered = torch.cat([torch.full((count,), answer) for answer, _, count in cells])
    labels = torch.cat([torch.full((count,), label) for _, label, count in cells])
    classes = 1 + max(max(answer, label) for answer, label, _ in cells)
    return answered, labels, classes


@pytest.mark.parametrize(
    ("cells", "standing"),
    [
        # All right: on 16 balanced images of two classes, on 8, on one.
        ([(0, 0, 8), (1, 1, 8)], Standing.BETTER),
        ([(0, 0, 4), (1, 1, 4)], Standing.UNDECIDED),
        ([(1, 1, 1)], Standing.UNDECIDED),
        # 99% of one class: finds half of the others; always answers the commonest; and one that
        # was trained on balanced classes, right less often than the commonest class is there.
        ([(0, 0, 9890), (1, 0, 10), (0, 1, 50), (1, 1, 50)], Standing.BETTER),
        ([(0, 0, 9900), (0, 1, 100)], Standing.NO_BETTER),
        ([(0, 0, 765), (1, 0, 135), (0, 1, 15), (1, 1, 85)], Standing.BETTER),
        # Answers that do not depend on the image: 50.4% of 10,000, and 52% of 25.
        ([(0, 0, 2520), (1, 0, 2480), (0, 1, 2480), (1, 1, 2520)], Standing.NO_BETTER),
        ([(0, 0, 7), (1, 0, 6), (0, 1, 6), (1, 1, 6)], Standing.UNDECIDED),
        ([(0, 0, 6), (1, 0, 7), (0, 1, 6), (1, 1, 6)], Standing.NO_BETTER),
        # 60%: of 20 images, of 2,000.
        ([(0, 0, 6), (1, 0, 4), (0, 1, 4), (1, 1, 6)], Standing.UNDECIDED),
        ([(0, 0, 600), (1, 0, 400), (0, 1, 400), (1, 1, 600)], Standing.BETTER),
        # Classes renumbered.
        ([(0, 1, 50), (1, 2, 50), (2, 0, 50)], Standing.NO_BETTER),
    ],
)
def test_only_what_is_no_better_than_chance_is_refused(
    cells: list[tuple[int, int, int]], standing: Standing
) -> None:
    found = compare_with_chance(*answers(*cells))
    assert found.standing is standing, found.text


def test_how_many_images_would_decide() -> None:
    # 9.55 x 0.5 x 0.5 / 0.1^2
    text = compare_with_chance(*answers((0, 0, 6), (1, 0, 4), (0, 1, 4), (1, 1, 6))).text
    assert "20 images are too few to decide; about 239 of its kind would be enough" in text
    assert "images of more classes would be enough" in compare_with_chance(*answers((1, 1, 2))).text


def test_binomial_tail_against_sums_by_hand() -> None:
    assert binomial_tail(0, 5, 0.5) == 1.0
    assert binomial_tail(5, 5, 0.5) == pytest.approx(1 / 32)
    assert binomial_tail(4, 5, 0.5) == pytest.approx(6 / 32)
    assert binomial_tail(1, 3, 0.1) == pytest.approx(1 - 0.9**3)
    assert binomial_tail(2000, 10_000, 0.1) == pytest.approx(0.0, abs=1e-100)
    assert math.isclose(binomial_tail(1000, 10_000, 0.1), 0.5, abs_tol=0.02)
