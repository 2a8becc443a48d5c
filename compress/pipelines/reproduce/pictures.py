"""The pictures of an experiment, as charts.

table       every cell beside the paper's figure
curves-*    error of training and validation images by epoch, and the discriminator's loss
tradeoff-*  error against time and against parameters
scores-*    the score of one class, for its own images and for the others
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from compress.models.registry import architecture, spec_of
from compress.pipelines.reproduce.experiment import Method, slug
from compress.pipelines.reproduce.table import (
    Cell,
    Figures,
    Report,
    TaskReport,
    cells_of,
    in_percent,
)
from compress.report.document import Axis, Chart, Mark, Picture, Point, Rule, Series
from compress.results import Estimate
from compress.training.options import TrainingOptions

CURVES_AT_MOST = 4
# Colours: those of the methods are 0, 1, ...; these are of what is drawn once.
LAST, BEST, TEACHER = 0, 1, 2
SCHEDULES = {"steps": "in steps", "one-cycle": "in one cycle", "cosine": "along a cosine"}

Epochs = Sequence[dict[str, Any]]


def pictures_of(report: Report, metrics: Callable[[str], Epochs]) -> Iterator[Picture]:
    """What there is enough found for.

    Args:
        report: of the experiment.
        metrics: gives the epochs of a training by its place.
    """
    if any(map(_has_figures, report.tasks)):
        yield _table(report)
    wanted = report.experiment.figures
    for task in report.tasks:
        name = slug(task.task.name)
        for student in task.task.students if "curves" in wanted else ():
            picture = curves(report, task, student, metrics)
            if picture is not None:
                yield picture
        if "tradeoff" in wanted and _has_figures(task):
            yield _tradeoff(report, task, f"tradeoff-{name}")
        if "scores" in wanted and task.scores:
            yield _scores(report, task, f"scores-{name}")


def _has_figures(task: TaskReport) -> bool:
    """Whether any training came to its end without diverging."""
    return any("last" in each for each in task.results)


def _what(task: TaskReport) -> str:
    """Data and schedule, for a caption."""
    n, options = task.n, task.task.schedule
    return (
        f"{task.data}: {n['train']:,} training, {n['validation']:,} validation and {n['test']:,} "
        f"test images; {course(options)}."
    )


def course(options: TrainingOptions) -> str:
    """'200 epochs, batch 128, learning rate 0.1 in steps'."""
    how = SCHEDULES[options.schedule]
    return (
        f"{options.epochs} epochs, batch {options.batch_size}, learning rate {options.lr:g} {how}"
    )


def _n(cells: Sequence[Cell]) -> str:
    """'n = 3 seeds', or 'n = 1 to 3 seeds' where some are missing."""
    counts = [cell.test["last"].n for cell in cells if cell.test["last"].n]
    low, high = min(counts), max(counts)
    return f"n = {high if low == high else f'{low} to {high}'} seed{'s' * (high != 1)}"


def _unfinished(report: Report) -> str:
    if report.finished == report.planned:
        return ""
    return f" Not finished: {report.finished} of {report.planned} trainings."


def _spread(found: Figures) -> Estimate:
    """The mean, and a standard deviation to either side."""
    deviation = found.deviation or 0.0
    return Estimate(found.mean, found.mean - deviation, found.mean + deviation)


# --- table ---------------------------------------------------------------------------------------


def _table(report: Report) -> Picture:
    """A row for each cell: mean and deviation of the last epoch, the best epoch, the paper."""
    experiment = report.experiment
    tasks = [(task, cells_of(task, experiment)) for task in report.tasks if _has_figures(task)]
    counted = _n([cell for _, cells in tasks for cell in cells])
    return Picture(
        "table",
        tuple(_dots(task, cells, experiment.measure) for task, cells in tasks),
        f"{experiment.title}. Mean over {counted}; bars: standard deviation. "
        f"{' '.join(_what(task) for task, _ in tasks)}{_unfinished(report)}",
        stacked=True,
    )


def _dots(task: TaskReport, cells: Sequence[Cell], measure: str) -> Chart:
    several = len(task.task.students) > 1
    names = (f"{cell.student}  {cell.method}" if several else cell.method for cell in cells)
    last, best, paper = [], [], []
    for place, cell in enumerate(cells):
        if cell.test["last"].n:
            last.append(Point(_spread(cell.test["last"]), place - 0.12))
        if cell.test["best"].n:
            best.append(Point(_spread(cell.test["best"]), place + 0.12))
        if cell.paper is not None:
            paper.append(Point(cell.paper, place))
    series = (
        Series("last epoch", tuple(last), hue=LAST),
        Series("best epoch by validation", tuple(best), hue=BEST, style=1),
        Series("paper", tuple(paper), hue=None, hollow=True),
    )
    rules = () if task.teacher is None else (_teacher(task, measure, across=False),)
    return Chart(
        Axis(f"{measure} of test images (%)"),
        Axis("", names=tuple(names)),
        tuple(each for each in series if each.points),
        rules,
        task.task.name,
    )


def _teacher(task: TaskReport, measure: str, *, across: bool) -> Rule:
    found = None if task.teacher is None else in_percent(task.teacher.test, measure)
    return Rule("teacher", y=found) if across else Rule("teacher", x=found, hue=TEACHER)


# --- curves-* ------------------------------------------------------------------------------------


def curves(
    report: Report, task: TaskReport, student: str, metrics: Callable[[str], Epochs]
) -> Picture | None:
    """Figure 3 of arXiv 1709.00513: errors by epoch, and what the discriminator loses."""
    experiment = report.experiment
    runs = {
        method.name: [metrics(each["place"]) for each in _results(task, student, method)]
        for method in experiment.methods
    }
    runs = {name: found for name, found in runs.items() if found}
    if not runs:
        return None
    names = curved(experiment.methods, runs)
    errors: list[Series] = []
    losses: list[Series] = []
    for hue, name in enumerate(names):
        for style, (key, what) in enumerate((("validation", "validation"), ("train", "training"))):
            errors += _curve(runs[name], f"{key}_accuracy", f"{name}, {what}", hue, style, 100)
        losses += _curve(runs[name], "discriminator_loss", f"{name}, discriminator", hue, 3)
    charts = [Chart(Axis("epoch"), Axis("error (%)"), tuple(errors))]
    if losses:
        axis = Axis("loss of the discriminator (nats)")
        charts.append(Chart(Axis("epoch"), axis, tuple(losses)))
    seeds = max(map(len, runs.values()))
    left_out = [name for name in runs if name not in names]
    curve, validate = experiment.curve_images, experiment.validate_images
    parts = [
        f"{student}. Mean over n = {seeds} seed{'s' * (seeds != 1)}"
        + ("; bands: standard deviation. " if seeds > 1 else ". ")
        + _what(task)
    ]
    if curve:
        parts.append(f"Training error of {min(curve, task.n['train']):,} images without crops.")
    if validate is not None and validate < task.n["validation"]:
        parts.append(f"Validation error of {validate:,} images.")
    if left_out:
        parts.append(f"Not drawn: {', '.join(left_out)}.")
    return Picture(
        f"curves-{slug(task.task.name)}-{slug(student)}",
        tuple(charts),
        " ".join(parts) + _unfinished(report),
    )


def _results(task: TaskReport, student: str, method: Method) -> Iterator[dict[str, Any]]:
    for each in task.results:
        if (each["student"], each["method"]) == (student, method.name) and "last" in each:
            yield each


def curved(methods: Sequence[Method], runs: dict[str, list[Any]]) -> list[str]:
    """All methods, or of many the one on labels alone and those with an adversary, as Figure 3."""
    names = [method.name for method in methods if method.name in runs]
    if len(names) <= CURVES_AT_MOST:
        return names
    recipes = {method.name: method.recipe for method in methods}
    adverse = [n for n in names if any("discriminator_loss" in epoch for epoch in runs[n][0])]
    plain = [name for name in names if recipes[name] == "supervised"]
    chosen = [*plain[:1], *adverse] or names
    return [name for name in names if name in chosen[:CURVES_AT_MOST]]


def _curve(
    runs: Sequence[Epochs], key: str, name: str, hue: int, style: int, percent: int = 0
) -> Iterator[Series]:
    """Mean and deviation over the runs of an accuracy's error (in %), or of a loss."""
    points = []
    for lines in zip(*runs, strict=False):
        values = [line[key] for line in lines if line.get(key) is not None]
        if len(values) == len(lines):
            shown = [percent * (1 - value) for value in values] if percent else values
            found = Figures(tuple(shown), ())
            points.append(Point(lines[0]["epoch"], _spread(found)))
    if points:
        yield Series(name, tuple(points), Mark.BAND, hue, style)


# --- tradeoff-* ----------------------------------------------------------------------------------


def _tradeoff(report: Report, task: TaskReport, name: str) -> Picture:
    """Figure 4 of arXiv 1709.00513: what a network's size and time buy."""
    experiment, times = report.experiment, task.times
    cells = [cell for cell in cells_of(task, experiment) if cell.test["last"].n]
    axis = Axis(f"{experiment.measure} of test images (%)")
    axes = {False: Axis("parameters (millions)", logarithmic=True)}
    if times is not None:
        title = f"time for {times.batch} images (s, {times.threads} threads, here)"
        axes = {True: Axis(title, logarithmic=True)} | axes
    rules = () if task.teacher is None else (_teacher(task, experiment.measure, across=True),)
    return Picture(
        name,
        tuple(
            Chart(x, axis, tuple(_methods(report, task, cells, timed)), rules)
            for timed, x in axes.items()
        ),
        f"{experiment.title}. Mean over {_n(cells)}, last epoch; bars: "
        f"standard deviation. {_what(task)}"
        + (f" {times.text}" if times is not None else "")
        + _unfinished(report),
    )


def _methods(
    report: Report, task: TaskReport, cells: Sequence[Cell], timed: bool
) -> Iterator[Series]:
    """Each method's networks by family, joined in the order of what they take; the paper's."""

    def points(of: Sequence[Cell], y: Callable[[Cell], float | Estimate | None]) -> Any:
        placed = [(_place(task, cell, timed), y(cell)) for cell in of]
        there = [(x, value) for x, value in placed if x is not None and value is not None]
        return tuple(Point(x, value) for x, value in sorted(there, key=lambda point: point[0]))

    for hue, method in enumerate(report.experiment.methods):
        of_it = [cell for cell in cells if cell.method == method.name]
        for style, (family, group) in enumerate(_families(of_it).items()):
            found = points(group, lambda cell: _spread(cell.test["last"]))
            if found:
                yield Series(f"{method.name}{family}", found, Mark.LINE, hue, style % 4)
        printed = points(of_it, lambda cell: cell.paper)
        if printed:
            yield Series(f"{method.name}, paper", printed, hue=hue, hollow=True)


def _families(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Networks that differ in width, and the others: to join them would make a zigzag.

    The name is empty where there is one family only.
    """
    specs = {cell.student: spec_of(cell.student) for cell in cells}
    sizes = {name: (spec.family, *architecture(spec).size) for name, spec in specs.items()}
    fixed = [size[:-1] for size in sizes.values()]
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        *alike, width = sizes[cell.student]
        wide = fixed.count(tuple(alike)) > 1
        name = "-".join(map(str, [*alike, "m"])) if wide else f"{alike[0]}-d-{width:g}"
        found.setdefault(f", {name}", []).append(cell)
    return found if len(found) > 1 else {"": list(cells)}


def _place(task: TaskReport, cell: Cell, timed: bool) -> float | None:
    """Seconds or millions of parameters."""
    if not timed:
        return None if cell.params is None else cell.params / 1e6
    found = None if task.times is None else task.times.of(cell.student)
    return None if found is None else found.here.value


# --- scores-* ------------------------------------------------------------------------------------


def _scores(report: Report, task: TaskReport, name: str) -> Picture:
    """Figure 5 of arXiv 1709.00513: the same class as three networks see it."""
    charts = []
    for found in task.scores:
        middles = [(a + b) / 2 for a, b in zip(found.edges[:-1], found.edges[1:], strict=True)]
        series = tuple(
            Series(label, tuple(map(Point, middles, shares)), Mark.BARS, hue)
            for shares, hue, label in (
                (found.others, 0, f"other classes (n = {found.n_others:,})"),
                (found.own, 2, f"its own images (n = {found.n_own:,})"),
            )
        )
        axes = Axis("score of the class (logit)"), Axis("share of images")
        charts.append(Chart(*axes, series, title=found.name))
    return Picture(
        name,
        tuple(charts),
        f"The score of class {report.experiment.score_class} ({task.class_name}) on the test "
        f"images; each histogram sums to one. Students: {task.task.students[0]}, last epoch, seed "
        f"{report.experiment.seeds[0]}. {_what(task)}{_unfinished(report)}",
    )
