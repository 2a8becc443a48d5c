"""How far a file of reduced precision is from the float file, and whether that is too far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from compress.errors import UsageError
from compress.exporting.parity import Array, Predict
from compress.results import Fidelity
from compress.tasks.registry import unstated
from compress.tasks.task import Arrays, Pair, Targets, Task, joined, tensors_of

# A file of reduced precision beside the float file -> what is wrong with it, or "" for nothing.
Judge = Callable[[Pair], str]

# Images that are run at once.
BATCH = 64

# Where there are no targets to judge by: answers further off than this are of a broken conversion.
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
    """What a file of reduced precision is compared with the float file on.

    Attributes:
        images: as the network takes them.
        targets: of the images; None where there are none.
        judge: whether what is lost is too much; without one nothing is refused for its score. It
            needs targets.
        task: whose answers are compared.
    """

    images: Images
    targets: Targets | None = None
    judge: Judge | None = None
    task: Task = field(default_factory=unstated)

    def __post_init__(self) -> None:
        if len(self.images) == 0:
            raise UsageError("There are no images to compare the file with the float file.")
        if self.targets is not None and len(self.targets) != len(self.images):
            raise UsageError(
                f"There are {len(self.images):,} images and {len(self.targets):,} targets."
            )


def answers_to(predict: Predict, images: Images) -> Arrays:
    """Answers to images [n, c, h, w], a batch after the other."""
    starts = range(0, len(images), BATCH)
    return joined([predict(images[start : start + BATCH]) for start in starts])


def compare(expected: Arrays, found: Arrays, proof: Proof, *, method: str = "run") -> Fidelity:
    """Measures answers to the proof's images against the float file's.

    Those that are not finite agree with nothing; their differences are left out of the largest.
    """
    agreement, pair = proof.task.agreement(expected, found), _pair(expected, found, proof)
    return Fidelity(
        images=len(proof.images),
        top1_agreement=agreement.share,
        max_abs_diff=agreement.largest,
        relative_error=agreement.relative_error,
        task=proof.task.name,
        score=None if pair is None else pair.score,
        float_score=None if pair is None else pair.score + pair.drop,
        pair=None if pair is None else pair.to_dict(),
        method=method,
    )


def judgement(expected: Arrays, found: Arrays, proof: Proof) -> str:
    """What is wrong with answers, all finite, against the float file's; "" where nothing is."""
    pair = _pair(expected, found, proof)
    if pair is not None:
        return "" if proof.judge is None else proof.judge(pair)
    error = proof.task.agreement(expected, found).relative_error
    if error > LARGEST_RELATIVE_ERROR:
        return f"The {proof.task.number}s are off by {error:.0%} of their own spread."
    return ""


def _pair(expected: Arrays, found: Arrays, proof: Proof) -> Pair | None:
    """The file beside the float file; None without targets."""
    if proof.targets is None:
        return None
    task, targets = proof.task, proof.targets
    ours, theirs = (task.evidence(tensors_of(each), targets) for each in (found, expected))
    return ours.against(theirs)
