"""compress select: which student keeps a budget on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from compress.api.select import select
from compress.commands.options import (
    PATH,
    budget_options,
    choice_options,
    data_options,
    json_option,
    parse_shape,
    section,
    tell,
    text_option,
    twin,
)

if TYPE_CHECKING:
    from compress.tradeoff import Choice, TradeoffRow

MARKS = {"table": "", "between": "", "own": " o", "extrapolated": " *"}


@twin("select", select, first=("budget_ms", "speedup", "data", "precision", "save"))
@budget_options()
@section(
    "Teacher",
    click.option("--teacher", type=PATH, help="The teacher's checkpoint, which --speedup needs."),
    click.option(
        "--teacher-arch", help="Architecture of the teacher, if its weights do not show it."
    ),
)
@data_options(validation=False, training=False)
@section(
    "Data",
    click.option("--num-classes", type=int, help="Number of classes, instead of --data."),
    text_option(
        "--input-shape",
        read=parse_shape,
        metavar="C,H,W",
        help="Shape of an image, instead of --data.",
    ),
)
@section(
    "Training that follows",
    click.option("--recipe", help="Method that will train the student."),
    click.option(
        "--epochs",
        type=click.IntRange(min=1),
        help="Epochs of that training. Your earlier runs of half to twice as many count.",
    ),
    click.option(
        "--schedule",
        help="Learning rate schedule of that training: steps, one-cycle or cosine.",
    ),
)
@click.option(
    "--tradeoff",
    type=PATH,
    help="Choose from a table that --save wrote instead of timing candidates.",
)
@click.option("--save", type=PATH, help="Write the table to this .csv or .json file.")
@click.option("--all", "measure_all", is_flag=True, help="Time every candidate.")
@choice_options()
@json_option()
def command(as_json: bool, **options: Any) -> None:
    """Choose the best student that keeps a budget, by timing candidates on this machine.

    Candidates are WRNs of depth 10 to 40 and width 1 to 10, and CIFAR ResNets, in the given
    --precision. Without --data and --teacher they have the shape of the embedded data set.

    With --data, the results of your earlier runs on it improve the predicted errors. `compress
    runs` lists and removes them, and --ignore-runs chooses without them.
    """
    import json

    choice = select(**options, say=tell)
    if as_json:
        click.echo(json.dumps(choice.to_dict(), indent=2, allow_nan=False))
    else:
        print_choice(choice)


def print_choice(choice: Choice, *, stderr: bool = False) -> None:
    """Prints the table and what it says, for people, on stdout or beside a run's progress."""
    import shutil

    from rich.console import Console
    from rich.table import Table

    from compress.tradeoff.choice import NO_HEADROOM
    from compress.units import format_bytes, format_count, format_percent, format_time

    console = Console(highlight=False, stderr=stderr)
    if not console.is_terminal:
        # Piped output is wrapped by nobody.
        console.width = max(100, shutil.get_terminal_size().columns)
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for header in ("", "candidate", "params", "MACs", "latency (95%)", "size", "error", ""):
        numeric = header in ("params", "MACs", "size", "error")
        table.add_column(
            header,
            justify="right" if numeric else "left",
            no_wrap=header not in ("", "latency (95%)"),
        )
    if choice.teacher is not None and choice.teacher_spec is not None:
        from compress.tradeoff.costs import costs_of

        costs, taken = costs_of(choice.teacher_spec), choice.teacher
        table.add_row(
            "",
            choice.teacher_spec.name,
            format_count(costs.params),
            format_count(costs.macs),
            _latency(taken.latency),
            format_bytes(taken.size_bytes),
            "",
            "the teacher",
        )
    shown = [row for row in choice.rows if row.measured is not None]
    for row in shown:
        found = row.measured
        table.add_row(
            ">" if row is choice.row else "",
            row.name,
            format_count(row.candidate.costs.params),
            format_count(row.candidate.costs.macs),
            _latency(found.latency) if found else "",
            format_bytes(found.size_bytes) if found else "",
            format_percent(row.prediction.error, 1) + MARKS[row.prediction.basis],
            row.status,
            style="bold" if row is choice.row else "",
        )
    console.print(table)
    lines = [_asked(choice), _not_timed(choice.rows)]
    without = {row.why for row in shown if row.status == NO_HEADROOM}
    lines += [f"{NO_HEADROOM}: {why}." for why in without]
    tried = [trial for trial in choice.precisions if trial.ratio is not None or not trial.runs]
    lines += [f"{trial.precision}: {trial.why}." for trial in tried]
    lost = {
        row.candidate.precision: row.prediction.loss
        for row in choice.rows
        if row.candidate.precision != "fp32"
    }
    if lost:
        told = ", ".join(f"{100 * loss:.2f} in {name}" for name, loss in lost.items())
        lines.append(f"Errors have in them what fewer bits are expected to cost, points: {told}.")
    if any(row.prediction.basis == "extrapolated" for row in shown):
        lines.append("* beyond the rows of the table that the prediction is fitted to.")
    if any(row.prediction.basis == "own" for row in shown):
        lines.append("o trained by you on this data.")
    lines.append(
        f"{choice.scale} Leaving each of the table's networks out and predicting it misses by "
        f"{100 * choice.leave_one_out:.2f} points."
    )
    lines += choice.warnings
    for line in filter(None, lines):
        console.print(line, markup=False, soft_wrap=not console.is_terminal)
    latency = choice.row.measured.latency if choice.row.measured else None
    end = f", {format_time(latency.value)}" if latency else ""
    console.print(f"Chosen: {choice.row.name}{end}.", style="bold")


def _latency(latency: Any) -> str:
    """'1.21 (1.19-1.24) ms', all in the unit of the value."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if latency.value >= scale or unit == "us":
            value, low, high = (end / scale for end in (latency.value, latency.low, latency.high))
            digits = 0 if value >= 100 else 1 if value >= 10 else 2
            return f"{value:.{digits}f} ({low:.{digits}f}-{high:.{digits}f}) {unit}"
    return ""


def _asked(choice: Choice) -> str:
    from compress.units import format_bytes, format_time

    limits, budget = choice.limits, choice.budget
    parts = []
    if limits.latency_s is not None:
        of = "median" if budget.percentile == 50 else f"p{budget.percentile:g}"
        free = ""
        if limits.latency_s == budget.usable_s and budget.headroom:
            free = f" ({budget.headroom:.0%} of {format_time(budget.latency_s or 0.0)} left free)"
        parts.append(f"{of} of a call at most {format_time(limits.latency_s)}{free}")
    if limits.size_bytes is not None:
        parts.append(f"file at most {format_bytes(limits.size_bytes)}")
    asked = " and ".join(parts) or "no limit"
    return (
        f"Asked: {asked}; {budget.target.runtime}, {budget.target.precision}, batch "
        f"{budget.batch}, {budget.target.threads} thread{'s' * (budget.target.threads > 1)}."
    )


def _not_timed(rows: tuple[TradeoffRow, ...]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        if row.measured is None:
            counts[row.status] = counts.get(row.status, 0) + 1
    words = {
        "ruled out": "a smaller one is too slow",
        "too large": "the file is too large",
        "worse": "predicted worse than the chosen one",
        "not faster": "in fewer bits that are not faster here",
    }
    parts = [f"{count} ({words[status]})" for status, count in counts.items()]
    return f"Not timed: {', '.join(parts)}." if parts else ""
