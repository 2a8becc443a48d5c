"""The pictures of an experiment, where matplotlib is installed (the extra ``plots``).

table.png       every cell beside the paper's figure
curves-*.png    error of training and validation images by epoch, and the discriminator's loss
tradeoff-*.png  error against time and against parameters
scores-*.png    the score of one class, for its own images and for the others
"""

from __future__ import annotations

import importlib.util
import statistics
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.files import atomic_path
from compress.models.registry import architecture, spec_of
from compress.pipelines.reproduce.experiment import Method, slug
from compress.pipelines.reproduce.table import Cell, Report, TaskReport, cells_of, in_percent
from compress.training.options import TrainingOptions
from compress.training.runfolder import METRICS, read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HOW_TO_GET = (
    'The pictures need matplotlib: python -m pip install "compress-distill[plots]"; the same '
    "command then draws them."
)
# Okabe and Ito's colours, which the colour-blind tell apart, without black and yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
PAPER = "#222222"
CURVES_AT_MOST = 4
# Marker and line of a family of networks.
FAMILY_STYLES = (("o", "-"), ("X", "--"), ("^", "-."), ("v", ":"))
DPI = 150


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(report: Report, out: Path) -> list[Path]:
    """Draws what there is enough found for; the files."""
    drawn = []
    if any(map(_has_figures, report.tasks)):
        drawn.append(_save(_table(report), out / "table.png"))
    wanted = report.experiment.figures
    for task in report.tasks:
        name = slug(task.task.name)
        for student in task.task.students if "curves" in wanted else ():
            figure = _curves(report, task, student, out)
            if figure is not None:
                drawn.append(_save(figure, out / f"curves-{name}-{slug(student)}.png"))
        if "tradeoff" in wanted and _has_figures(task):
            drawn.append(_save(_tradeoff(report, task), out / f"tradeoff-{name}.png"))
        if "scores" in wanted and task.scores:
            drawn.append(_save(_scores(report, task), out / f"scores-{name}.png"))
    return drawn


def _has_figures(task: TaskReport) -> bool:
    """Whether any training came to its end without diverging."""
    return any("last" in each for each in task.results)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: Path) -> Path:
    with atomic_path(path) as temporary:
        # What is drawn when says nothing; without it the same results are the same file.
        figure.savefig(temporary, dpi=DPI, format="png", metadata={"Software": None})
    return path


def _caption(figure: Figure, text: str) -> None:
    """Under everything, as wide as the picture."""
    width = int(figure.get_figwidth() * 17)
    figure.supxlabel("\n".join(textwrap.wrap(text, width)), fontsize=8, x=0.01, ha="left")


def _what(task: TaskReport) -> str:
    """Data and schedule, for a caption."""
    n, options = task.n, task.task.schedule
    return (
        f"{task.data}: {n['train']:,} training, {n['validation']:,} validation and {n['test']:,} "
        f"test images; {course(options)}."
    )


SCHEDULES = {"steps": "in steps", "one-cycle": "in one cycle", "cosine": "along a cosine"}


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
    return f"n = {high if low == high else f'{low} to {high}'} seed{_s(high)}"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _plain(axes: Axes) -> None:
    """Only the lines that say something."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _unfinished(report: Report) -> str:
    if report.finished == report.planned:
        return ""
    return f" Not finished: {report.finished} of {report.planned} trainings."


# --- table.png -----------------------------------------------------------------------------------


def _table(report: Report) -> Figure:
    """A row for each cell: mean and deviation of the last epoch, the best epoch, the paper."""
    experiment = report.experiment
    tasks = [(task, cells_of(task, experiment)) for task in report.tasks if _has_figures(task)]
    rows = [len(cells) for _, cells in tasks]
    figure = _figure(8.5, 1.9 + 0.32 * sum(rows) + 0.5 * len(rows))
    panels = figure.subplots(len(tasks), 1, squeeze=False, height_ratios=[r + 1 for r in rows])
    for (task, cells), axes in zip(tasks, panels[:, 0], strict=True):
        _dots(axes, task, cells, experiment.measure)
    panels[-1, 0].set_xlabel(f"{experiment.measure} of test images (%)")
    handles = {
        label: handle
        for axes in panels[:, 0]
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper center", ncols=4, frameon=False
    )
    counted = _n([cell for _, cells in tasks for cell in cells])
    _caption(
        figure,
        f"{experiment.title}. Mean over {counted}; bars: standard deviation. "
        f"{' '.join(_what(task) for task, _ in tasks)}{_unfinished(report)}",
    )
    return figure


def _dots(axes: Axes, task: TaskReport, cells: Sequence[Cell], measure: str) -> None:
    names = []
    several = len(task.task.students) > 1
    for place, cell in enumerate(cells):
        names.append(f"{cell.student}  {cell.method}" if several else cell.method)
        last, best = cell.test["last"], cell.test["best"]
        if last.n:
            axes.errorbar(
                last.mean,
                place - 0.12,
                xerr=last.deviation,
                fmt="o",
                color=COLOURS[0],
                capsize=3,
                label="last epoch",
            )
        if best.n:
            axes.errorbar(
                best.mean,
                place + 0.12,
                xerr=best.deviation,
                fmt="s",
                color=COLOURS[1],
                markersize=4,
                capsize=2,
                label="best epoch by validation",
            )
        if cell.paper is not None:
            axes.plot(cell.paper, place, "D", color=PAPER, fillstyle="none", label="paper")
    if task.teacher is not None:
        found = in_percent(task.teacher.test, measure)
        axes.axvline(found, color=COLOURS[2], linestyle="--", linewidth=1.2, label="teacher")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_title(task.task.name, loc="left", fontsize=10)
    _plain(axes)


# --- curves-*.png --------------------------------------------------------------------------------


def _curves(report: Report, task: TaskReport, student: str, out: Path) -> Figure | None:
    """Figure 3 of arXiv 1709.00513: errors by epoch, and what the discriminator loses."""
    runs = {
        method.name: [
            read_metrics(out / each["place"] / METRICS) for each in _results(task, student, method)
        ]
        for method in report.experiment.methods
    }
    runs = {name: found for name, found in runs.items() if found}
    if not runs:
        return None
    names = _curved(report.experiment.methods, runs)
    judged = [name for name in names if any("discriminator_loss" in e for e in runs[name][0])]
    figure = _figure(11 if judged else 7.5, 4.6)
    panels = figure.subplots(1, 2 if judged else 1, squeeze=False)[0]
    errors = panels[0]
    for name, colour in zip(names, COLOURS, strict=False):
        for key, style, what in (("validation", "-", "validation"), ("train", "--", "training")):
            _line(errors, runs[name], f"{key}_accuracy", colour, style, f"{name}, {what}", 100)
    errors.set_ylabel("error (%)")
    if judged:
        for name, colour in zip(names, COLOURS, strict=False):
            if name in judged:
                label = f"{name}, discriminator"
                _line(panels[1], runs[name], "discriminator_loss", colour, ":", label)
        panels[1].set_ylabel("loss of the discriminator (nats)")
    for axes in panels:
        axes.set_xlabel("epoch")
        _plain(axes)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    seeds = max(map(len, runs.values()))
    left_out = [name for name in runs if name not in names]
    curve, validate = report.experiment.curve_images, report.experiment.validate_images
    parts = [
        f"{student}. Mean over n = {seeds} seed{_s(seeds)}"
        + ("; bands: standard deviation. " if seeds > 1 else ". ")
        + _what(task)
    ]
    if curve:
        parts.append(f"Training error of {min(curve, task.n['train']):,} images without crops.")
    if validate is not None and validate < task.n["validation"]:
        parts.append(f"Validation error of {validate:,} images.")
    if left_out:
        parts.append(f"Not drawn: {', '.join(left_out)}.")
    _caption(figure, " ".join(parts) + _unfinished(report))
    return figure


def _results(task: TaskReport, student: str, method: Method) -> Iterator[dict[str, Any]]:
    for each in task.results:
        if (each["student"], each["method"]) == (student, method.name) and "last" in each:
            yield each


def _curved(methods: Sequence[Method], runs: dict[str, list[Any]]) -> list[str]:
    """All methods, or of many the one on labels alone and those with an adversary, as Figure 3."""
    names = [method.name for method in methods if method.name in runs]
    if len(names) <= CURVES_AT_MOST:
        return names
    recipes = {method.name: method.recipe for method in methods}
    adverse = [n for n in names if any("discriminator_loss" in epoch for epoch in runs[n][0])]
    plain = [name for name in names if recipes[name] == "supervised"]
    chosen = [*plain[:1], *adverse] or names
    return [name for name in names if name in chosen[:CURVES_AT_MOST]]


def _line(
    axes: Axes,
    runs: Sequence[Sequence[dict[str, Any]]],
    key: str,
    colour: str,
    style: str,
    label: str,
    percent: int = 0,
) -> None:
    """Mean and deviation over the runs of an accuracy's error (in %), or of a loss."""
    epochs, means, spreads = [], [], []
    for lines in zip(*runs, strict=False):
        values = [line[key] for line in lines if line.get(key) is not None]
        if len(values) == len(lines):
            shown = [percent * (1 - value) for value in values] if percent else values
            epochs.append(lines[0]["epoch"])
            means.append(statistics.mean(shown))
            spreads.append(statistics.stdev(shown) if len(shown) > 1 else 0.0)
    if not epochs:
        return
    marker = "o" if len(epochs) == 1 else ""
    axes.plot(epochs, means, style, color=colour, label=label, linewidth=1.5, marker=marker)
    if any(spreads):
        low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
        high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
        axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)


# --- tradeoff-*.png ------------------------------------------------------------------------------


def _tradeoff(report: Report, task: TaskReport) -> Figure:
    """Figure 4 of arXiv 1709.00513: what a network's size and time buy."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    experiment = report.experiment
    cells = [cell for cell in cells_of(task, experiment) if cell.test["last"].n]
    times = task.times
    figure = _figure(11 if times else 7.5, 4.8)
    panels = figure.subplots(1, 2 if times else 1, squeeze=False, sharey=True)[0]
    for axes, timed in zip(panels[::-1], (False, True), strict=False):
        for method, colour in zip(experiment.methods, COLOURS, strict=False):
            of_it = [cell for cell in cells if cell.method == method.name]
            for (family, group), (marker, style) in zip(
                _families(of_it).items(), FAMILY_STYLES, strict=False
            ):
                _family(axes, task, group, timed, colour, marker + style, f"{method.name}{family}")
            printed = [(_place(task, cell, timed), cell.paper) for cell in of_it]
            printed = [point for point in printed if None not in point]
            if printed:
                axes.plot(
                    [x for x, _ in printed],
                    [value for _, value in printed],
                    "D",
                    color=colour,
                    fillstyle="none",
                    label=f"{method.name}, paper",
                )
        if task.teacher is not None:
            found = in_percent(task.teacher.test, experiment.measure)
            axes.axhline(found, color=PAPER, linestyle="--", linewidth=1, label="teacher")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        if timed and times is not None:
            axes.set_xlabel(f"time for {times.batch} images (s, {times.threads} threads, here)")
        else:
            axes.set_xlabel("parameters (millions)")
        _plain(axes)
    panels[0].set_ylabel(f"{experiment.measure} of test images (%)")
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    _caption(
        figure,
        f"{experiment.title}. Mean over {_n(cells)}, last epoch; bars: "
        f"standard deviation. {_what(task)}"
        + (f" {times.text}" if times is not None else "")
        + _unfinished(report),
    )
    return figure


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


def _family(
    axes: Axes,
    task: TaskReport,
    cells: Sequence[Cell],
    timed: bool,
    colour: str,
    style: str,
    label: str,
) -> None:
    """The networks of a family, joined in the order of what they take."""
    placed = [(_place(task, cell, timed), cell) for cell in cells]
    points = sorted(((x, c) for x, c in placed if x is not None), key=lambda point: point[0])
    if points:
        axes.errorbar(
            [x for x, _ in points],
            [cell.test["last"].mean for _, cell in points],
            yerr=[cell.test["last"].deviation or 0.0 for _, cell in points],
            fmt=style,
            color=colour,
            capsize=3,
            label=label,
        )


def _place(task: TaskReport, cell: Cell, timed: bool) -> float | None:
    """Seconds or millions of parameters."""
    if not timed:
        return None if cell.params is None else cell.params / 1e6
    found = None if task.times is None else task.times.of(cell.student)
    return None if found is None else found.here.value


# --- scores-*.png --------------------------------------------------------------------------------


def _scores(report: Report, task: TaskReport) -> Figure:
    """Figure 5 of arXiv 1709.00513: the same class as three networks see it."""
    figure = _figure(11, 3.6)
    panels = figure.subplots(1, len(task.scores), squeeze=False, sharey=True)[0]
    for axes, found in zip(panels, task.scores, strict=True):
        middles = [(a + b) / 2 for a, b in zip(found.edges[:-1], found.edges[1:], strict=True)]
        width = found.edges[1] - found.edges[0]
        for shares, colour, label in (
            (found.others, COLOURS[0], f"other classes (n = {found.n_others:,})"),
            (found.own, COLOURS[2], f"its own images (n = {found.n_own:,})"),
        ):
            axes.bar(middles, shares, width, color=colour, alpha=0.65, label=label)
        axes.set_title(found.name, fontsize=10)
        axes.set_xlabel("score of the class (logit)")
        _plain(axes)
    panels[0].set_ylabel("share of images")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    seed = report.experiment.seeds[0]
    _caption(
        figure,
        f"The score of class {report.experiment.score_class} ({task.class_name}) on the test "
        f"images; each histogram sums to one. Students: {task.task.students[0]}, last epoch, seed "
        f"{seed}. {_what(task)}{_unfinished(report)}",
    )
    return figure
