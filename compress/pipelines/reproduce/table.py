"""What was found beside what the paper found, and its form for programs: CSV and JSON."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from compress.pipelines.reproduce.experiment import Experiment, ExperimentTask
from compress.pipelines.reproduce.scores import Histogram
from compress.pipelines.reproduce.timing import Times
from compress.pipelines.reproduce.work import TeacherFacts
from compress.results import SCHEMA_VERSION, Machine

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
        machine: that it was made on.
        versions: of the packages that it was made with.
        made: when.
    """

    experiment: Experiment
    differences: tuple[str, ...]
    tasks: tuple[TaskReport, ...]
    planned: int
    device: str
    machine: Machine
    versions: Mapping[str, str]
    made: datetime

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


def head(report: Report) -> Iterator[str]:
    """What holds for all tables, a line each."""
    experiment, machine = report.experiment, report.machine
    if report.finished < report.planned:
        yield (
            f"Not finished: {report.finished} of {report.planned} trainings. The same command "
            "goes on."
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
        f"Made {report.made.date().isoformat()} on {machine.cpu}, {machine.cpus} CPUs{gpu}, "
        f"device {report.device}; "
        + ", ".join(
            f"{name} {report.versions[name]}"
            for name in ("python", "compress-distill", "torch")
            if name in report.versions
        )
        + "."
    )
    for note in experiment.notes:
        yield f"Differs from the paper: {note}"
    for difference in report.differences:
        yield f"Differs from the declared experiment: {difference}."


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
        "machine": report.machine.to_dict(),
        "versions": dict(report.versions),
        "made": report.made.isoformat(timespec="seconds"),
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
