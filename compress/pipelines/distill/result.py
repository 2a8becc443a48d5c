"""What a run came to. ``DistillResult.to_dict`` is result.json, and ``from_dict`` reads it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from compress.errors import CompressError, InputError
from compress.gate.accuracy import AccuracyRule, compare_accuracy
from compress.gate.precision import PrecisionRule
from compress.gate.verdict import Outcome
from compress.limits import Judgement, judge, worst
from compress.profiling.fresh import FreshTiming
from compress.results import SCHEMA_VERSION, Accuracies, Estimate, Fidelity, Parity
from compress.schema import decode, encode
from compress.schema.rules import (
    Batch,
    Count,
    Epochs,
    FilePath,
    Fraction,
    Name,
    NotNegative,
    Number,
    Percentile,
    Positive,
    Rest,
    Seed,
    Sha256,
    Share,
    known,
)
from compress.spec import Budget, Target
from compress.tasks.task import Pair, Standing, Task
from compress.tradeoff import RuntimeChoice
from compress.units import format_time

# The outcome of a budget without limits, or with one that this machine does not decide.
NOT_JUDGED = "not judged"
OutcomeOfLimit = Annotated[str, known(*Judgement, NOT_JUDGED)]


@dataclass(frozen=True)
class Measured:
    """A positive value with the ends of its 95% interval."""

    value: Positive
    low: Positive
    high: Positive

    @classmethod
    def of(cls, estimate: Estimate, scale: float = 1.0) -> Measured:
        """The same estimate, times ``scale`` (1e3 for milliseconds)."""
        return cls(estimate.value * scale, estimate.low * scale, estimate.high * scale)


@dataclass(frozen=True)
class Latency:
    """The median of a call in milliseconds with the ends of its 95% interval."""

    median: Positive
    low: Positive
    high: Positive

    @classmethod
    def of(cls, estimate: Estimate) -> Latency:
        """The same estimate, which is in seconds."""
        return cls(estimate.value * 1e3, estimate.low * 1e3, estimate.high * 1e3)


@dataclass(frozen=True)
class BudgetResult:
    """What was asked of the student, and what became of it.

    Attributes:
        latency_ms, size_mb, speedup: the limits; None where there is none.
        batch, percentile, headroom: as ``compress.spec.Budget`` has them.
        measured_ms: the latency at the percentile, timed in a fresh process.
        outcome: "kept", "missed", "undecided" (see ``compress.limits``) or "not judged".
    """

    latency_ms: Positive | None
    size_mb: Positive | None
    speedup: Positive | None
    batch: Batch
    percentile: Percentile
    headroom: Fraction
    measured_ms: Measured | None
    outcome: OutcomeOfLimit

    def __post_init__(self) -> None:
        if self.latency_ms is not None and self.measured_ms is None:
            raise ValueError("latency_ms is there and measured_ms is not")

    @classmethod
    def of(
        cls, budget: Budget, size_bytes: int, timing: FreshTiming, *, elsewhere: bool
    ) -> BudgetResult:
        """Judges a budget by what was measured.

        Args:
            budget: what was asked for.
            size_bytes: of the student's file.
            timing: of both files.
            elsewhere: whether times are those of another machine, which this one cannot judge.
        """
        model, latency_s, size = timing.model, budget.latency_s, budget.size_bytes
        return cls(
            latency_ms=None if latency_s is None else latency_s * 1e3,
            size_mb=None if size is None else size / 1e6,
            speedup=budget.speedup,
            batch=budget.batch,
            percentile=budget.percentile,
            headroom=budget.headroom,
            measured_ms=Measured.of(model.latency, 1e3),
            outcome=_outcome(budget, size_bytes, None if elsewhere else timing),
        )


@dataclass(frozen=True)
class NetworkResult:
    """What a network costs and how good it is.

    Attributes:
        name: of the architecture.
        params, macs: weights, and multiply-accumulates for an image.
        size_bytes: of its file.
        accuracy: of the file, as fractions of 1; the teacher's on validation images is its
            checkpoint's.
        latency_ms: timed in turns with the other one's.
        file: its name in the run folder.
        sha256: of the file.
    """

    name: Name
    params: Number
    macs: Number
    size_bytes: Number
    accuracy: Accuracies
    latency_ms: Latency
    file: Name
    sha256: Sha256


@dataclass(frozen=True)
class ChanceResult:
    """Whether the student is better than one that does not look at the images."""

    standing: Standing
    text: str


@dataclass(frozen=True)
class StudentResult(NetworkResult):
    """The same of the student.

    Attributes:
        parity: of the float32 file to the trained network.
        chance: on the test images.
        precision: of the file.
    """

    parity: Parity
    chance: ChanceResult
    precision: Name


@dataclass(frozen=True)
class FurtherTeacher:
    """A teacher that the student learnt from beside the one that it is compared with.

    Attributes:
        name: of its architecture.
        sha256: of its checkpoint.
        validation: its accuracy on the validation images, a fraction of 1.
    """

    name: Name
    sha256: Sha256
    validation: Share


@dataclass(frozen=True)
class AccuracyDrop:
    """What the student loses against the teacher on the test images; negative where it gains.

    Attributes:
        value, low, high: fractions of 1, with the 95% interval.
        allowed: at most so much, where that was asked; else None.
        outcome, reason: the gate's answer; None where nothing was asked.
        counts: what the interval follows from (``compress.tasks.task.Pair.to_dict``).
    """

    value: float
    low: float
    high: float
    allowed: float | None
    outcome: Outcome | None
    reason: str | None
    counts: Annotated[dict[str, int | float], Rest()]

    @classmethod
    def of(cls, pair: Pair, allowed: float | None) -> AccuracyDrop:
        """The drop between two models on the same images, judged where a limit is given."""
        found, answer = pair.interval(), None
        if allowed is not None:
            answer = compare_accuracy(pair, AccuracyRule(allowed), "the teacher")
        return cls(
            value=found.value,
            low=found.low,
            high=found.high,
            allowed=allowed,
            outcome=None if answer is None else answer.outcome,
            reason=None if answer is None else answer.reason,
            counts=pair.to_dict(),
        )


@dataclass(frozen=True)
class PrecisionResult:
    """What the student is in a reduced precision, against float32 on validation images.

    Attributes:
        accuracy, top1_agreement, fidelity: None where there is no such file.
        loss: the gate's answer as plain values; None likewise.
        outcome: whether it loses no more than is allowed.
        why: the reason.
        fine_tuning: how it was fine-tuned; None where it was not.
    """

    accuracy: Share | None
    top1_agreement: Share | None
    fidelity: Fidelity | None
    loss: dict[str, Any] | None
    outcome: OutcomeOfLimit
    why: str
    fine_tuning: FineTuningResult | None = None

    @classmethod
    def of(cls, fidelity: Fidelity, rule: PrecisionRule) -> PrecisionResult:
        """Judges a file that was measured on labelled images."""
        loss = rule.of(fidelity)
        return cls(
            accuracy=fidelity.score,
            top1_agreement=fidelity.top1_agreement,
            fidelity=fidelity,
            loss=loss.to_dict(),
            outcome=loss.outcome.judgement or NOT_JUDGED,
            why=loss.reason,
        )

    @classmethod
    def absent(cls, why: str) -> PrecisionResult:
        """A precision in which there is no file."""
        return cls(None, None, None, None, NOT_JUDGED, why)


@dataclass(frozen=True)
class FineTuningResult:
    """What quantisation-aware distillation did.

    Attributes:
        epochs, lr: how long it was, and from which learning rate.
        before, after: the int8 file without and with it; ``after`` is None where it diverged.
        taken: whether the fine-tuned file ships.
    """

    epochs: Count
    lr: Positive
    before: PrecisionResult
    after: PrecisionResult | None
    taken: bool


@dataclass(frozen=True)
class ImageCounts:
    """How many images each split has."""

    train: Count
    validation: Count
    test: Count


@dataclass(frozen=True)
class DataResult:
    """The data set of a run."""

    name: str
    sha256: str
    n: ImageCounts


@dataclass(frozen=True)
class DistillResult:
    """What a run came to: teacher and student side by side.

    Attributes:
        budget: what was asked for, and whether it is kept.
        target: what runs the student.
        runtime_choice: why it is that runtime, where it was to be chosen.
        teacher, student: what they cost and how good they are.
        more_teachers: that the student learnt from, too.
        accuracy_drop: on the test images.
        precisions: the student in each reduced precision that was measured.
        speedup: time(teacher) / time(student).
        load_ms, first_ms: loading the student's file and its first call.
        memory_bytes: what that takes; None where the system does not tell.
        recipe, recipe_options, epochs, seed, data: how it was trained, and on what.
        machine: where it was timed.
        warnings: a sentence each.
        folder: of the run, which result.json lies in and does not name.
    """

    budget: BudgetResult
    target: Target
    runtime_choice: RuntimeChoice | None
    teacher: NetworkResult
    more_teachers: tuple[FurtherTeacher, ...]
    student: StudentResult
    accuracy_drop: AccuracyDrop
    precisions: dict[str, PrecisionResult]
    speedup: Measured
    load_ms: NotNegative
    first_ms: NotNegative
    memory_bytes: int | None
    recipe: Name
    recipe_options: dict[str, Any]
    epochs: Epochs
    seed: Seed
    data: DataResult
    machine: dict[str, Any]
    warnings: tuple[str, ...]
    folder: FilePath = "."

    def __post_init__(self) -> None:
        precision = self.target.precision
        if precision != "fp32" and precision not in self.precisions:
            raise ValueError(f"target.precision is {precision}, which precisions has not")

    @property
    def file(self) -> Path:
        """The student that ships."""
        return Path(self.folder, self.student.file)

    @property
    def shipped(self) -> PrecisionResult | None:
        """What the precision of the student's file costs; None where that is float32."""
        return self.precisions.get(self.target.precision)

    def judged(self, task: Task, max_accuracy_drop: float | None) -> DistillResult:
        """The same, its accuracy judged by another limit.

        Raises:
            InputError: its counts are not those of the task.
        """
        try:
            drop = AccuracyDrop.of(task.pair_of(self.accuracy_drop.counts), max_accuracy_drop)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise InputError(f"accuracy_drop of the result has impossible counts: {error}") from (
                error
            )
        return replace(self, accuracy_drop=drop)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {"schema_version": SCHEMA_VERSION, **encode(self)}
        del values["folder"]
        return values

    @classmethod
    def from_dict(
        cls,
        values: Mapping[str, Any],
        where: str = "This is not what a run came to",
        *,
        error: type[CompressError] = InputError,
        mend: str = "",
    ) -> DistillResult:
        """The inverse of ``to_dict``.

        Raises:
            CompressError: as ``error`` says; these are no such values.
        """
        return decode(cls, values, where, error=error, mend=mend, beside=("schema_version",))


def warnings_of(budget: Budget, timing: FreshTiming) -> list[str]:
    """What is to be known of the last timing, a sentence each."""
    warnings = []
    model, ratio = timing.model, timing.speedup
    limit_s, least = budget.latency_s, budget.speedup
    if limit_s is not None and model.judge(limit_s) is Judgement.UNDECIDED:
        low, high = (format_time(end) for end in (model.latency.low, model.latency.high))
        why = f"its interval, {low} to {high}, holds {format_time(limit_s)}"
        if model.latency.high <= limit_s:
            median = format_time(model.all_calls_s or 0)
            why = f"with the calls that others disturbed its median is {median}"
        warnings.append(f"Whether the student keeps the time is not decided: {why}.")
    if ratio and least is not None and judge(ratio, least, at_least=True) is Judgement.UNDECIDED:
        warnings.append(
            f"Whether the student is {least:g} times faster is not decided: the interval is "
            f"{ratio.low:.2f} to {ratio.high:.2f}."
        )
    for role, each in (("student", timing.model), ("teacher", timing.against)):
        told = () if each is None else each.warnings
        warnings += [f"Timing the {role}: {text}" for text in told]
    return warnings


def _outcome(budget: Budget, size_bytes: int, timing: FreshTiming | None) -> str:
    """What became of the budget: that of the worst of its limits."""
    judged = []
    if budget.latency_s is not None:
        model = timing.model if timing else None
        judged.append(model.judge(budget.latency_s) if model else None)
    if budget.speedup is not None:
        ratio = timing.speedup if timing else None
        judged.append(judge(ratio, budget.speedup, at_least=True) if ratio else None)
    if budget.size_bytes is not None:
        kept = size_bytes <= budget.size_bytes
        judged.append(Judgement.KEPT if kept else Judgement.MISSED)
    found = worst(each for each in judged if each is not None)
    return NOT_JUDGED if found is Judgement.KEPT and (None in judged or not judged) else found.value
