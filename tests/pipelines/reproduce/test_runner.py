"""reproduce.runner: what is missing is trained, once, and the table says what there is."""

from __future__ import annotations

import csv
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compress.errors import Inconclusive, RunFolderError
from compress.files import try_lock
from compress.pipelines.reproduce import runner, work
from compress.pipelines.reproduce.experiment import load_experiment
from compress.pipelines.reproduce.runner import ReproduceRequest, reproduce
from compress.pipelines.reproduce.settings import Overrides, adapt
from compress.pipelines.reproduce.table import Report
from tests.pipelines.reproduce.tiny import EXPERIMENT, Quiet, make_data, make_experiment

METHODS = ("student", "kd-t=5", "logit-gan")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("declared")
    return make_experiment(folder, make_data(folder))


@pytest.fixture(scope="module")
def whole(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    run(file, out)
    return out


def run(file: Path, out: Path, listener: Quiet | None = None, **asked: Any) -> Report:
    max_s = asked.pop("max_s", None)
    adapted = adapt(load_experiment(str(file)), Overrides(**asked))
    request = ReproduceRequest(adapted, out, device="cpu", max_s=max_s)
    return reproduce(request, listener or Quiet())


def figures(out: Path) -> list[dict[str, str]]:
    """The lines of table.csv."""
    text = (out / "table.csv").read_text().splitlines()
    return list(csv.DictReader(line for line in text if not line.startswith("#")))


def students(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Every student's weights by the place of its file."""
    return {
        str(path.relative_to(out)): load_file(path)
        for path in sorted((out / "runs").rglob("*.safetensors"))
    }


def same_students(one: Path, other: Path) -> bool:
    first, second = students(one), students(other)
    return list(first) == list(second) and all(
        torch.equal(value, second[place][name])
        for place, weights in first.items()
        for name, value in weights.items()
    )


def test_it_trains_everything_and_says_what_it_found(whole: Path) -> None:
    results = json.loads((whole / "results.json").read_text())
    assert (results["finished"], results["planned"]) == (6, 6)
    (task,) = results["tasks"]
    assert task["data"]["n"] == {"train": 90, "validation": 30, "test": 30}
    places = [(each["method"], each["seed"]) for each in task["trainings"]]
    assert places == [(m, s) for s in (0, 1) for m in ("student", "KD T=5", "logit-GAN")]
    for each in task["trainings"]:
        assert each["last"]["epoch"] == each["epochs"] == 2
        assert each["best"]["epoch"] in (1, 2)
        for which in ("last", "best"):
            assert 0 <= each[which]["test"] <= 1
    lines = figures(whole)
    assert [(line["method"], line["which"]) for line in lines[:2]] == [
        ("student", "last"),
        ("student", "best"),
    ]
    student = lines[0]
    errors = [100 * (1 - each["last"]["test"]) for each in task["trainings"][::3]]
    assert float(student["mean"]) == pytest.approx(sum(errors) / 2, abs=1e-3)
    assert float(student["standard_deviation"]) == pytest.approx(
        abs(errors[0] - errors[1]) / 2**0.5, abs=1e-3
    )
    assert (student["n"], student["paper"]) == ("2", "7.46")


def test_the_table_says_what_it_rests_on(whole: Path) -> None:
    text = (whole / "table.md").read_text()
    for words in (
        "# Stripes",
        "Nobody, Table 1; one run",
        "90 training, 30 validation and 30 test images",
        "2 epochs, batch 32",
        "Teacher: wrn-10-1, trained here for 2 epochs",
        "The paper has cats.",
        "Seeds: 0, 1",
        "torch",
        "| teacher |",
        "| 7.46 |",
    ):
        assert words in text
    assert "Not finished" not in text
    assert "declared experiment" not in text


def test_what_is_finished_is_not_trained_again(file: Path, whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (whole / "runs").rglob("result.json")}
    listener = Quiet()
    report = run(file, whole, listener)
    assert listener.epochs == 0
    assert report.finished == 6
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not list(whole.rglob("last.ckpt")) or "teachers" in str(next(whole.rglob("last.ckpt")))


def test_a_method_with_a_new_name_for_the_same_place_keeps_its_trainings(
    file: Path, whole: Path, tmp_path: Path
) -> None:
    text = file.read_text()
    renamed = tmp_path / file.name
    assert '"logit-GAN"' in text
    renamed.write_text(text.replace('"logit-GAN"', '"Logit GAN"'))
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    report = run(renamed, out, Quiet())
    assert report.finished == 6
    (row,) = [line for line in (out / "table.md").read_text().splitlines() if "Logit GAN" in line]
    assert "| 2 |" in row


def test_one_teacher_and_one_computation_of_its_logits_serve_all(
    file: Path, tmp_path: Path
) -> None:
    listener = Quiet()
    run(file, tmp_path, listener)
    said = "\n".join(listener.messages)
    assert said.count("Training the teacher") == 1
    assert said.count("Computing the teacher's outputs") == 1
    again = Quiet()
    run(file, tmp_path, again, seeds=(2,))
    said = "\n".join(again.messages)
    assert "Training the teacher" not in said
    assert "Computing the teacher's outputs" not in said
    assert again.epochs == 6


def test_stored_logits_that_are_damaged_are_computed_again(
    file: Path, whole: Path, tmp_path: Path
) -> None:
    run(file, tmp_path, seeds=(0,), methods=("student", "KD T=5"))
    (path,) = tmp_path.glob("teachers/stripes/outputs/*/values.npy")
    good = path.read_bytes()
    path.write_bytes(good[:-3] + bytes([good[-3] ^ 0x55]) + good[-2:])
    listener = Quiet()
    run(file, tmp_path, listener, seeds=(1,), methods=("KD T=5",))
    assert any("computed again" in text for text in listener.messages)
    assert path.read_bytes() == good
    there = "runs/stripes/wrn-10-0.5/kd-t=5/seed1/last.safetensors"
    assert torch.equal(
        load_file(tmp_path / there)["linear.weight"], load_file(whole / there)["linear.weight"]
    )


@pytest.mark.parametrize("stop_after", [1, 3, 6, 9])
def test_what_was_interrupted_goes_on_to_the_same_table(
    stop_after: int, file: Path, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(file, tmp_path, Quiet(stop_after))
    rest = Quiet()
    run(file, tmp_path, rest)
    # The epoch after which it was stopped had been saved.
    assert rest.epochs == 14 - stop_after
    assert figures(tmp_path) == figures(whole)
    assert same_students(tmp_path, whole)


def test_when_time_is_over_there_is_a_table_of_what_there_is(
    file: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Quiet()
    moments = itertools.count()
    # An epoch takes a minute, and what is between two looks at the clock next to nothing.
    monkeypatch.setattr(
        "compress.pipelines.reproduce.runner.time.monotonic",
        lambda: 60 * listener.epochs + 1e-3 * next(moments),
    )
    with pytest.raises(Inconclusive, match="1 of 6 trainings") as caught:
        run(file, tmp_path, listener, max_s=5 * 60)
    assert caught.value.exit_code == 3
    # Two epochs of the student, two of the teacher, the first of the next student.
    assert listener.epochs == 5
    assert "Not finished: 1 of 6 trainings." in (tmp_path / "table.md").read_text()
    monkeypatch.undo()
    run(file, tmp_path)
    assert figures(tmp_path) == figures(whole)


def test_another_configuration_is_refused_before_anything_is_trained(
    file: Path, whole: Path
) -> None:
    listener = Quiet()
    with pytest.raises(RunFolderError):
        run(file, whole, listener, epochs=3)
    assert listener.epochs == 0
    assert len(figures(whole)) == 6


def test_test_images_decide_nothing(file: Path, whole: Path, tmp_path: Path) -> None:
    """With other labels of the test images the same students come out, and other figures."""
    data = make_data(tmp_path, test_labels=1)
    other = make_experiment(tmp_path, data)
    run(other, tmp_path / "out")
    assert same_students(tmp_path / "out", whole)
    assert figures(tmp_path / "out") != figures(whole)
    chosen = [
        [
            (each["last"]["validation"], each["best"]["epoch"], each["best"]["validation"])
            for each in json.loads((out / "results.json").read_text())["tasks"][0]["trainings"]
        ]
        for out in (tmp_path / "out", whole)
    ]
    assert chosen[0] == chosen[1]


def test_a_training_that_diverges_is_told_and_holds_nothing_up(tmp_path: Path) -> None:
    text = EXPERIMENT.replace("lr = 0.05", "lr = 1e30").replace("seeds = [0, 1]", "seeds = [0]")
    declared = make_experiment(tmp_path, make_data(tmp_path), text)
    listener = Quiet()
    report = run(declared, tmp_path / "out", listener, methods=("student",))
    assert report.finished == 1
    assert "Diverged: wrn-10-0.5, student, seed 0. The loss became" in (
        (tmp_path / "out/table.md").read_text()
    )
    assert figures(tmp_path / "out")[0]["n"] == "0"
    again = run(declared, tmp_path / "out", methods=("student",))
    assert again.finished == 1


# --- Several processes ---------------------------------------------------------------------------


def test_a_training_that_another_process_is_at_is_left_to_it(
    file: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / "runs/stripes/wrn-10-0.5/student/seed0"
    monkeypatch.setattr(runner, "WAIT_S", 0.0)

    class Waiting(Quiet):
        """Lets time be over when the runner begins to wait."""

        def message(self, text: str) -> None:
            super().message(text)
            if "Another process trains" in text:
                raise runner.TimeOver

    listener = Waiting()
    with try_lock(taken) as mine:
        assert mine
        with pytest.raises(Inconclusive, match="5 of 6 trainings"):
            run(file, tmp_path, listener, max_s=float("inf"))
    assert not (taken / "run.json").exists()
    run(file, tmp_path)
    assert figures(tmp_path) == figures(whole)


def work_at(file: Path, out: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    run(file, out)


@pytest.mark.slow
def test_two_processes_at_once_make_the_same_table(file: Path, whole: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work_at, args=(file, tmp_path, 1)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(200)
        assert worker.exitcode == 0
    assert [line["n"] for line in figures(tmp_path)] == ["2"] * 6
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 6


def test_a_killed_process_leaves_nothing_that_blocks(
    file: Path, whole: Path, tmp_path: Path
) -> None:
    # The last bits of a student depend on the threads, so the worker has as many as this process.
    arguments = (file, tmp_path, torch.get_num_threads())
    worker = multiprocessing.get_context("spawn").Process(target=work_at, args=arguments)
    worker.start()
    metrics = tmp_path / "runs/stripes/wrn-10-0.5/student/seed0/metrics.jsonl"
    end_s = time.monotonic() + 120
    while not metrics.exists() and time.monotonic() < end_s:
        time.sleep(0.01)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    run(file, tmp_path)
    assert figures(tmp_path) == figures(whole)
    assert same_students(tmp_path, whole)


# --- Teachers ------------------------------------------------------------------------------------


def test_a_teacher_that_is_given(file: Path, whole: Path, tmp_path: Path) -> None:
    given = whole / "teachers/stripes/teacher.safetensors"
    report = run(file, tmp_path, teachers={"": given}, seeds=(0,))
    assert report.tasks[0].teacher is not None
    assert report.tasks[0].teacher.spec.name == "wrn-10-1"
    text = (tmp_path / "table.md").read_text()
    assert "the file teacher.safetensors" in text
    assert "seeds 0 instead of 0, 1" in text
    kd = "runs/stripes/wrn-10-0.5/kd-t=5/seed0/last.safetensors"
    assert torch.allclose(
        load_file(tmp_path / kd)["linear.weight"],
        load_file(whole / kd)["linear.weight"],
        atol=1e-5,
    )
    with pytest.raises(RunFolderError, match="another teacher"):
        run(file, tmp_path, seeds=(0,))


def test_without_a_method_that_learns_from_one_no_teacher_is_made(
    file: Path, tmp_path: Path
) -> None:
    report = run(file, tmp_path, methods=("student",), seeds=(0,))
    assert report.finished == 1
    assert not (tmp_path / "teachers").exists()


def test_scale_shrinks_and_is_said(file: Path, tmp_path: Path) -> None:
    report = run(file, tmp_path, scale=0.5, methods=("student",))
    assert report.planned == 1
    assert report.tasks[0].n["train"] == 45
    text = (tmp_path / "table.md").read_text()
    for words in ("scale 0.5", "seeds 0 instead of 0, 1", "epochs 1 instead of 2", "45 training"):
        assert words in text


def test_the_epoch_s_validation_may_be_of_a_part(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = EXPERIMENT.replace(
        "seeds = [0, 1]", "seeds = [0]\nvalidate_images = 9\ncurve_images = 7"
    )
    declared = make_experiment(tmp_path, make_data(tmp_path), text)
    run(declared, tmp_path / "out", methods=("student",))
    folder = tmp_path / "out/runs/stripes/wrn-10-0.5/student/seed0"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert line["validation_accuracy"] * 9 == pytest.approx(
            round(line["validation_accuracy"] * 9)
        )
        assert line["train_accuracy"] * 7 == pytest.approx(round(line["train_accuracy"] * 7))
    result = json.loads((folder / "result.json").read_text())
    assert result["last"]["validation"] * 30 == pytest.approx(
        round(result["last"]["validation"] * 30)
    )


def test_a_stored_teacher_that_was_changed_is_refused(
    file: Path, whole: Path, tmp_path: Path
) -> None:
    run(file, tmp_path, seeds=(0,), methods=("KD T=5",))
    path = tmp_path / "teachers/stripes" / work.TEACHER
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(Exception, match=r"is not the file that teacher\.json"):
        run(file, tmp_path, seeds=(1,), methods=("KD T=5",))
