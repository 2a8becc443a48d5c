"""Whether a file of reduced precision is as accurate as the float32 file that it was made of."""

from __future__ import annotations

from dataclasses import dataclass

from compress import defaults
from compress.errors import UsageError
from compress.gate.accuracy import AccuracyRule, compare_accuracy
from compress.gate.verdict import Comparison, Outcome
from compress.results import Fidelity
from compress.tasks.deciding import rounded
from compress.tasks.registry import TASKS
from compress.tasks.task import Pair

# Points of accuracy, as a fraction of 1.
MAX_LOSS = defaults.MAX_PRECISION_LOSS / 100


def more_images(found: Comparison, name: str, validation: int, training: int) -> str:
    """Where the images come from that would decide; "" where none are asked for.

    Args:
        found: what validation images say.
        name: of the data set.
        validation: how many it has held out.
        training: how many it has left to train on.

    Returns:
        a sentence with a space before it.
    """
    needed = found.evidence["images_needed"]
    if needed is None:
        return ""
    # One has to be left to train on.
    most = validation + training - 1
    if needed <= most:
        return (
            f" Hold out more images with --validation {min(rounded(needed), most)}; {name} has "
            f"{most + 1:,} for training and validation, of which {validation:,} are held out now."
        )
    return (
        f" {name} has at most {most:,} images to hold out (--validation): give a larger set "
        "with --data, or allow a larger loss."
    )


def pair_of(found: Fidelity) -> Pair:
    """A file of reduced precision beside the float file.

    Raises:
        UsageError: they were not scored.
    """
    if found.pair is None:
        raise UsageError("What a file loses in reduced precision is judged on images with targets.")
    return TASKS[found.task](1).pair_of(found.pair)


@dataclass(frozen=True)
class PrecisionRule:
    """The gate's paired rule for the accuracy that reduced precision costs.

    Attributes:
        allowed: by how much the score may drop; of accuracy, as a fraction of 1.

    Raises:
        UsageError: it is no such fraction.
    """

    allowed: float = MAX_LOSS

    def __post_init__(self) -> None:
        if not 0 < self.allowed < 1:
            raise UsageError(
                f"--max-precision-loss is {100 * self.allowed:g}; it takes points above 0 and "
                "below 100, such as 0.5."
            )

    def compare(self, pair: Pair) -> Comparison:
        """The rule's answer with its figures."""
        return compare_accuracy(pair, AccuracyRule(self.allowed), "float32")

    def of(self, found: Fidelity) -> Comparison:
        """The same of a file that was measured on images with targets."""
        return self.compare(pair_of(found))

    def better(self, one: Fidelity, other: Fidelity) -> bool:
        """Whether the first of two files is the one to ship: it passes, or may lose less."""

        def rank(found: Fidelity) -> tuple[bool, float]:
            pair = pair_of(found)
            return self.compare(pair).outcome is not Outcome.PASS, pair.interval().high

        return rank(one) < rank(other)

    def judge(self, pair: Pair) -> str:
        """What is wrong with a file beside the float32 file; "" for nothing."""
        found = self.compare(pair)
        if found.outcome is Outcome.PASS:
            return ""
        undecided = "It is undecided: " if found.outcome is Outcome.INCONCLUSIVE else ""
        return f"{undecided}{found.reason} (--max-precision-loss)."
