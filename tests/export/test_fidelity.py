from __future__ import annotations

import numpy as np
import pytest

from compress.errors import UsageError
from compress.export.fidelity import Proof, compare, judgement, paired_rule, relative_error

IMAGES = np.zeros((4, 1, 2, 2), np.float32)
LABELS = np.array([0, 1, 1, 0])
EXPECTED = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]], np.float32)


def test_counts_and_differences() -> None:
    """Of labels 0, 1, 1, 0 the float file has the third wrong; the other one only that right."""
    found = np.array([[2.0, 0.5], [0.0, 2.0], [0.0, 2.0], [0.0, 2.0]], np.float32)
    fidelity = compare(EXPECTED, found, Proof(IMAGES, LABELS))
    assert fidelity.images == 4
    assert fidelity.top1_agreement == 0.5
    assert fidelity.max_abs_diff == 2.0
    assert (fidelity.float_right, fidelity.right) == (3, 3)
    assert (fidelity.lost, fidelity.won) == (1, 1)
    assert fidelity.accuracy == fidelity.float_accuracy == 0.75
    # Less their means the rows of the float file are +-1, and the differences -+0.25, 0, -+2, -+2.
    assert fidelity.relative_error == pytest.approx(np.sqrt((0.0625 + 0 + 4 + 4) / 4))


def test_without_labels_there_is_no_accuracy() -> None:
    fidelity = compare(EXPECTED, EXPECTED, Proof(IMAGES))
    assert fidelity.top1_agreement == 1
    assert fidelity.relative_error == 0
    assert fidelity.right is fidelity.lost is fidelity.accuracy is None


def test_logits_that_are_not_finite_agree_with_nothing() -> None:
    found = EXPECTED.copy()
    found[1] = [0.0, np.inf]
    found[0] = np.nan
    fidelity = compare(EXPECTED, found, Proof(IMAGES, LABELS))
    assert fidelity.top1_agreement == 0.5
    assert fidelity.max_abs_diff == 0
    assert fidelity.relative_error == 1
    assert fidelity.right == 1
    assert fidelity.lost == 2


def test_a_shift_of_all_logits_of_an_image_is_no_error() -> None:
    assert relative_error(EXPECTED, EXPECTED + np.arange(4)[:, None]) == pytest.approx(0)
    assert relative_error(EXPECTED, 1.1 * EXPECTED) == pytest.approx(0.1)
    assert relative_error(np.zeros((2, 2)), np.zeros((2, 2))) == 0


def test_who_judges() -> None:
    """The judge where there are labels; without any, logits that are far off."""
    far = EXPECTED[:, ::-1]
    assert judgement(EXPECTED, far, Proof(IMAGES, LABELS)) == ""
    asked: list[object] = []

    def judge(ours: object, theirs: object) -> str:
        asked.append((ours, theirs))
        return "no"

    assert judgement(EXPECTED, far, Proof(IMAGES, LABELS, judge)) == "no"
    assert asked == [([False, False, True, False], [True, True, False, True])]
    assert judgement(EXPECTED, far, Proof(IMAGES)) == "The logits are off by 200% of their own " + (
        "spread."
    )
    assert judgement(EXPECTED, 1.05 * EXPECTED, Proof(IMAGES)) == ""


@pytest.mark.parametrize(
    ("n", "lost", "won", "refused"),
    [
        (10_000, 0, 0, False),
        (10_000, 60, 55, False),
        (10_000, 100, 95, False),
        (10_000, 60, 0, True),
        (10_000, 250, 230, True),  # 0.2 points, and not known well enough
        (500, 2, 2, True),
        (500, 0, 0, True),
        (1_000, 0, 0, False),
    ],
)
def test_a_loss_has_to_be_known_to_be_small(n: int, lost: int, won: int, refused: bool) -> None:
    theirs = [True] * lost + [False] * won + [True] * (n - lost - won)
    ours = [False] * lost + [True] * won + [True] * (n - lost - won)
    assert bool(paired_rule(0.005)(ours, theirs)) == refused


def test_the_rule_says_what_it_found() -> None:
    judge = paired_rule(0.005)
    assert judge([False] * 10 + [True] * 990, [True] * 1000) == (
        "It loses 1.00 points of accuracy on 1,000 images (10 lost, 0 won), and may lose up to "
        "1.67; 0.5 are allowed (--max-precision-loss)."
    )
    assert "More validation images may decide it." in judge([True] * 100, [True] * 100)


def test_how_often_the_rule_passes_what_loses_as_much_as_is_allowed() -> None:
    """2.5% is what a 95% interval grants; drawn 1,000 times from 2,000 images, 2% of them lost."""
    rng = np.random.default_rng(0)
    judge, n, passed = paired_rule(0.01), 2_000, 0
    for lost, won in rng.multinomial(n, [0.02, 0.01, 0.97], 1_000)[:, :2]:
        theirs = np.ones(n, bool)
        theirs[lost : lost + won] = False
        ours = np.ones(n, bool)
        ours[:lost] = False
        passed += not judge(ours.tolist(), theirs.tolist())
    assert passed / 1_000 < 0.04


@pytest.mark.parametrize("most", [0, -0.1, 1, float("nan")])
def test_a_limit_is_a_fraction(most: float) -> None:
    with pytest.raises(UsageError, match="--max-precision-loss is"):
        paired_rule(most)


def test_a_proof_needs_images_and_as_many_labels() -> None:
    with pytest.raises(UsageError, match="no images to compare"):
        Proof(IMAGES[:0])
    with pytest.raises(UsageError, match="4 images and 3 labels"):
        Proof(IMAGES, LABELS[:3])
