"""The first task: what is right, what differs, what is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from compress.errors import DataError
from compress.schema import decode
from compress.tasks.classification import LOGITS, Classification, Paired
from compress.tasks.classification.accuracy import Right, StoredRight, decode_bits, encode_bits
from compress.tasks.task import tensors_of

TASK = Classification(("a", "b", "c"))


def test_targets_are_smoothed_and_the_loss_is_the_cross_entropy() -> None:
    labels = torch.tensor([2, 0])
    assert TASK.targets(labels) is labels
    smoothed = TASK.targets(labels, 0.3)
    torch.testing.assert_close(smoothed[0], torch.tensor([0.1, 0.1, 0.8]))
    logits = torch.randn(2, 3)
    for targets in (labels, smoothed):
        expected = functional.cross_entropy(logits, targets)
        assert torch.equal(TASK.loss({LOGITS: logits}, targets), expected)


def test_a_tally_and_the_evidence_count_alike() -> None:
    logits = torch.tensor([[1.0, 2.0, 0], [3.0, 0, 0], [0, 1.0, 0], [5.0, 4.0, 0]])
    labels = torch.tensor([1, 0, 0, 1])
    tally = TASK.tally(torch.device("cpu"))
    for part in (slice(3), slice(3, 4)):
        tally.add({LOGITS: logits[part]}, labels[part])
    assert tally.value() == TASK.evidence({LOGITS: logits}, labels).value == 0.5
    # Two processes of the same images have as large a share right.
    assert tally.value(lambda values: 2 * values) == 0.5
    with pytest.raises(DataError, match="at least one image"):
        TASK.tally(torch.device("cpu")).value()


def test_what_is_not_finite_is_not_right() -> None:
    logits = torch.tensor([[float("nan"), 0, 0], [1.0, 0, 0]])
    assert TASK.evidence({LOGITS: logits}, torch.tensor([0, 0])) == Right((False, True))


def test_evidence_is_stored_and_read_back() -> None:
    right = Right((True, False, True))
    read = decode(StoredRight, right.to_dict(), "it is none").evidence
    assert read == right
    assert read.details == "2 of 3"
    assert read.take(torch.tensor([2, 1])) == Right((True, False))
    assert read.differing(Right((True, True, False))) == 2
    assert read.against(Right((True, True, True))) == Paired(n=3, lost=1, won=0, right=2)
    counts = read.against(right).to_dict()
    assert TASK.pair_of(counts) == Paired(3, 0, 0, 2)


def test_a_tie_is_within_the_tolerance() -> None:
    expected = {LOGITS: np.array([[1.0, 1.0 - 1e-6, 0], [2.0, 0, 0], [1.0, 0, 0]], np.float32)}
    found = {LOGITS: np.array([[1.0 - 2e-6, 1.0, 0], [2.0, 0, 0], [0, 1.0, 0]], np.float32)}
    agreement = TASK.agreement(expected, found)
    assert agreement.other.tolist() == [True, False, True]
    assert agreement.beyond(1e-4).tolist() == [False, False, True]
    assert agreement.share == pytest.approx(1 / 3)
    assert agreement.largest == 1.0
    only = {LOGITS: expected[LOGITS][2:]}, {LOGITS: found[LOGITS][2:]}
    assert TASK.parting(*only) == (
        "the model gives class 0 (logit 1), the file class 1 (logit 1); the largest difference is "
        "in logit 0, 1 and 0"
    )


def test_answers_and_labels_change_places_by_name() -> None:
    outputs = {LOGITS: torch.tensor([[1.0, 2.0, 3.0]])}
    assert TASK.permuted(outputs, (2, 0, 1))[LOGITS].tolist() == [[3.0, 1.0, 2.0]]
    # Of another number of classes it is not the order that is to be told.
    assert TASK.permuted(outputs, (1, 0)) is outputs
    assert TASK.renumbered(torch.tensor([0, 1, 2]), (2, 0, 1)).tolist() == [2, 0, 1]
    assert TASK.with_classes(("x", "y", "z")).classes == ("x", "y", "z")


def test_arrays_of_few_bits_become_float32() -> None:
    given = np.array([[1.5, -2.0]], np.float16)[:, ::-1]
    found = tensors_of({LOGITS: given})[LOGITS]
    assert found.dtype == torch.float32
    assert found.tolist() == [[-2.0, 1.5]]


@pytest.mark.parametrize("n", [1, 7, 8, 9, 2000])
def test_bits_are_kept(n: int) -> None:
    right = tuple(place % 3 == 0 for place in range(n))
    lines = encode_bits(right)
    assert max(map(len, lines)) <= 76
    assert decode_bits(lines, n) == right
    with pytest.raises(ValueError, match="do not hold"):
        decode_bits(lines, n + 8)
