"""How far a file in fewer bits is from the float file, and whether that is too far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compress.errors import UsageError
from compress.exporting.parity import Array
from compress.results import Fidelity

Predict = Callable[[Array], Array]

# What two files have right of the same images [n], the one in fewer bits first -> what is wrong
# with the first, or "" where nothing is.
Judge = Callable[[Sequence[bool], Sequence[bool]], str]

# Images that are run at once.
BATCH = 64

# Where there are no labels to judge by: logits further off than this are of a broken conversion.
# fp16 is off by 0.001 to 0.003 on the networks that there are, bf16 by 0.01 to 0.02.
LARGEST_RELATIVE_ERROR = 0.1


class Images(Protocol):
    """Float32 [n, c, h, w], as the network takes them: an array, or what makes its parts."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> Array:
        """Some of them."""
        ...


@dataclass(frozen=True)
class Proof:
    """What a file in fewer bits is compared with the float file on.

    Attributes:
        images: as the network takes them.
        labels: int64 [n]; None where there are none.
        judge: whether what is lost is too much; without one nothing is refused for its accuracy.
            It needs labels.
    """

    images: Images
    labels: NDArray[np.int64] | None = None
    judge: Judge | None = None

    def __post_init__(self) -> None:
        if len(self.images) == 0:
            raise UsageError("There are no images to compare the file with the float file.")
        if self.labels is not None and len(self.labels) != len(self.images):
            raise UsageError(
                f"There are {len(self.images):,} images and {len(self.labels):,} labels."
            )


def logits_of(predict: Predict, images: Images) -> Array:
    """Logits [n, classes] of images [n, c, h, w], a batch after the other."""
    parts = [predict(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return np.concatenate(parts)


def compare(expected: Array, found: Array, proof: Proof, *, method: str = "run") -> Fidelity:
    """Measures logits against the float file's, both [n, classes] of the proof's images.

    Logits that are not finite agree with nothing; their differences are left out of the largest.
    """
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(found).all(axis=1)
    same = finite & (expected.argmax(axis=1) == found.argmax(axis=1))
    difference = found[finite] - expected[finite]
    fidelity = Fidelity(
        images=len(expected),
        top1_agreement=float(same.mean()),
        max_abs_diff=float(np.abs(difference).max(initial=0.0)),
        relative_error=relative_error(expected, found) if finite.all() else 1.0,
        method=method,
    )
    if proof.labels is None:
        return fidelity
    ours, theirs = answers(found, proof.labels), answers(expected, proof.labels)
    return replace(
        fidelity,
        right=int(ours.sum()),
        float_right=int(theirs.sum()),
        lost=int((theirs & ~ours).sum()),
        won=int((ours & ~theirs).sum()),
    )


def judgement(expected: Array, found: Array, proof: Proof) -> str:
    """What is wrong with logits, all finite, against the float file's; "" where nothing is."""
    if proof.labels is not None and proof.judge is not None:
        ours, theirs = answers(found, proof.labels), answers(expected, proof.labels)
        return proof.judge(ours.tolist(), theirs.tolist())
    error = relative_error(expected, found)
    if proof.labels is None and error > LARGEST_RELATIVE_ERROR:
        return f"The logits are off by {error:.0%} of their own spread."
    return ""


def answers(logits: Array | NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which images [n] the logits [n, classes] have right; those that are not finite have none."""
    right: NDArray[np.bool_] = (logits.argmax(axis=1) == labels) & np.isfinite(logits).all(axis=1)
    return right


def relative_error(
    expected: Array | NDArray[np.float64], found: Array | NDArray[np.float64]
) -> float:
    """Root mean square of the difference by that of ``expected``, each row [n, m] less its mean."""
    difference = found.astype(np.float64) - expected
    centred = [each - each.mean(axis=1, keepdims=True) for each in (difference, expected)]
    error, spread = (float(np.sqrt((each**2).mean())) for each in centred)
    return error / spread if spread > 0 else float(error > 0)
