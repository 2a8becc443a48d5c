from __future__ import annotations

import numpy as np
import pytest

from compress.errors import UsageError
from compress.exporting.fidelity import Proof, compare, judgement, relative_error

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


def test_a_proof_needs_images_and_as_many_labels() -> None:
    with pytest.raises(UsageError, match="no images to compare"):
        Proof(IMAGES[:0])
    with pytest.raises(UsageError, match="4 images and 3 labels"):
        Proof(IMAGES, LABELS[:3])
