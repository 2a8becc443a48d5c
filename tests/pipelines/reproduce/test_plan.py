"""reproduce.plan: what is missing is counted right, and networks are timed once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.pipelines.reproduce import plan as planning
from compress.pipelines.reproduce import work
from compress.pipelines.reproduce.experiment import load_experiment
from compress.pipelines.reproduce.plan import Part, Plan, document_of, make_plan
from compress.pipelines.reproduce.runner import ReproduceRequest, reproduce
from compress.pipelines.reproduce.settings import Overrides, adapt
from compress.report import terminal
from compress.training.trial import Speed
from tests.pipelines.reproduce.tiny import EXPERIMENT, Quiet, make_data, make_experiment
from tests.report.rendered import assert_rendered


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Names of networks that a trial was made of; it takes 2 s an image, evaluating 1 s."""
    names: list[str] = []

    def trial(network: Any, device: torch.device, *, batch: int, bf16: bool) -> Speed:
        names.append(network.spec.name)
        return Speed(2.0, 1.0)

    monkeypatch.setattr(planning, "time_steps", trial)
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    return names


def plan(name: str, out: Path, **asked: Any) -> Plan:
    adapted = adapt(load_experiment(name), Overrides(**asked))
    return make_plan(ReproduceRequest(adapted, out, device="cpu"), lambda text: None)


def shown(found: Plan) -> str:
    return terminal.text_of(document_of(found))


def test_a_plan_on_terminals_and_in_markdown() -> None:
    parts = (
        Part("cifar10, the teacher wrn-40-10", 1, 200, 9_000_000, 6_402_120),
        Part("cifar10, wrn-10-4", 30, 6000, 270_000_000, 4_294_500),
    )
    assert_rendered(document_of(Plan(parts, 0, 60, "cpu")), "plan")


def test_it_counts_what_is_missing(tmp_path: Path, timed: list[str]) -> None:
    file = make_experiment(tmp_path, make_data(tmp_path))
    found = plan(str(file), tmp_path / "out")
    assert sorted(timed) == ["wrn-10-0.5", "wrn-10-1"]
    teacher, students = found.parts
    assert (teacher.trainings, teacher.epochs, teacher.images) == (1, 2, 180)
    # Two epochs of 90 images and 30 of validation; then a look at all 150.
    assert teacher.seconds == 2 * (90 * 2 + 30) + 150
    assert (students.trainings, students.epochs, students.images) == (6, 12, 1080)
    assert students.seconds == 12 * (90 * 2 + 30) + 6 * 2 * 60
    assert (found.finished, found.planned) == (0, 6)
    assert re.search(r"^together +7 +14 ", shown(found), re.MULTILINE)


def test_it_remembers_its_trials(tmp_path: Path, timed: list[str]) -> None:
    file = make_experiment(tmp_path, make_data(tmp_path))
    first = plan(str(file), tmp_path / "out")
    count = len(timed)
    assert plan(str(file), tmp_path / "out") == first
    assert len(timed) == count


def test_what_was_done_costs_nothing_any_more(tmp_path: Path, timed: list[str]) -> None:
    file = make_experiment(tmp_path, make_data(tmp_path))
    adapted = adapt(load_experiment(str(file)), Overrides())
    request = ReproduceRequest(adapted, tmp_path / "out", device="cpu")
    # Student of seed 0, the teacher, and the first epoch of the next.
    with pytest.raises(KeyboardInterrupt):
        reproduce(request, Quiet(stop_after=5))
    found = plan(str(file), tmp_path / "out")
    (students,) = found.parts
    assert (students.trainings, students.epochs) == (5, 9)
    assert found.finished == 1
    reproduce(request, Quiet())
    found = plan(str(file), tmp_path / "out")
    assert found.parts == ()
    assert shown(found) == "All 6 trainings are finished.\n"


def test_a_known_experiment_is_planned_without_its_data(
    tmp_path: Path, timed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_data(*_: Any, **__: Any) -> None:
        raise AssertionError("the data was asked for")

    monkeypatch.setattr(planning, "load_data", no_data)
    found = plan("logit-gan/table2", tmp_path / "out", tasks=("cifar100",))
    teacher, students = found.parts
    assert (teacher.epochs, teacher.images) == (200, 200 * 45000)
    assert (students.trainings, students.epochs) == (30, 6000)
    small = plan("logit-gan/table2", tmp_path / "out", tasks=("cifar100",), scale=0.1)
    teacher, students = small.parts
    assert (students.trainings, students.epochs, students.images) == (6, 120, 120 * 4500)
    assert small.seconds < found.seconds / 100


def test_a_teacher_that_looks_at_crops_is_counted_once_for_all_methods(
    tmp_path: Path, timed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:

    def seconds(views: int, epochs: int = 2) -> float:
        text = EXPERIMENT.replace("dropout = 0.0", f"dropout = 0.0\nviews = {views}")
        file = make_experiment(tmp_path, make_data(tmp_path), text)
        return plan(str(file), tmp_path / "out", epochs=epochs).seconds

    # 90 images, a second each: as they are, once; or in two epochs of two seeds.
    cheap = seconds(views=1) - 90
    assert seconds(views=0) - cheap == 2 * 2 * 90
    assert seconds(views=2, epochs=5) - seconds(views=1, epochs=5) == 2 * 2 * 90 - 90
    monkeypatch.setattr(work, "KEPT_BYTES", 100)
    assert seconds(views=0) - cheap == 2 * 2 * 2 * 90
    assert seconds(views=2, epochs=5) - seconds(views=1, epochs=5) == 2 * 2 * 90 - 90
