"""What a run came to, as a document: teacher and student side by side, and whether it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from compress.gate.verdict import Outcome
from compress.limits import Judgement
from compress.pipelines.distill.names import FLOAT_ONNX, STUDENT, TRADEOFF
from compress.pipelines.distill.result import (
    AccuracyDrop,
    BudgetResult,
    DistillResult,
    FineTuningResult,
    Latency,
)
from compress.report.document import (
    Column,
    Document,
    Facts,
    Key,
    Kind,
    Part,
    Table,
    Text,
    Tone,
    numbers,
)
from compress.report.values import interval_of, points, threads, times, times_interval
from compress.results import Estimate
from compress.tasks.task import Standing
from compress.training.runfolder import RESULT
from compress.units import format_bytes, format_count, format_percent, format_time

TONES: dict[str, Tone] = {
    Judgement.KEPT: Tone.GOOD,
    Judgement.MISSED: Tone.BAD,
    Judgement.UNDECIDED: Tone.UNDECIDED,
    Outcome.PASS: Tone.GOOD,
    Outcome.FAIL: Tone.BAD,
    Outcome.INCONCLUSIVE: Tone.UNDECIDED,
}


def document_of(result: DistillResult, files: Iterable[Path] = ()) -> Document:
    """Teacher and student, what the figures are of, and the files.

    Args:
        result: what the run came to.
        files: of its folder; those that a reader should know are listed.
    """
    parts: list[Part] = [_table(result), *map(Text, _texts(result))]
    parts += [Text(text, "warning") for text in result.warnings]
    there = {path.name: path for path in files}
    listed = tuple(
        (str(there[name]), about) for name, about in _files(result).items() if name in there
    )
    if listed:
        parts.append(Facts(listed))
    return Document(tuple(parts), keys=tuple(_keys(result)))


def _keys(result: DistillResult) -> Iterator[Key]:
    teacher, student, drop = result.teacher, result.student, result.accuracy_drop
    speedup = _speedup(result)
    yield Key("speed-up", f"{times(speedup.value)} times", times_interval(speedup))
    yield Key("size", f"{times(teacher.size_bytes / student.size_bytes)} times smaller")
    yield Key("accuracy", points(-drop.value), _interval(drop))
    if drop.outcome is not None:
        answer = f"{drop.outcome.upper()}, {drop.reason}"
        yield Key("against the teacher", answer, tone=TONES.get(drop.outcome, Tone.STRONG))
    asked = _budget_text(result.budget)
    if asked:
        outcome = result.budget.outcome
        yield Key("budget", outcome, about=asked, tone=TONES.get(outcome, Tone.STRONG))


def _table(result: DistillResult) -> Table:
    teacher, student, drop = result.teacher, result.student, result.accuracy_drop

    def accuracy(of: str) -> tuple[str, str, str]:
        there, here = (getattr(model.accuracy, of) for model in (teacher, student))
        return format_percent(there), format_percent(here), points(here - there)

    def latency(show: Callable[[Estimate], str]) -> tuple[str, str]:
        return show(_seconds(teacher.latency_ms)), show(_seconds(student.latency_ms))

    def ratio(of: str, show: Callable[[float], str]) -> tuple[str, str, str]:
        there, here = (getattr(model, of) for model in (teacher, student))
        return show(there), show(here), f"{times(there / here)} times smaller"

    speedup = _speedup(result)
    interval = "95% interval"
    rows = (
        ("test accuracy", *accuracy("test")),
        (interval, "", "", _interval(drop)),
        ("validation accuracy", *accuracy("validation")),
        (
            "latency",
            *latency(lambda found: format_time(found.value)),
            f"{times(speedup.value)} times faster",
        ),
        (interval, *latency(interval_of), times_interval(speedup)),
        ("file", *ratio("size_bytes", format_bytes)),
        ("parameters", *ratio("params", format_count)),
        ("MACs an image", *ratio("macs", format_count)),
    )
    columns = (
        Column("", Kind.NAME, 19),
        *numbers(f"teacher {teacher.name}", f"student {student.name}"),
        Column(""),
    )
    return Table(columns, rows)


def _texts(result: DistillResult) -> Iterator[str]:
    student, target, n = result.student, result.target, result.data.n
    parity, precision, floats = student.parity, target.precision, student.file
    if precision != "fp32":
        precision, floats = f"{precision} (the teacher fp32)", FLOAT_ONNX
    yield (
        f"Latency is the median of a call with batch {result.budget.batch}, {target.runtime}, "
        f"{target.device}, {precision}, {threads(target.threads)}, timed in turns in a fresh "
        "process."
    )
    yield (
        f"Accuracy is on {n.test:,} test and {n.validation:,} validation images (taken from the "
        "training data, so the teacher may have seen them). It is of the files, except the "
        f"teacher's on validation images, which is of its checkpoint; {result.recipe}, last of "
        f"{result.epochs} epochs, seed {result.seed}."
    )
    yield (
        f"Verified: {floats} and the trained model agree on "
        f"{format_percent(parity.top1_agreement)} of {parity.images:,} images, logits "
        f"within {parity.max_abs_diff:.1e}."
    )
    for name, found in result.precisions.items():
        yield f"In {name}, against float32 on validation images: {found.why}."
    for found in result.precisions.values():
        if found.fine_tuning is not None:
            yield _about_fine_tuning(found.fine_tuning)


def _about_fine_tuning(found: FineTuningResult) -> str:
    """What quantisation-aware distillation did."""
    about = f"Fine-tuned in int8 for {found.epochs} epochs from a learning rate of {found.lr:g}"
    if found.after is None:
        return f"{about}: it diverged, so the student from before ships."
    taken = "used" if found.taken else "not used, because it is no better"
    return f"{about}, {taken}: before, {found.before.why}; after, {found.after.why}."


def _budget_text(budget: BudgetResult) -> str:
    """What was asked for and measured; empty where there was no limit."""
    parts = []
    if budget.latency_ms is not None and budget.measured_ms is not None:
        which = "median" if budget.percentile == 50 else f"p{budget.percentile:g}"
        found, high = budget.measured_ms.value / 1e3, budget.measured_ms.high / 1e3
        parts.append(
            f"{which} at most {format_time(budget.latency_ms / 1e3)} (it is {format_time(found)}, "
            f"up to {format_time(high)})"
        )
    if budget.size_mb is not None:
        parts.append(f"at most {format_bytes(budget.size_mb * 1e6)}")
    if budget.speedup is not None:
        parts.append(f"{budget.speedup:g} times faster than the teacher")
    return ", ".join(parts)


def _files(result: DistillResult) -> dict[str, str]:
    return {
        result.student.file: _what_student_is(result),
        FLOAT_ONNX: "what it was made of",
        STUDENT: "its weights",
        result.teacher.file: "the teacher, in the same runtime",
        TRADEOFF: "every candidate and why it was taken or not",
        RESULT: "all of this as JSON",
    }


def _what_student_is(result: DistillResult) -> str:
    """What is said beside the student's file."""
    standing = result.student.chance.standing
    if standing is Standing.NO_BETTER:
        return "the student, which is no better than chance"
    if result.accuracy_drop.outcome is Outcome.FAIL:
        return "the student, which loses more than is allowed"
    if standing is Standing.UNDECIDED:
        return "the student, perhaps no better than chance"
    return "the student, to ship"


def _speedup(result: DistillResult) -> Estimate:
    return Estimate(result.speedup.value, result.speedup.low, result.speedup.high)


def _interval(drop: AccuracyDrop) -> str:
    """'-5.74 to -3.24', in points; negative is a loss."""
    return f"{-100 * drop.high + 0.0:+.2f} to {-100 * drop.low + 0.0:+.2f}"


def _seconds(found: Latency) -> Estimate:
    return Estimate(found.median, found.low, found.high).scaled(1e-3)
