"""What was found beside what the paper found: table.md, table.csv, results.json."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compress.files import write_json, write_text
from compress.pipelines.reproduce.experiment import Experiment, ExperimentTask
from compress.pipelines.reproduce.scores import Histogram
from compress.pipelines.reproduce.timing import Times
from compress.pipelines.reproduce.work import TeacherFacts
from compress.profiling.machine import fingerprint
from compress.results import SCHEMA_VERSION
from compress.training.options import TrainingOptions
from compress.training.runfolder import installed_versions
from compress.units import format_count

TABLE_MD, TABLE_CSV, RESULTS = "table.md", "table.csv", "results.json"
WHICH = ("last", "best")
COLUMNS = (
    "task",
    "student",
    "params",
    "method",
    "which",
    "measure",
    "mean",
    "standard_deviation",
    "median",
    "n",
    "validation_mean",
    "paper",
    "seeds",
    "values",
)


@dataclass(frozen=True)
class TaskReport:
    """What there is of a task.

    Attributes:
        task: what was declared.
        data: the data set's name.
        n: images by split.
        teacher: None where there is none yet.
        results: result.json of each finished training, and its place in the folder.
        times: of the networks; None where they were not timed.
        scores: histograms of one class's score, for the picture.
        class_name: of that class.
    """

    task: ExperimentTask
    data: str
    n: dict[str, int]
    teacher: TeacherFacts | None
    results: tuple[dict[str, Any], ...]
    times: Times | None = None
    scores: tuple[Histogram, ...] = ()
    class_name: str = ""


@dataclass(frozen=True)
class Report:
    """What a table is made of.

    Attributes:
        experiment: as it ran.
        differences: from what was declared, a sentence each.
        tasks: those that have been looked at.
        planned: trainings of students.
        device: that trained.
    """

    experiment: Experiment
    differences: tuple[str, ...]
    tasks: tuple[TaskReport, ...]
    planned: int
    device: str

    @property
    def finished(self) -> int:
        """Trainings that are."""
        return sum(len(task.results) for task in self.tasks)


@dataclass(frozen=True)
class Figures:
    """One quantity over the seeds, in %.

    Attributes:
        values: one a seed, in the order of ``seeds``.
        seeds: of the trainings.
    """

    values: tuple[float, ...]
    seeds: tuple[int, ...]

    @property
    def n(self) -> int:
        """Seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.mean(self.values)

    @property
    def median(self) -> float:
        """Over the seeds."""
        return statistics.median(self.values)

    @property
    def deviation(self) -> float | None:
        """The sample's standard deviation; None of one seed."""
        return statistics.stdev(self.values) if self.n > 1 else None

    @property
    def text(self) -> str:
        """'7.31 ± 0.12'; without the deviation where there is none, '-' where there is nothing."""
        if not self.values:
            return "-"
        deviation = self.deviation
        return f"{self.mean:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")


@dataclass(frozen=True)
class Cell:
    """One student trained with one method.

    Attributes:
        student, method: their names.
        params: of the student; None before anything is finished.
        test: "last" and "best" epoch -> test images.
        validation: the same of the validation images.
        paper: its figure in %, where it gives one.
    """

    student: str
    method: str
    params: int | None
    test: dict[str, Figures]
    validation: dict[str, Figures]
    paper: float | None


def in_percent(accuracy: float, measure: str) -> float:
    """A fraction of 1 -> accuracy or error in %."""
    return 100 * (accuracy if measure == "accuracy" else 1 - accuracy)


def cells_of(report: TaskReport, experiment: Experiment) -> list[Cell]:
    """The cells of a task, in the order of the table; those without results too."""
    cells = []
    for student in report.task.students:
        for method in experiment.methods:
            results = [
                each
                for each in report.results
                if (each["student"], each["method"]) == (student, method.name)
            ]

            def figures(which: str, split: str, results: Any = results) -> Figures:
                there = [each for each in results if which in each]
                return Figures(
                    tuple(in_percent(e[which][split], experiment.measure) for e in there),
                    tuple(each["seed"] for each in there),
                )

            cells.append(
                Cell(
                    student,
                    method.name,
                    results[0]["params"] if results else None,
                    {which: figures(which, "test") for which in WHICH},
                    {which: figures(which, "validation") for which in WHICH},
                    report.task.paper.get((student, method.name)),
                )
            )
    return cells


def write_report(report: Report, out: Path) -> None:
    """Writes table.md, table.csv and results.json."""
    write_text(out / TABLE_MD, markdown(report))
    write_text(out / TABLE_CSV, table_csv(report))
    write_json(out / RESULTS, results_json(report))


# --- Markdown ------------------------------------------------------------------------------------


def markdown(report: Report) -> str:
    """The tables, each with what has to be known to read it."""
    experiment = report.experiment
    lines = [
        f"# {experiment.title or experiment.name}",
        "",
        *(f"- {line}" for line in head(report)),
    ]
    for task in report.tasks:
        lines += ["", f"## {task.task.name}", "", *_facts(task), "", *_table(task, experiment)]
        if task.times is not None:
            lines += ["", task.times.text, "", *_times(task.times)]
    return "\n".join([*lines, ""])


def head(report: Report) -> Iterator[str]:
    """What holds for all tables, a line each."""
    experiment, machine = report.experiment, fingerprint()
    versions = installed_versions()
    if report.finished < report.planned:
        yield (
            f"**Not finished: {report.finished} of {report.planned} trainings.** Run the same "
            "command again to continue."
        )
    if experiment.source:
        yield f"The paper's figures: {experiment.source}; {experiment.statistic}."
    yield (
        f"Test {experiment.measure} in %, mean ± standard deviation over the seeds. Last epoch is "
        "the student at the end of training; best epoch is the one with the best validation "
        "accuracy. Test images were used only for this table."
    )
    seeds = ", ".join(map(str, experiment.seeds))
    yield f"Seeds: {seeds}. Every method trains the student for the same number of epochs."
    gpu = f", {machine.gpu}" if report.device == "cuda" else ""
    yield (
        f"Made {datetime.now(UTC).date().isoformat()} on {machine.cpu}, {machine.cpus} CPUs{gpu}, "
        f"device {report.device}; "
        + ", ".join(
            f"{name} {versions[name]}"
            for name in ("python", "compress-distill", "torch")
            if name in versions
        )
        + "."
    )
    for note in experiment.notes:
        yield f"Differs from the paper: {note}"
    for difference in report.differences:
        yield f"Differs from the declared experiment: {difference}."


def _facts(report: TaskReport) -> list[str]:
    n, task = report.n, report.task
    lines = [
        f"- Data: {report.data}, {n['train']:,} training, {n['validation']:,} validation and "
        f"{n['test']:,} test images.",
        f"- Students: {schedule_text(task.schedule)}.",
    ]
    if report.teacher is not None:
        teacher = report.teacher
        lines.append(f"- Teacher: {teacher.spec.name}, {teacher.origin}.")
        if task.teacher is not None and task.teacher.arch:
            declared = task.teacher.arch
            if declared != teacher.spec.name:
                lines.append(f"- Differs from the paper: its teacher is {declared}.")
    lines += [
        f"- Diverged: {each['student']}, {each['method']}, seed {each['seed']}. {each['diverged']}"
        for each in report.results
        if "diverged" in each
    ]
    return lines


def schedule_text(options: TrainingOptions) -> str:
    """One line of how a network is trained."""
    if options.schedule == "steps":
        at = ", ".join(f"{round(share * options.epochs)}" for share in options.milestones)
        course = f"x {options.lr_factor:g} after epochs {at}"
    else:
        course = f"{options.schedule} schedule"
    return (
        f"{options.epochs} epochs, batch {options.batch_size}, SGD with learning rate "
        f"{options.lr:g}, {course}, momentum {options.momentum:g}, weight decay "
        f"{options.weight_decay:g}, dropout {options.dropout:g}, crops padded by "
        f"{options.crop_padding}, {views_text(options)}, autocast {options.autocast}"
        + (f", labels smoothed by {options.label_smoothing:g}" if options.label_smoothing else "")
        + (f", moving average of decay {options.ema:g}" if options.ema else "")
    )


def views_text(options: TrainingOptions) -> str:
    """What the teacher is asked of."""
    if options.views == 1:
        return "teacher's logits of the images as they are"
    if options.reused_views is not None:
        return f"teacher's outputs of {options.reused_views} crops an image, used in turn"
    dropout = f" with dropout {options.teacher_dropout:g}" if options.teacher_dropout else ""
    return f"teacher's outputs of every crop{dropout}"


def _table(report: TaskReport, experiment: Experiment) -> Iterator[str]:
    """The cells; the paper's columns where it has figures."""
    measure = experiment.measure
    paper_of_teacher = report.task.teacher.paper if report.task.teacher else None
    has_paper = bool(report.task.paper) or paper_of_teacher is not None

    def row(*cells: str, paper: str = "", gap: str = "", each: str = "") -> str:
        return "| " + " | ".join([*cells, *((paper, gap) if has_paper else ()), each]) + " |"

    head = ("student", "method", "test, last epoch", "validation, last", "test, best epoch", "n")
    yield row(*head, paper="paper", gap="last - paper", each="test, last, each seed")
    yield "|" + "---|" * (len(head) + (3 if has_paper else 1))
    if report.teacher is not None:
        test, validation = (
            in_percent(share, measure) for share in (report.teacher.test, report.teacher.validation)
        )
        yield row(
            *(report.teacher.spec.name, "teacher", f"{test:.2f}", f"{validation:.2f}", "", "1"),
            paper=_number(paper_of_teacher),
            gap=_gap(test, paper_of_teacher),
        )
    for cell in cells_of(report, experiment):
        last, best = cell.test["last"], cell.test["best"]
        yield row(
            *(cell.student, cell.method, last.text, cell.validation["last"].text, best.text),
            str(last.n),
            paper=_number(cell.paper),
            gap=_gap(last.mean, cell.paper) if last.n else "",
            each=", ".join(f"{value:.2f}" for value in last.values),
        )


def _times(times: Times) -> Iterator[str]:
    yield "| network | parameters | here, s | paper, s | here / teacher | paper / teacher |"
    yield "|---|---|---|---|---|---|"
    for each in times.networks:
        here, paper = times.ratio(each)
        time = each.here
        ratios = ["" if ratio is None else f"{ratio:.3f}" for ratio in (here, paper)]
        yield (
            f"| {each.network} | {format_count(each.params)} | {time.value:.3g} "
            f"({time.low:.3g} to {time.high:.3g}) | {_number(each.paper_s)} "
            f"| {' | '.join(ratios)} |"
        )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _gap(found: float, paper: float | None) -> str:
    return "" if paper is None else f"{found - paper:+.2f}"


# --- CSV and JSON --------------------------------------------------------------------------------


def table_csv(report: Report) -> str:
    """A line for each cell and kind of epoch; figures in %, comments with # before them."""
    text = io.StringIO()
    for line in head(report):
        text.write(f"# {line}\n")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for task in report.tasks:
        for cell in cells_of(task, report.experiment):
            for which in WHICH:
                writer.writerow(_row(task, cell, which, report.experiment.measure))
    return text.getvalue()


def _row(report: TaskReport, cell: Cell, which: str, measure: str) -> dict[str, Any]:
    test, validation = cell.test[which], cell.validation[which]
    return {
        "task": report.task.name,
        "student": cell.student,
        "params": cell.params,
        "method": cell.method,
        "which": which,
        "measure": measure,
        "mean": _rounded(test.mean if test.n else None),
        "standard_deviation": _rounded(test.deviation),
        "median": _rounded(test.median if test.n else None),
        "n": test.n,
        "validation_mean": _rounded(validation.mean if validation.n else None),
        "paper": cell.paper,
        "seeds": " ".join(map(str, test.seeds)),
        "values": " ".join(f"{value:.4f}" for value in test.values),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def results_json(report: Report) -> dict[str, Any]:
    """Everything, accuracies as fractions of 1; the paper's figures in % as it prints them."""
    experiment = report.experiment
    return {
        "schema_version": SCHEMA_VERSION,
        "name": experiment.name,
        "title": experiment.title,
        "source": experiment.source,
        "statistic": experiment.statistic,
        "measure": experiment.measure,
        "seeds": list(experiment.seeds),
        "finished": report.finished,
        "planned": report.planned,
        "differences": [*experiment.notes, *report.differences],
        "tasks": [
            {
                "name": task.task.name,
                "data": {"name": task.data, "n": task.n},
                "training": task.task.schedule.to_dict(),
                "teacher": None if task.teacher is None else task.teacher.to_dict(),
                "paper_percent": [
                    {"student": student, "method": method, "value": value}
                    for (student, method), value in task.task.paper.items()
                ],
                "trainings": list(task.results),
                "times": None if task.times is None else task.times.to_dict(),
                "cells": [_cell(cell) for cell in cells_of(task, experiment)],
            }
            for task in report.tasks
        ],
        "device": report.device,
        "machine": fingerprint().to_dict(),
        "versions": installed_versions(),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "student": cell.student,
        "method": cell.method,
        "params": cell.params,
        "paper_percent": cell.paper,
        **{
            which: {
                "n": cell.test[which].n,
                "test_percent": _statistics(cell.test[which]),
                "validation_percent": _statistics(cell.validation[which]),
            }
            for which in WHICH
        },
    }


def _statistics(figures: Figures) -> dict[str, float | None]:
    return {
        "mean": _rounded(figures.mean if figures.n else None),
        "standard_deviation": _rounded(figures.deviation),
        "median": _rounded(figures.median if figures.n else None),
    }
