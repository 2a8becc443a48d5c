"""compress select: which student keeps a budget on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compress.commands.budget import budget_options, read_budget
from compress.commands.inputs import input_file
from compress.commands.options import (
    data_options,
    ignore_runs_option,
    load_data,
    parse_shape,
    refuse_without_data,
)

if TYPE_CHECKING:
    from compress.data.dataset import Dataset
    from compress.spec import Budget, ModelSpec
    from compress.tradeoff import Choice, TradeoffRow

MARKS = {"table": "", "between": "", "own": " o", "extrapolated": " *"}


@click.command("select")
@budget_options()
@click.option("--teacher", **input_file(), help="The teacher's checkpoint, which --speedup needs.")
@click.option("--teacher-arch", help="Architecture of the teacher, if its weights do not show it.")
@data_options(default=None, validation=False, training=False)
@click.option("--num-classes", type=int, help="Number of classes, instead of --data.")
@click.option("--input-shape", metavar="C,H,W", help="Shape of an image, instead of --data.")
@click.option("--recipe", help="Method that will train the student. [default: dist]")
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Epochs of that training. Your earlier runs of half to twice as many count.",
)
@click.option(
    "--schedule",
    default="steps",
    show_default=True,
    help="Learning rate schedule of that training: steps, one-cycle or cosine.",
)
@click.option(
    "--tradeoff",
    **input_file(),
    help="Choose from a table that --save wrote instead of timing candidates.",
)
@click.option(
    "--save", type=click.Path(path_type=Path), help="Write the table to this .csv or .json file."
)
@click.option("--all", "everything", is_flag=True, help="Time every candidate.")
@click.option(
    "--no-cache", is_flag=True, help="Time candidates again even if their latency is cached."
)
@ignore_runs_option()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    teacher: Path | None,
    teacher_arch: str | None,
    num_classes: int | None,
    input_shape: str | None,
    recipe: str | None,
    epochs: int,
    schedule: str,
    tradeoff: Path | None,
    save: Path | None,
    everything: bool,
    no_cache: bool,
    ignore_runs: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Choose the best student that keeps a budget, by timing candidates on this machine.

    Candidates are WRNs of depth 10 to 40 and width 1 to 10, and CIFAR ResNets, in the given
    --precision. Without --data and --teacher they have the shape of the embedded data set.

    With --data, the results of your earlier runs on it improve the predicted errors. `compress
    runs` lists and removes them, and --ignore-runs chooses without them.
    """
    import json

    from compress.errors import UsageError
    from compress.files import check_writable
    from compress.recipes.registry import DEFAULT_RECIPE, make_recipe
    from compress.tradeoff import (
        Plan,
        choose_runtime,
        load_table,
        table_for,
        try_precisions,
        with_runtime,
        write_csv,
    )
    from compress.training.options import TrainingOptions

    if tradeoff is not None and (everything or save is not None):
        raise UsageError(
            "--tradeoff times nothing, so it excludes --all and --save. Leave these out."
        )
    budget = read_budget(options, tradeoff)
    if save is not None:
        check_writable(save)
    if not everything:
        budget.require_limit()
    TrainingOptions(epochs=epochs, schedule=schedule)  # refuses a schedule that there is not
    method = make_recipe(recipe or DEFAULT_RECIPE).name
    if options["data"] is None:
        refuse_without_data(data_dir=options["data_dir"], image_size=options["image_size"])
    shape = None if input_shape is None else parse_shape(input_shape, "--input-shape")
    data = None if options["data"] is None else load_data(options, seed=0, models=[teacher])
    teacher_spec = _teacher(teacher, teacher_arch, budget, data, num_classes, shape)
    classes, shape = _task(data, teacher_spec, num_classes, shape)
    known: dict[str, Any] = {
        "num_classes": classes,
        "input_shape": shape,
        "dataset_name": data.name if data else "",
        "dataset_sha256": data.sha256 if data else "",
        "plan": Plan(
            recipe=method,
            epochs=epochs,
            schedule=schedule,
            train_images=len(data.train) if data else None,
        ),
        "use_runs": not ignore_runs,
        "teacher": teacher_spec,
    }
    sample = None
    if data is not None:
        from compress.training.evaluation import timing_sample

        sample = timing_sample(data, data.validation, data.normalization)
    if tradeoff is None:
        _say(
            "Networks are timed on seeded noise; give --data to time them on images."
            if sample is None
            else f"Networks are timed on images of {sample.name}."
        )
    runtime = choose_runtime(
        budget,
        num_classes=classes,
        input_shape=shape,
        tradeoff=tradeoff,
        sample=sample,
        say=_say,
    )
    if runtime is not None:
        budget = with_runtime(budget, runtime.runtime)
    known["precisions"] = try_precisions(
        budget,
        num_classes=classes,
        input_shape=shape,
        tradeoff=tradeoff,
        sample=sample,
        say=_say,
    )
    if tradeoff is not None:
        table = load_table(tradeoff, **known)
    else:
        table = table_for(**known, sample=sample, cache=not no_cache, say=_say)
    choice = table.measure_all(budget) if everything else table.select(budget)
    if save is not None:
        write_csv(save, choice)
        _say(f"The table is in {save}.")
    if as_json:
        told = {"runtime_choice": None if runtime is None else runtime.to_dict()}
        click.echo(json.dumps(choice.to_dict() | told, indent=2, allow_nan=False))
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
        lines.append(
            f"The errors include the expected cost of reduced precision, in points: {told}."
        )
    if any(row.prediction.basis == "extrapolated" for row in shown):
        lines.append("* extrapolated beyond the networks that the prediction is fitted to.")
    if any(row.prediction.basis == "own" for row in shown):
        lines.append("o measured in a run of yours on this data.")
    lines.append(
        f"{choice.scale} In leave-one-out tests the prediction is off by "
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
        "not faster": "in a reduced precision that is not faster here",
    }
    parts = [f"{count} ({words[status]})" for status, count in counts.items()]
    return f"Not timed: {', '.join(parts)}." if parts else ""


def _teacher(
    path: Path | None,
    arch: str | None,
    budget: Budget,
    data: Dataset | None,
    num_classes: int | None,
    shape: tuple[int, int, int] | None,
) -> ModelSpec | None:
    """The teacher's architecture, where a teacher is given or the budget needs one."""
    from compress.errors import UsageError
    from compress.models.checkpoint import read_tensors

    if path is None:
        if budget.speedup is None:
            return None
        if data is not None or num_classes is not None or shape is not None:
            raise UsageError(
                "--speedup is relative to a teacher. Give the teacher for this data with --teacher."
            )
        from compress.data.sources import embedded_teacher_path

        path = embedded_teacher_path()
    known = shape if data is None else data.input_shape
    checkpoint = read_tensors(path)
    if known is None:
        return checkpoint.hypotheses(arch=arch)[0].spec
    spec = checkpoint.hypotheses(arch=arch, image_size=known[1:])[0].spec
    # Our own files say the size that they were trained at; what counts is what they will be given.
    return spec.with_(input_shape=(spec.input_shape[0], *known[1:]))


def _task(
    data: Dataset | None,
    teacher: ModelSpec | None,
    num_classes: int | None,
    shape: tuple[int, int, int] | None,
) -> tuple[int, tuple[int, int, int]]:
    """Classes and shape of what the student is for; contradictions are told at once."""
    from compress.data.dataset import load_dataset
    from compress.errors import UsageError

    said: dict[str, tuple[int | None, tuple[int, int, int] | None]] = {
        "the options": (num_classes, shape)
    }
    if data is not None:
        said["the data"] = (data.task.width, data.input_shape)
    if teacher is not None:
        said["the teacher"] = (teacher.num_classes, teacher.input_shape)
    classes = {who: value for who, (value, _) in said.items() if value is not None}
    shapes = {who: value for who, (_, value) in said.items() if value is not None}
    faults = [
        "; ".join(f"{who} {value}" for who, value in found.items())
        for found in (classes, shapes)
        if len(set(found.values())) > 1
    ]
    if faults:
        raise UsageError(
            f"Classes and image shapes (channels, height, width) do not agree: "
            f"{' and '.join(faults)}."
        )
    if not classes or not shapes:
        default = load_dataset("default")
        classes.setdefault("", default.task.width)
        shapes.setdefault("", default.input_shape)
    return next(iter(classes.values())), next(iter(shapes.values()))


def _say(text: str) -> None:
    click.echo(text, err=True)
