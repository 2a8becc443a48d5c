"""An experiment's tables as a document, and its files: table.md, table.csv, results.json."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from compress.files import write_json, write_text
from compress.pipelines.reproduce.experiment import Experiment
from compress.pipelines.reproduce.table import (
    Report,
    TaskReport,
    cells_of,
    head,
    in_percent,
    results_json,
    table_csv,
)
from compress.pipelines.reproduce.timing import Times
from compress.report import markdown
from compress.report.document import (
    Cell,
    Column,
    Document,
    Part,
    Section,
    Table,
    Text,
    names,
    numbers,
)
from compress.report.values import time_cells
from compress.training.options import TrainingOptions
from compress.units import format_count, format_time

TABLE_MD, TABLE_CSV, RESULTS = "table.md", "table.csv", "results.json"


def write_report(report: Report, out: Path) -> None:
    """Writes table.md, table.csv and results.json."""
    write_text(out / TABLE_MD, markdown.render(document_of(report)))
    write_text(out / TABLE_CSV, table_csv(report))
    write_json(out / RESULTS, results_json(report))


def document_of(report: Report) -> Document:
    """The tables, each with what has to be known to read it."""
    experiment = report.experiment
    sections = tuple(
        Section(task.task.name, tuple(_task(task, experiment))) for task in report.tasks
    )
    return Document(
        (*map(Text, head(report)), *sections), title=experiment.title or experiment.name
    )


def _task(report: TaskReport, experiment: Experiment) -> Iterator[Part]:
    yield from map(Text, _facts(report))
    yield _table(report, experiment)
    if report.times is not None:
        yield Text(report.times.text)
        yield _times(report.times)


def _facts(report: TaskReport) -> Iterator[str]:
    n, task = report.n, report.task
    yield (
        f"Data: {report.data}, {n['train']:,} training, {n['validation']:,} validation and "
        f"{n['test']:,} test images."
    )
    yield f"Students: {schedule_text(task.schedule)}."
    if report.teacher is not None:
        teacher = report.teacher
        yield f"Teacher: {teacher.spec.name}, {teacher.origin}."
        declared = "" if task.teacher is None else task.teacher.arch
        if declared and declared != teacher.spec.name:
            yield f"Differs from the paper: its teacher is {declared}."
    for each in report.results:
        if "diverged" in each:
            where = f"{each['student']}, {each['method']}, seed {each['seed']}"
            yield f"Diverged: {where}. {each['diverged']}"


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


def _table(report: TaskReport, experiment: Experiment) -> Table:
    """The cells; the paper's columns where it has figures."""
    measure = experiment.measure
    paper_of_teacher = report.task.teacher.paper if report.task.teacher else None
    has_paper = bool(report.task.paper) or paper_of_teacher is not None

    def row(*cells: str, found: float | None, paper: float | None, each: str) -> tuple[Cell, ...]:
        gap = "" if paper is None or found is None else f"{found - paper:+.2f}"
        return (*cells, *((_number(paper), gap) if has_paper else ()), each)

    columns = (
        *names("student", "method"),
        *numbers("test, last epoch", "validation, last", "test, best epoch", "n"),
        *(numbers("paper", "last - paper") if has_paper else ()),
        Column("test, last, each seed"),
    )
    rows = []
    if report.teacher is not None:
        test, validation = (
            in_percent(share, measure) for share in (report.teacher.test, report.teacher.validation)
        )
        cells = (report.teacher.spec.name, "teacher", f"{test:.2f}", f"{validation:.2f}", "", "1")
        rows.append(row(*cells, found=test, paper=paper_of_teacher, each=""))
    for cell in cells_of(report, experiment):
        last, best = cell.test["last"], cell.test["best"]
        rows.append(
            row(
                *(cell.student, cell.method, last.text, cell.validation["last"].text, best.text),
                str(last.n),
                found=last.mean if last.n else None,
                paper=cell.paper,
                each=", ".join(f"{value:.2f}" for value in last.values),
            )
        )
    return Table(columns, tuple(rows))


def _times(times: Times) -> Table:
    rows = []
    for each in times.networks:
        ratios = ("" if ratio is None else f"{ratio:.3f}" for ratio in times.ratio(each))
        paper = "" if each.paper_s is None else format_time(each.paper_s)
        rows.append(
            (each.network, format_count(each.params), *time_cells(each.here), paper, *ratios)
        )
    figures = ("parameters", "here", "95% interval", "paper", "here / teacher", "paper / teacher")
    return Table((*names("network"), *numbers(*figures)), tuple(rows))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
