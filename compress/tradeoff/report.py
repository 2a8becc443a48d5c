"""A choice as a document: the candidates that were timed, and why the others were not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from compress.report.document import (
    Axis,
    Cell,
    Chart,
    Column,
    Document,
    Key,
    Kind,
    Marked,
    Part,
    Picture,
    Point,
    Rule,
    Series,
    Table,
    Text,
    Tone,
    names,
    numbers,
)
from compress.report.values import interval_of, threads, time_cells
from compress.tradeoff.choice import (
    CHOSEN,
    NO_HEADROOM,
    NOT_FASTER,
    RULED_OUT,
    TOO_LARGE,
    WORSE,
    Choice,
    TradeoffRow,
)
from compress.tradeoff.costs import costs_of
from compress.tradeoff.search import Measurement
from compress.units import format_bytes, format_count, format_percent, format_time

COLUMNS = (
    *names(""),
    Column("candidate", Kind.NAME, 14),
    *numbers("params", "MACs", "latency", "(95%)", "size", "error"),
    Column("", least=8),
)
# What stands behind an expected error, by what it rests on.
MARKS = {"table": "", "between": "", "own": " o", "extrapolated": " *"}
WHY_NOT_TIMED = {
    RULED_OUT: "a smaller one is too slow",
    TOO_LARGE: "the file is too large",
    WORSE: "predicted worse than the chosen one",
    NOT_FASTER: "in a reduced precision that is not faster here",
}


def document_of(choice: Choice) -> Document:
    """The table of what was timed, what has to be known to read it, and its picture."""
    timed = [(row, row.measured) for row in choice.rows if row.measured is not None]
    rows = [_row(row, found) for row, found in timed]
    if choice.teacher is not None and choice.teacher_spec is not None:
        costs = costs_of(choice.teacher_spec)
        figures = _figures(choice.teacher, costs.params, costs.macs)
        rows.insert(0, ("", choice.teacher_spec.name, *figures, "", "teacher"))
    chosen = choice.row
    latency = chosen.measured.latency if chosen.measured else None
    key = (
        Key("chosen", chosen.name)
        if latency is None
        else Key("chosen", f"{chosen.name}, {format_time(latency.value)}", interval_of(latency))
    )
    texts = (Text(text) for text in _texts(choice, [row for row, _ in timed]) if text)
    warnings = (Text(text, "warning") for text in choice.warnings)
    parts: list[Part] = [Table(COLUMNS, tuple(rows)), *texts, *warnings, picture_of(choice)]
    return Document(tuple(parts), keys=(key,))


def _row(row: TradeoffRow, found: Measurement) -> tuple[Cell, ...]:
    costs = row.candidate.costs
    error = format_percent(row.prediction.error, 1) + MARKS[row.prediction.basis]
    cells = (row.name, *_figures(found, costs.params, costs.macs), error, row.status)
    if row.status == CHOSEN:
        return tuple(Marked(cell, Tone.STRONG) for cell in (">", *cells))
    return ("", *cells)


def _figures(found: Measurement, params: int, macs: int) -> tuple[str, ...]:
    size = format_bytes(found.size_bytes)
    return format_count(params), format_count(macs), *time_cells(found.latency), size


def _texts(choice: Choice, timed: list[TradeoffRow]) -> Iterator[str]:
    yield _asked(choice)
    counts = Counter(row.status for row in choice.rows if row.measured is None)
    parts = [f"{count} ({WHY_NOT_TIMED[status]})" for status, count in counts.items()]
    yield f"Not timed: {', '.join(parts)}." if parts else ""
    for why in dict.fromkeys(row.why for row in timed if row.status == NO_HEADROOM):
        yield f"{NO_HEADROOM}: {why}."
    for trial in choice.precisions:
        if trial.ratio is not None or not trial.runs:
            yield f"{trial.precision}: {trial.why}."
    lost = {
        row.candidate.precision: row.prediction.loss
        for row in choice.rows
        if row.candidate.precision != "fp32"
    }
    if lost:
        told = ", ".join(f"{100 * loss:.2f} in {name}" for name, loss in lost.items())
        yield f"The errors include the expected cost of reduced precision, in points: {told}."
    bases = {row.prediction.basis for row in timed}
    if "extrapolated" in bases:
        yield "* extrapolated beyond the networks that the prediction is fitted to."
    if "own" in bases:
        yield "o measured in a run of yours on this data."
    yield (
        f"{choice.scale} In leave-one-out tests the prediction is off by "
        f"{100 * choice.leave_one_out:.2f} points."
    )


def _asked(choice: Choice) -> str:
    limits, budget = choice.limits, choice.budget
    parts = []
    if limits.latency_s is not None:
        of = "median" if budget.percentile == 50 else f"p{budget.percentile:g}"
        free = ""
        if limits.latency_s == budget.usable_s and budget.headroom:
            free = (
                f" ({format_percent(budget.headroom, 0)} of {format_time(budget.latency_s or 0.0)} "
                "left free)"
            )
        parts.append(f"{of} of a call at most {format_time(limits.latency_s)}{free}")
    if limits.size_bytes is not None:
        parts.append(f"file at most {format_bytes(limits.size_bytes)}")
    target = budget.target
    return (
        f"Asked: {' and '.join(parts) or 'no limit'}; {target.runtime}, {target.precision}, batch "
        f"{budget.batch}, {threads(target.threads)}."
    )


def picture_of(choice: Choice) -> Picture:
    """What a candidate is expected to get wrong against what it takes; the limit as a line."""
    timed = [(row, row.measured) for row in choice.rows if row.measured is not None]
    series = tuple(
        Series(
            name,
            tuple(
                Point(found.latency.scaled(1e3), 100 * row.prediction.error)
                for row, found in timed
                if (row.status == CHOSEN) is bool(hue)
            ),
            hue=hue,
        )
        for hue, name in enumerate(("timed candidates", f"chosen: {choice.row.name}"))
    )
    rules = []
    if choice.limits.latency_s is not None:
        rules.append(Rule("the budget, less what is left free", x=choice.limits.latency_s * 1e3))
    if choice.teacher is not None:
        rules.append(Rule("the teacher's latency", x=choice.teacher.latency.value * 1e3, hue=2))
    chart = Chart(
        Axis("latency of a call (ms), with its 95% interval", logarithmic=True),
        Axis("expected error (%)"),
        series,
        tuple(rules),
    )
    return Picture("tradeoff", (chart,), f"{_asked(choice)} {choice.scale}")
