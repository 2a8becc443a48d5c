"""What was chosen, and every candidate with the reason why it was or was not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from compress.limits import Judgement
from compress.results import Estimate
from compress.schema import decode, encode
from compress.schema.rules import Key, Name
from compress.spec import Budget, ModelSpec
from compress.tradeoff.candidates import Candidate
from compress.tradeoff.predictor import Prediction
from compress.tradeoff.search import Limits, Measurement, ruled_out
from compress.tradeoff.trials import PrecisionTrial
from compress.units import format_bytes, format_time

CHOSEN = "chosen"
FITS = "fits"
TOO_SLOW = "too slow"
UNDECIDED = "undecided"
NO_HEADROOM = "no headroom"
NOT_FASTER = "not faster"
TOO_LARGE = "too large"
RULED_OUT = "ruled out"
WORSE = "worse"


@dataclass(frozen=True)
class TradeoffRow:
    """One candidate.

    Attributes:
        candidate: the network, its precision and its costs by definition.
        prediction: its expected error.
        measured: None where it was not timed.
        status: "chosen"; "fits" (timed, predicted worse than the chosen one); "too slow";
            "no headroom" (keeps the budget, but leaves too little free); "undecided" (the budget
            lies in its interval, or is kept by undisturbed calls alone); "too large"; "ruled out"
            (not timed, a smaller one is too slow); "worse" (not timed, predicted worse than the
            chosen one); "not faster" (its reduced precision is no faster here).
        why: the same as a short sentence, with the figures.
    """

    candidate: Candidate
    prediction: Prediction
    measured: Measurement | None
    status: str
    why: str

    @property
    def name(self) -> str:
        """Of the architecture, and of the precision where that is not fp32."""
        return self.candidate.name

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: latency in milliseconds, error as a share."""
        found = self.measured
        latency = None if found is None else found.latency.to_dict(1e3, "median")
        return {
            "name": self.name,
            "precision": self.candidate.precision,
            "params": self.candidate.costs.params,
            "macs": self.candidate.costs.macs,
            "latency_ms": latency,
            "size_bytes": None if found is None else found.size_bytes,
            "predicted_error": self.prediction.error,
            "predicted_loss_of_precision": self.prediction.loss,
            "basis": self.prediction.basis,
            "status": self.status,
            "why": self.why,
            "cached": found.cached if found else False,
            "warnings": list(found.warnings) if found else [],
        }


@dataclass(frozen=True)
class RuntimeChoice:
    """The runtime that was taken.

    Attributes:
        runtime: its name.
        why: a sentence.
        ratios: each other runtime -> its time / the taken one's; empty where nothing was timed.
    """

    runtime: Name
    why: str
    ratios: Annotated[dict[str, Estimate], Key("time_of_others")] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found: dict[str, Any] = encode(self)
        return found

    @classmethod
    def from_dict(cls, values: Any) -> RuntimeChoice:
        """The inverse of ``to_dict``.

        Raises:
            InputError: these are no such values.
        """
        return decode(cls, values, "The run folder does not record the runtime")


@dataclass(frozen=True)
class Choice:
    """The outcome of ``TradeoffTable.select``.

    Attributes:
        spec: the network to train.
        budget: what was asked for.
        limits: what that comes to: seconds and bytes, the teacher taken into account.
        rows: every candidate, the best predicted first.
        machine: where the candidates were measured.
        teacher_spec, teacher: what the teacher takes, where it was measured.
        leave_one_out: mean absolute error of the predictions of Table 5's rows, each from the
            others; a share of images.
        scale: what the predicted errors are errors of, a sentence.
        seconds: that choosing took.
        warnings: a sentence each.
        precisions: in which candidates could be had, and what else was tried.
        runtime: how the fastest runtime was found, where that was asked for.
    """

    spec: ModelSpec
    budget: Budget
    limits: Limits
    rows: tuple[TradeoffRow, ...]
    leave_one_out: float
    scale: str
    seconds: float
    machine: dict[str, Any]
    teacher_spec: ModelSpec | None = None
    teacher: Measurement | None = None
    warnings: tuple[str, ...] = ()
    precisions: tuple[PrecisionTrial, ...] = ()
    runtime: RuntimeChoice | None = None

    @property
    def precision(self) -> str:
        """Of the file that is to ship."""
        return self.row.candidate.precision

    @property
    def row(self) -> TradeoffRow:
        """The chosen one's."""
        return next(row for row in self.rows if row.status == CHOSEN)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        limit_s = self.limits.latency_s
        teacher = None
        if self.teacher is not None and self.teacher_spec is not None:
            teacher = {
                "name": self.teacher_spec.name,
                "latency_ms": self.teacher.latency.to_dict(1e3, "median"),
                "size_bytes": self.teacher.size_bytes,
            }
        return {
            "student": self.spec.name,
            "spec": self.spec.to_dict(),
            "precision": self.precision,
            "precisions": encode(self.precisions),
            "budget": budget_to_dict(self.budget),
            "limits": {
                "latency_ms": None if limit_s is None else limit_s * 1e3,
                "size_bytes": self.limits.size_bytes,
            },
            "teacher": teacher,
            "machine": self.machine,
            "leave_one_out_error": self.leave_one_out,
            "scale": self.scale,
            "timed": sum(row.measured is not None for row in self.rows),
            "seconds": self.seconds,
            "candidates": [row.to_dict() for row in self.rows],
            "warnings": list(self.warnings),
            "runtime_choice": None if self.runtime is None else self.runtime.to_dict(),
        }


def budget_to_dict(budget: Budget) -> dict[str, Any]:
    """Plain values for JSON: milliseconds and megabytes, as the options have them."""
    return {
        "latency_ms": None if budget.latency_s is None else budget.latency_s * 1e3,
        "size_mb": None if budget.size_bytes is None else budget.size_bytes / 1e6,
        "speedup": budget.speedup,
        "batch": budget.batch,
        "percentile": budget.percentile,
        "headroom": budget.headroom,
        "runtime": budget.target.runtime,
        "precision": budget.target.precision,
        "threads": budget.target.threads,
    }


def make_rows(
    ranked: list[tuple[Candidate, Prediction]],
    chosen: Candidate | None,
    measured: dict[str, Measurement],
    limits: Limits,
    trials: Sequence[PrecisionTrial] = (),
) -> tuple[TradeoffRow, ...]:
    """Says of every candidate what became of it."""
    candidates = [candidate for candidate, _ in ranked]
    not_faster = {trial.precision: trial.why for trial in trials if not trial.eligible}
    place = candidates.index(chosen) if chosen else len(candidates)
    rows = []
    for index, (candidate, prediction) in enumerate(ranked):
        found = measured.get(candidate.name)
        if candidate is chosen:
            status, why = CHOSEN, "best prediction that fits"
        elif candidate.precision in not_faster:
            status, why = NOT_FASTER, not_faster[candidate.precision]
        elif found is not None:
            status, why = status_of(found, limits, better=index < place)
        elif limits.too_large(candidate):
            size = format_bytes(candidate.file_bytes)
            least = "" if candidate.precision == "fp32" else "at least "
            status, why = TOO_LARGE, f"not timed: its file would take {least}{size}"
        elif index > place:
            status, why = WORSE, "not timed: predicted worse than the chosen one"
        else:
            other = ruled_out(candidate, candidates, measured, limits)
            smaller = other.name if other else "a smaller one"
            status, why = RULED_OUT, f"not timed: {smaller} is too slow already"
        rows.append(TradeoffRow(candidate, prediction, found, status, why))
    return tuple(rows)


def about_headroom(limits: Limits) -> str:
    """What is to be said of what keeps the budget and not the headroom."""
    share = f"{100 * limits.headroom:.3g}%"
    return (
        f"keeps {format_time(limits.budget_s or 0)}, but not the "
        f"{format_time(limits.latency_s or 0)} that are left after the {share} headroom; "
        "--headroom 0 would accept it"
    )


def status_of(found: Measurement, limits: Limits, *, better: bool) -> tuple[str, str]:
    """Status and reason of a timed candidate that was not chosen."""
    if limits.lacks_headroom(found):
        return NO_HEADROOM, about_headroom(limits)
    latency, limit = found.latency, format_time(limits.latency_s or 0)
    judgement = limits.judge_latency(found)
    if judgement is Judgement.MISSED:
        return TOO_SLOW, f"at least {format_time(latency.low)}, {limit} allowed"
    if judgement is Judgement.UNDECIDED:
        most = max(latency.high, found.all_calls_s or 0.0)
        which = "up to" if most == latency.high else "with calls that others disturbed"
        return UNDECIDED, f"{which} {format_time(most)}, {limit} allowed"
    if not limits.kept_by(found):
        allowed = format_bytes(limits.size_bytes or 0)
        return TOO_LARGE, f"{format_bytes(found.size_bytes)}, {allowed} allowed"
    return FITS, "measured only" if better else "predicted worse than the chosen one"
