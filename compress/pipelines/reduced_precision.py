"""A float32 file in reduced precision: converted, and judged on as many images as that takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from compress.data.dataset import Dataset, Split
from compress.data.normalization import Normalized, normalize
from compress.errors import Inconclusive
from compress.exporting.fidelity import Proof
from compress.exporting.parity import Array
from compress.gate.precision import PrecisionRule, more_images
from compress.gate.verdict import Comparison, Outcome
from compress.results import Artifact, Fidelity
from compress.spec import Normalization
from compress.tasks.task import Pair, Task
from compress.training.evaluation import stratified_sample


class Convert(Protocol):
    """Writes a file of reduced precision and measures it on a proof."""

    def __call__(self, *, proof: Proof) -> tuple[Artifact, Fidelity]:
        """The file, and how far it is from float32."""
        ...


@dataclass(frozen=True)
class ProofImages:
    """What a file is judged on.

    Attributes:
        first: some images, or all.
        whole: all of them, where ``first`` is a part; else None.
    """

    first: Proof
    whole: Proof | None = None

    @classmethod
    def of(
        cls, first: Split, whole: Split, task: Task, normalization: Normalization
    ) -> ProofImages:
        """Images of a split with targets, and all of them where those do not decide."""
        all_ = _proof(whole, task, normalization)
        if len(first) == len(whole):
            return cls(all_)
        return cls(_proof(first, task, normalization), all_)


@dataclass(frozen=True)
class LossLimit:
    """What a reduced precision may cost.

    Attributes:
        rule: of the gate.
        data: whose validation images it is judged on.
    """

    rule: PrecisionRule
    data: Dataset

    def more_images(self, loss: Comparison) -> str:
        """The option that gives images enough to decide, a sentence; "" where it is decided."""
        data = self.data
        return more_images(loss, data.name, len(data.validation), len(data.train))


def reduce_precision(
    convert: Convert,
    images: ProofImages,
    limit: LossLimit,
    precision: str,
    *,
    refuse: str = "",
    say: Callable[[str], None],
) -> tuple[Artifact, Fidelity]:
    """Converts a file, on all images where the first ones do not decide what it loses.

    Args:
        convert: makes the file, given the proof.
        images: what it is judged on.
        limit: what it may lose.
        precision: of the new file.
        refuse: the name of a file that may not lose too much, else none is written; empty where
            it is written whatever it loses.
        say: is told where more images are taken.

    Raises:
        PrecisionLost: it loses too much, or a value overflows.
        Inconclusive: whether a file that may not lose too much does is not decided.
    """

    def judge(pair: Pair) -> str:
        loss = limit.rule.compare(pair)
        if loss.outcome is Outcome.INCONCLUSIVE:
            raise Inconclusive(
                f"Whether {refuse} loses too much in {precision} is not decided: {loss.reason} "
                f"(--max-precision-loss).{limit.more_images(loss)}"
            )
        return limit.rule.judge(pair)

    def attempt(proof: Proof) -> tuple[Artifact, Fidelity]:
        return convert(proof=replace(proof, judge=judge) if refuse else proof)

    if images.whole is None:
        return attempt(images.first)
    try:
        found = attempt(images.first)
        if limit.rule.of(found[1]).outcome is not Outcome.INCONCLUSIVE:
            return found
    except Inconclusive:
        pass
    say(
        f"{len(images.first.images):,} images do not decide what {precision} loses; going on "
        f"to all {len(images.whole.images):,}."
    )
    return attempt(images.whole)


def calibration_images(data: Dataset, normalization: Normalization, count: int) -> Array:
    """Training images, a stratified sample of at most ``count``, as the network takes them."""
    chosen = stratified_sample(data.train, data.task, count)
    found: Array = normalize(data.train.images[chosen], normalization).numpy()
    return found


def _proof(split: Split, task: Task, normalization: Normalization) -> Proof:
    return Proof(Normalized(split.images, normalization), split.targets, task=task)
