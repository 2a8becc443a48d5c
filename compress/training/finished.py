"""What result.json of a finished run says, as far as it is read again.

A run that is finished is not run again: what it found is taken from the file and shown, so the file
has to have it. There may be more in it, for other programs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from compress.schema.rules import (
    Batch,
    Beside,
    Count,
    Epochs,
    Name,
    NotNegative,
    Number,
    Percentile,
    Positive,
    Seed,
    Share,
    Threads,
    known,
)

Open = Beside(("*",))


@dataclass(frozen=True)
class _Interval:
    value: Positive
    low: Positive
    high: Positive


@dataclass(frozen=True)
class _Latency:
    median: Positive
    low: Positive
    high: Positive


@dataclass(frozen=True)
class Accuracies:
    """The shares that are right of the validation and of the test images."""

    validation: Share
    test: Share


@dataclass(frozen=True)
class _Images:
    validation: Count
    test: Count


@dataclass(frozen=True)
class _Data:
    n: Annotated[_Images, Open]


@dataclass(frozen=True)
class _Parity:
    images: Count
    top1_agreement: Share
    max_abs_diff: NotNegative


@dataclass(frozen=True)
class _Model:
    name: Name
    params: Number
    macs: Number
    size_bytes: Number
    accuracy: Annotated[Accuracies, Open]
    latency_ms: Annotated[_Latency, Open]
    file: Name


@dataclass(frozen=True)
class _Chance:
    standing: Annotated[str, known("better", "undecided", "no better")]
    text: str


@dataclass(frozen=True)
class _Student(_Model):
    parity: Annotated[_Parity, Open]
    chance: _Chance


@dataclass(frozen=True)
class _Drop:
    """What the student loses against the teacher; negative where it gains."""

    value: float
    low: float
    high: float
    n: Number
    lost: Count
    won: Count
    right: Count
    allowed: float | None
    outcome: Annotated[str, known("pass", "fail", "inconclusive", "not measured")] | None
    reason: str | None


@dataclass(frozen=True)
class _Target:
    runtime: Name
    device: Name
    precision: Name
    threads: Threads


@dataclass(frozen=True)
class _Budget:
    latency_ms: Positive | None
    size_mb: Positive | None
    speedup: Positive | None
    batch: Batch
    percentile: Percentile
    outcome: Annotated[str, known("kept", "missed", "undecided", "not judged")]
    measured_ms: Annotated[_Interval, Open] | None

    def __post_init__(self) -> None:
        if self.latency_ms is not None and self.measured_ms is None:
            raise ValueError("latency_ms is there and measured_ms is not")


@dataclass(frozen=True)
class _Why:
    why: str


@dataclass(frozen=True)
class _FineTuning:
    epochs: Count
    lr: Positive
    before: Annotated[_Why, Open]
    after: Annotated[_Why, Open] | None
    taken: bool | None = None

    def __post_init__(self) -> None:
        if self.after is not None and self.taken is None:
            raise ValueError("after is there and taken is missing")


@dataclass(frozen=True)
class _Precision:
    why: str
    outcome: Annotated[str, known("kept", "missed", "undecided", "not judged")]
    fine_tuning: Annotated[_FineTuning, Open] | None = None


@dataclass(frozen=True)
class Distilled:
    """Of ``compress distill``."""

    budget: Annotated[_Budget, Open]
    target: Annotated[_Target, Open]
    teacher: Annotated[_Model, Open]
    student: Annotated[_Student, Open]
    accuracy_drop: Annotated[_Drop, Open]
    precisions: dict[str, Annotated[_Precision, Open]]
    speedup: Annotated[_Interval, Open]
    recipe: Name
    epochs: Epochs
    seed: Seed
    data: Annotated[_Data, Open]
    warnings: tuple[str, ...]

    def __post_init__(self) -> None:
        precision = self.target.precision
        if precision != "fp32" and precision not in self.precisions:
            raise ValueError(f"target.precision is {precision}, which precisions has not")


@dataclass(frozen=True)
class _Named:
    name: Name


@dataclass(frozen=True)
class _Reached:
    validation: Share | None
    test: Share


@dataclass(frozen=True)
class Trained:
    """Of ``compress train``."""

    model: Annotated[_Named, Open]
    accuracy: Annotated[_Reached, Open]
    n: Annotated[_Images, Open]
    epochs: Epochs
    seed: Seed


@dataclass(frozen=True)
class _Scores:
    validation: Share
    test: Share
    epoch: Epochs


@dataclass(frozen=True)
class Reproduced:
    """Of one training of ``compress reproduce``; without ``last`` it diverged."""

    student: Name
    method: Name
    seed: Seed
    params: Number
    last: Annotated[_Scores, Open] | None = None
    best: Annotated[_Scores, Open] | None = None
