"""reproduce.table: means, deviations, and what is beside them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from compress.models.registry import spec_of
from compress.pipelines.reproduce.experiment import read_experiment
from compress.pipelines.reproduce.report import document_of, write_report
from compress.pipelines.reproduce.table import (
    Figures,
    Report,
    TaskReport,
    cells_of,
    in_percent,
    results_json,
    table_csv,
)
from compress.pipelines.reproduce.timing import NetworkTime, Times
from compress.pipelines.reproduce.work import TeacherFacts
from compress.report import markdown
from compress.results import Estimate
from compress.spec import Normalization
from tests.pipelines.reproduce.tiny import EXPERIMENT
from tests.profiling.reports import MACHINE
from tests.report.rendered import assert_rendered

VERSIONS = {"python": "3.12.1", "torch": "2.11.0", "numpy": "2.0.0"}
MADE = datetime(2026, 1, 2, tzinfo=UTC)
N = {"train": 90, "validation": 30, "test": 30}
TEACHER = TeacherFacts(
    "0" * 64,
    spec_of("resnet-20"),
    Normalization((0.5,), (0.5,)),
    0.99,
    0.9,
    "the file t",
    (),
)


def result(method: str, seed: int, last: float, best: float) -> dict[str, object]:
    def scores(test: float, epoch: int) -> dict[str, float]:
        return {"epoch": epoch, "test": test, "validation": test + 0.01}

    return {
        "student": "wrn-10-0.5",
        "method": method,
        "seed": seed,
        "params": 20_000,
        "last": scores(last, 2),
        "best": scores(best, 1),
    }


@pytest.fixture
def report() -> Report:
    experiment = read_experiment(EXPERIMENT, "it", None)
    results = (
        result("student", 0, 0.90, 0.91),
        result("student", 1, 0.92, 0.93),
        result("KD T=5", 0, 0.94, 0.94),
    )
    times = Times(
        (
            NetworkTime("wrn-10-0.5", 20_000, Estimate(0.01, 0.009, 0.011), 0.2),
            NetworkTime("wrn-10-1", 80_000, Estimate(0.04, 0.039, 0.041), 0.4),
        ),
        "wrn-10-1",
        100,
        2,
    )
    task = TaskReport(experiment.tasks[0], "stripes", N, TEACHER, results, times)
    return Report(
        experiment, ("epochs 2 instead of 9",), (task,), 6, "cpu", MACHINE, VERSIONS, MADE
    )


def in_markdown(report: Report) -> str:
    return markdown.render(document_of(report))


def test_the_whole_on_terminals_and_in_markdown(report: Report) -> None:
    assert_rendered(document_of(report), "reproduction")


def test_the_cells(report: Report) -> None:
    student, kd, gan = cells_of(report.tasks[0], report.experiment)
    last, best = student.test["last"], student.test["best"]
    assert last.values == pytest.approx((10.0, 8.0))
    assert last.mean == pytest.approx(9)
    assert last.median == pytest.approx(9)
    assert last.n == 2
    assert last.deviation == pytest.approx(2**0.5)
    assert best.mean == pytest.approx(8)
    assert student.validation["last"].mean == pytest.approx(8)
    assert (kd.test["last"].n, kd.test["last"].deviation, kd.paper) == (1, None, 7.0)
    assert (gan.test["last"].n, gan.params, gan.paper) == (0, None, None)
    assert in_percent(0.9, "accuracy") == pytest.approx(90)


def test_figures_as_text() -> None:
    assert Figures((7.314, 7.0), (0, 1)).text == "7.16 ± 0.22"
    assert Figures((7.314,), (0,)).text == "7.31"
    assert Figures((), ()).text == "-"


def test_markdown(report: Report) -> None:
    text = in_markdown(report)
    for line in (
        "| resnet-20 | teacher | 10.00 | 1.00 |  | 1 | 1.50 | +8.50 |  |",
        "| wrn-10-0.5 | student | 9.00 ± 1.41 | 8.00 ± 1.41 | 8.00 ± 1.41 | 2 | 7.46 | +1.54 "
        "| 10.00, 8.00 |",
        "| wrn-10-0.5 | KD T=5 | 6.00 | 5.00 | 6.00 | 1 | 7.00 | -1.00 | 6.00 |",
        "| wrn-10-0.5 | logit-GAN | - | - | - | 0 |  |  |  |",
        "| wrn-10-0.5 | 20.0 k | 10.0 ms | 9.0-11.0 | 200 ms | 0.250 | 0.500 |",
        "- Not finished: 3 of 6 trainings. The same command goes on.",
        "- Differs from the paper: its teacher is wrn-10-1.",
        "- Differs from the declared experiment: epochs 2 instead of 9.",
    ):
        assert line in text.splitlines()
    assert "Times for 100 images: ONNX Runtime on the CPU of this machine, 2 threads" in text


def test_a_table_of_no_paper_has_no_columns_for_one(report: Report) -> None:
    (task,) = report.tasks
    assert task.task.teacher is not None
    own = replace(task.task, paper={}, teacher=replace(task.task.teacher, paper=None))
    text = in_markdown(replace(report, tasks=(replace(task, task=own, times=None),)))
    assert "| wrn-10-0.5 | KD T=5 | 6.00 | 5.00 | 6.00 | 1 | 6.00 |" in text.splitlines()
    columns = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert columns == {8}


def test_csv(report: Report) -> None:
    lines = [line for line in table_csv(report).splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    assert len(rows) == 6
    assert rows[0]["mean"] == "9.0"
    assert rows[0]["standard_deviation"] == "1.4142"
    assert rows[0]["seeds"] == "0 1"
    assert rows[-1]["mean"] == ""


def test_json_has_fractions_of_1_and_no_nan(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["differences"] == ["The paper has cats.", "epochs 2 instead of 9"]
    (task,) = found["tasks"]
    assert task["trainings"][0]["last"]["test"] == 0.90
    assert task["teacher"]["accuracy"]["test"] == 0.9
    assert task["cells"][0]["last"]["test_percent"]["mean"] == 9.0
    assert task["times"]["networks"][0]["paper_s"] == 0.2


def test_a_table_of_accuracies(report: Report) -> None:
    accuracy = replace(report, experiment=replace(report.experiment, measure="accuracy"))
    assert "Test accuracy in %" in in_markdown(accuracy)
    assert "| 91.00 ± 1.41 |" in in_markdown(accuracy)
    assert results_json(accuracy)["measure"] == "accuracy"
