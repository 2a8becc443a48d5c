from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.errors import UsageError
from compress.exporting.fidelity import Proof, compare, judgement
from compress.tasks.classification import LOGITS, Paired
from compress.tasks.rows import relative_error
from compress.tasks.task import Pair

IMAGES = np.zeros((4, 1, 2, 2), np.float32)
LABELS = torch.tensor([0, 1, 1, 0])
EXPECTED = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]], np.float32)


def test_counts_and_differences() -> None:
    """Of labels 0, 1, 1, 0 the float file has the third wrong; the other one only that right."""
    found = np.array([[2.0, 0.5], [0.0, 2.0], [0.0, 2.0], [0.0, 2.0]], np.float32)
    fidelity = compare({LOGITS: EXPECTED}, {LOGITS: found}, Proof(IMAGES, LABELS))
    assert fidelity.images == 4
    assert fidelity.top1_agreement == 0.5
    assert fidelity.max_abs_diff == 2.0
    assert fidelity.pair == {"n": 4, "lost": 1, "won": 1, "right": 3}
    assert fidelity.score == fidelity.float_score == 0.75
    # Less their means the rows of the float file are +-1, and the differences -+0.25, 0, -+2, -+2.
    assert fidelity.relative_error == pytest.approx(np.sqrt((0.0625 + 0 + 4 + 4) / 4))


def test_without_labels_there_is_no_accuracy() -> None:
    fidelity = compare({LOGITS: EXPECTED}, {LOGITS: EXPECTED}, Proof(IMAGES))
    assert fidelity.top1_agreement == 1
    assert fidelity.relative_error == 0
    assert fidelity.pair is None
    assert fidelity.score is None
    assert fidelity.float_score is None


def test_logits_that_are_not_finite_agree_with_nothing() -> None:
    found = EXPECTED.copy()
    found[1] = [0.0, np.inf]
    found[0] = np.nan
    fidelity = compare({LOGITS: EXPECTED}, {LOGITS: found}, Proof(IMAGES, LABELS))
    assert fidelity.top1_agreement == 0.5
    assert fidelity.max_abs_diff == 0
    assert fidelity.relative_error == 1
    assert fidelity.pair == {"n": 4, "lost": 2, "won": 0, "right": 1}


def test_a_shift_of_all_logits_of_an_image_is_no_error() -> None:
    assert relative_error(EXPECTED, EXPECTED + np.arange(4)[:, None]) == pytest.approx(0)
    assert relative_error(EXPECTED, 1.1 * EXPECTED) == pytest.approx(0.1)
    assert relative_error(np.zeros((2, 2)), np.zeros((2, 2))) == 0


def test_who_judges() -> None:
    """The judge where there are labels; without any, logits that are far off."""
    far = EXPECTED[:, ::-1]
    assert judgement({LOGITS: EXPECTED}, {LOGITS: far}, Proof(IMAGES, LABELS)) == ""
    asked: list[Pair] = []

    def judge(pair: Pair) -> str:
        asked.append(pair)
        return "no"

    assert judgement({LOGITS: EXPECTED}, {LOGITS: far}, Proof(IMAGES, LABELS, judge)) == "no"
    assert asked == [Paired(n=4, lost=3, won=1, right=1)]
    assert judgement(
        {LOGITS: EXPECTED}, {LOGITS: far}, Proof(IMAGES)
    ) == "The logits are off by 200% of their own " + ("spread.")
    assert judgement({LOGITS: EXPECTED}, {LOGITS: 1.05 * EXPECTED}, Proof(IMAGES)) == ""


def test_a_proof_needs_images_and_as_many_labels() -> None:
    with pytest.raises(UsageError, match="no images to compare"):
        Proof(IMAGES[:0])
    with pytest.raises(UsageError, match="4 images and 3 targets"):
        Proof(IMAGES, LABELS[:3])
