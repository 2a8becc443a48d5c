"""reproduce.pictures: charts of what was found, and no pictures without matplotlib."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.models.registry import architecture, spec_of
from compress.pipelines.reproduce import pictures, runner
from compress.pipelines.reproduce.experiment import load_experiment, read_experiment
from compress.pipelines.reproduce.runner import ReproduceRequest, reproduce, trainings
from compress.pipelines.reproduce.scores import Histogram, histogram
from compress.pipelines.reproduce.settings import Overrides, adapt
from compress.pipelines.reproduce.table import Report, TaskReport
from compress.pipelines.reproduce.timing import NetworkTime, Times
from compress.pipelines.reproduce.work import TeacherFacts
from compress.report import drawing
from compress.results import Estimate
from compress.schema import decode
from compress.spec import Normalization
from compress.training.runfolder import METRICS, read_metrics
from tests.pipelines.reproduce.tiny import EXPERIMENT, Quiet, make_data, make_experiment
from tests.profiling.reports import MACHINE

MADE = datetime(2026, 1, 2, tzinfo=UTC)
TEXT = EXPERIMENT.replace(
    "[schedule]",
    'figures = ["curves", "tradeoff", "scores"]\nscore_class = 1\ncurve_images = 9\n[schedule]',
    1,
)
PICTURES = {
    "table.png",
    "curves-stripes-wrn-10-0.5.png",
    "tradeoff-stripes.png",
    "scores-stripes.png",
}


def made_up(name: str, out: Path, *, seeds: int = 3) -> Report:
    """A report of a known experiment with figures a little beside the paper's, and metrics."""
    experiment = adapt(
        load_experiment(name), Overrides(seeds=tuple(range(seeds)), epochs=40)
    ).experiment
    rng = torch.Generator().manual_seed(0)
    tasks = []
    for task in experiment.tasks:
        results = []
        for each in trainings(experiment, task):
            paper = task.paper.get((each.student, each.method.name), 30.0)
            error = (paper + float(torch.randn((), generator=rng)) * 0.3 + 1.0) / 100
            scores = {"test": 1 - error, "validation": 1 - error + 0.002, "epoch": 40}
            folder = out / each.place
            folder.mkdir(parents=True)
            lines = []
            for epoch in range(1, 41):
                now = error + 0.5 * 0.9**epoch + 0.01 * float(torch.rand((), generator=rng))
                line: dict[str, Any] = {"epoch": epoch, "validation_accuracy": 1 - now}
                line["train_accuracy"] = 1 - 0.7 * now
                if each.method.recipe == "logit-gan":
                    line["discriminator_loss"] = 2 + 4 * 0.95**epoch
                lines.append(json.dumps(line))
            (folder / "metrics.jsonl").write_text("\n".join(lines))
            depth, width = architecture(spec_of(each.student)).size
            results.append(
                {
                    "student": each.student,
                    "method": each.method.name,
                    "seed": each.seed,
                    "params": int(3e4 * depth * width**2),
                    "last": scores,
                    "best": {**scores, "test": scores["test"] - 0.001},
                    "place": str(each.place),
                }
            )
        times = tuple(
            NetworkTime(
                timed.network,
                10**6,
                Estimate((timed.paper_s or 1) / 3, (timed.paper_s or 1) / 3.1, timed.paper_s or 1),
                timed.paper_s,
            )
            for timed in experiment.timing
        )
        logits = torch.randn(1000, 100, generator=rng)
        labels = torch.arange(1000) % 100
        logits[labels == 85, 85] += 6
        teacher = TeacherFacts(
            "0" * 64,
            spec_of("wrn-40-10"),
            Normalization((0.5,), (0.5,)),
            0.8,
            0.79,
            "x",
            (),
        )
        tasks.append(
            TaskReport(
                task=task,
                data=task.name,
                n={"train": 45000, "validation": 5000, "test": 10000},
                teacher=teacher,
                results=tuple(results),
                times=Times(times, "wrn-40-10", 100, 2) if times else None,
                scores=tuple(
                    histogram(name, logits, labels, 85)
                    for name in ("wrn-10-4, student", "teacher, wrn-40-10", "wrn-10-4, logit-GAN")
                ),
                class_name="streetcar",
            )
        )
    planned = sum(len(trainings(experiment, task)) for task in experiment.tasks)
    return Report(experiment, (), tuple(tasks), planned, "cpu", MACHINE, {}, MADE)


@pytest.mark.parametrize("name", ["logit-gan/table2", "logit-gan/table5"])
def test_pictures_have_labels_units_and_legends(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = made_up(name, tmp_path)
    found = pictures.pictures_of(report, lambda place: read_metrics(tmp_path / place / METRICS))
    seen = {picture.name: drawing.figure_of(picture) for picture in found}
    assert "table" in seen
    for file, figure in seen.items():
        figure.draw_without_rendering()
        assert figure.legends, file
        (caption,) = [figure.get_supxlabel()]
        assert "n = " in caption.replace("\n", " ") or file.startswith("scores")
        assert "40 epochs" in caption.replace("\n", " ")
        for axes in figure.axes:
            assert axes.get_xlabel() or file == "table"
            assert axes.get_legend() is None  # it would lie over the data
        legend = figure.legends[0].get_window_extent()
        for axes in figure.axes:
            assert not legend.overlaps(axes.get_window_extent()), file
        assert "%" in figure.axes[-1].get_xlabel() + figure.axes[0].get_ylabel() or (
            file.startswith("scores")
        )


def test_the_curves_are_the_errors(tmp_path: Path) -> None:
    report = made_up("logit-gan/table4", tmp_path, seeds=1)
    (task,) = report.tasks
    picture = pictures.curves(
        report,
        task,
        task.task.students[0],
        lambda place: read_metrics(tmp_path / place / METRICS),
    )
    assert picture is not None
    errors, losses = picture.charts
    line = next(each for each in errors.series if each.name == "depth 1, validation")
    first = read_metrics(tmp_path / task.results[0]["place"] / METRICS)[0]
    error = 100 * (1 - first["validation_accuracy"])
    assert line.points[0].y == Estimate(error, error, error)
    assert losses.series[0].points[0].y == Estimate(5.8, 5.8, 5.8)


def test_a_run_draws_them_and_keeps_the_histograms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    file = make_experiment(tmp_path, make_data(tmp_path), TEXT)
    request = ReproduceRequest(
        adapt(load_experiment(str(file)), Overrides(seeds=(0,))), tmp_path / "out"
    )
    reproduce(replace(request, device="cpu"), Quiet())
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == PICTURES
    for path in (tmp_path / "out").glob("*.png"):
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    stored = json.loads((tmp_path / "out/scores-stripes.json").read_text())
    names = [each["name"] for each in stored["histograms"]]
    assert names == ["wrn-10-0.5, student", "teacher, wrn-10-1", "wrn-10-0.5, logit-GAN"]

    def never(*_: object) -> None:
        raise AssertionError("the test images were scored again")

    monkeypatch.setattr(runner, "histogram", never)
    reproduce(replace(request, device="cpu"), Quiet())


def test_without_matplotlib_there_is_a_table_and_the_command_for_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "available", lambda: False)
    file = make_experiment(tmp_path, make_data(tmp_path), TEXT)
    adapted = adapt(load_experiment(str(file)), Overrides(seeds=(0,), methods=("student",)))
    listener = Quiet()
    reproduce(ReproduceRequest(adapted, tmp_path / "out", device="cpu"), listener)
    assert drawing.HOW_TO_GET in listener.messages
    assert (tmp_path / "out/table.md").exists()
    assert not list((tmp_path / "out").glob("*.png"))


def test_a_histogram() -> None:
    logits = torch.tensor([[0.0, 4.0], [0.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    found = histogram("it", logits, torch.tensor([1, 1, 0, 0]), 1)
    assert (found.n_own, found.n_others) == (2, 2)
    assert (found.edges[0], found.edges[-1]) == (0.0, 4.0)
    assert sum(found.own) == pytest.approx(1)
    assert sum(found.others) == pytest.approx(1)
    assert found.others[0] == 1
    assert found.own[-1] == 0.5
    assert decode(Histogram, json.loads(json.dumps(found.to_dict())), "it") == found
    flat = histogram("it", torch.zeros(3, 2), torch.tensor([0, 1, 1]), 0)
    assert flat.own[0] == 1


def test_the_methods_of_the_curves_are_chosen() -> None:
    text = TEXT + "".join(
        f'\n[[methods]]\nname = "kd {number}"\nrecipe = "kd"\n' for number in range(3)
    )
    methods = read_experiment(text, "it", None).methods
    runs: dict[str, list[Any]] = {
        method.name: [[{"discriminator_loss": 1.0}] if "GAN" in method.name else [{}]]
        for method in methods
    }
    assert pictures.curved(methods, runs) == ["student", "logit-GAN"]
    few = {name: runs[name] for name in list(runs)[:4]}
    assert pictures.curved(methods, few) == list(few)
