"""The main job end to end, on a task small enough to be learned in seconds."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.data.dataset import Dataset, Split, load_dataset
from compress.data.images import StreamedImages
from compress.errors import ExportError, NoStudentFits, RunFolderError, TeacherError, UsageError
from compress.exporting import read_artifact
from compress.exporting.precision import reduced_from_onnx
from compress.exporting.quantize import Calibrated, calibrate
from compress.files import sha256_of
from compress.gate.precision import PrecisionRule
from compress.models.checkpoint import read_tensors, save_checkpoint
from compress.models.hypothesis import instantiate
from compress.models.registry import build, spec_of
from compress.pipelines.distill import DistillRequest, DistillResult
from compress.pipelines.distill import distill as run
from compress.pipelines.distill.report import document_of
from compress.pipelines.train import train
from compress.profiling.registry import available
from compress.recipes.registry import make_recipe
from compress.report import terminal
from compress.results import Estimate, Fidelity
from compress.spec import FASTEST, Budget, Target
from compress.tasks.task import Standing
from compress.tradeoff import Choice, PrecisionTrial, RuntimeChoice, table_for, write_csv
from compress.tradeoff.runs import load_runs
from compress.tradeoff.trials import FLOAT
from compress.training.listener import Progress
from compress.training.options import TrainingOptions
from compress.training.quantization_aware import FineTuning

STRIPES = ("none", "upright", "lying")
ROLES = ("teacher", "student")
OPTIONS = TrainingOptions(epochs=3, batch_size=32, dropout=0.0, lr=0.05)
ONE_THREAD = Target(threads=1)


def distill(asked: DistillRequest, listener: Listener) -> dict[str, Any]:
    """What a run comes to as result.json has it, which is read back as the same."""
    result = run(asked, listener)
    values: dict[str, Any] = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert DistillResult.from_dict(values) == result
    return values


class Listener:
    """Keeps what it is told; stops the run after some epochs, as a signal would."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.messages: list[str] = []
        self.choices: list[Choice] = []
        self.epochs = 0
        self.stop_after = stop_after

    def message(self, text: str) -> None:
        self.messages.append(text)

    def progress(self, progress: Progress) -> None:
        pass

    def choice(self, choice: Choice) -> None:
        self.choices.append(choice)

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        self.epochs += 1
        if metrics["epoch"] == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distill")


@pytest.fixture(scope="module")
def data(folder: Path) -> Dataset:
    rng = np.random.default_rng(0)

    def images(count: int) -> tuple[Any, Any]:
        labels = np.arange(count) % 3
        pixels = rng.integers(0, 100, (count, 8, 8), dtype=np.uint8)
        pixels[labels == 1, :, ::2] += 150
        pixels[labels == 2, ::2, :] += 150
        return pixels, labels

    x_train, y_train = images(400)
    x_test, y_test = images(90)
    path = folder / "stripes.npz"
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return load_dataset(str(path))


@pytest.fixture(scope="module")
def teacher(folder: Path, data: Dataset) -> Path:
    options = TrainingOptions(epochs=6, batch_size=32, dropout=0.0, lr=0.05)
    spec = spec_of("wrn-16-1")
    result = train(spec, data, folder / "teacher", options=options, listener=Listener())
    assert result.accuracy.test > 0.9
    return folder / "teacher/model.safetensors"


def request(data: Dataset, teacher: Path, out: Path, **changes: Any) -> DistillRequest:
    fields: dict[str, Any] = {
        "data": data,
        "out": out,
        "recipe": make_recipe("kd"),
        "options": OPTIONS,
        "budget": Budget(target=ONE_THREAD),
        "student": "wrn-10-0.5",
        "teacher": teacher,
        "device": "cpu",
    }
    return DistillRequest(**(fields | changes))


@pytest.fixture(scope="module")
def finished(folder: Path, data: Dataset, teacher: Path) -> dict[str, Any]:
    return distill(request(data, teacher, folder / "run"), Listener())


@pytest.mark.slow
def test_the_networks_that_no_budget_chooses(
    data: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(folder / "cache"))
    options = TrainingOptions(epochs=6, batch_size=32, dropout=0.0, lr=0.05)
    spec = spec_of("preresnet-11x0.5")
    trained = train(spec, data, folder / "bottlenecks", options=options, listener=Listener())
    assert trained.accuracy.test > 0.9
    teacher = folder / "bottlenecks/model.safetensors"
    out = folder / "inception"
    result = distill(request(data, teacher, out, student="inception-x0.125"), Listener())
    assert result["student"]["name"] == "inception-x0.125"
    assert result["student"]["accuracy"]["test"] > 0.5
    # What its run showed is no ground for predictions; the next choice is made all the same.
    table_for(
        num_classes=data.task.width,
        input_shape=data.input_shape,
        dataset_name=data.name,
        dataset_sha256=data.sha256,
    )


def test_the_run_folder_is_whole(finished: dict[str, Any], folder: Path) -> None:
    held = {path.name for path in (folder / "run").glob("[!.]*")}
    assert held == {
        "run.json",
        "metrics.jsonl",
        "last.ckpt",
        "previous.ckpt",
        "student.safetensors",
        "student.onnx",
        "teacher.onnx",
        "result.json",
    }
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    run = json.loads((folder / "run/run.json").read_text())
    options = {"temperature": 5.0, "weight": None, "standardise": False}
    assert run["config"]["recipe"] == {"name": "kd", **options}
    assert run["machine"]["cpu"]


def test_result_json_has_what_it_promises(finished: dict[str, Any], folder: Path) -> None:
    finished = json.loads((folder / "run/result.json").read_text())
    assert finished["schema_version"] == 1
    measured = finished["budget"].pop("measured_ms")
    assert measured["low"] <= measured["value"] <= measured["high"]
    assert finished["budget"] == {
        "latency_ms": None,
        "size_mb": None,
        "speedup": None,
        "batch": 1,
        "percentile": 50.0,
        "headroom": 0.0,
        "outcome": "not judged",
    }
    assert {"runtime", "precision", "threads"} <= finished["target"].keys()
    for role, name in (("teacher", "wrn-16-1"), ("student", "wrn-10-0.5")):
        model = finished[role]
        assert model["name"] == name
        assert model["params"] > 0
        assert model["macs"] > 0
        assert model["size_bytes"] == (folder / "run" / model["file"]).stat().st_size
        assert model["latency_ms"]["low"] <= model["latency_ms"]["median"]
        assert model["latency_ms"]["median"] <= model["latency_ms"]["high"]
        assert 0.5 < model["accuracy"]["test"] <= 1
        assert 0.5 < model["accuracy"]["validation"] <= 1
    assert finished["student"]["parity"]["top1_agreement"] == 1.0
    drop, accuracy = finished["accuracy_drop"], [finished[r]["accuracy"] for r in ROLES]
    assert drop["value"] == pytest.approx(accuracy[0]["test"] - accuracy[1]["test"])
    assert drop["n"] == finished["data"]["n"]["test"]
    assert drop["low"] <= drop["value"] <= drop["high"]
    assert (drop["allowed"], drop["outcome"]) == (None, None)
    assert finished["student"]["chance"]["standing"] in {each.value for each in Standing}
    assert finished["student"]["parity"]["max_abs_diff"] < 1e-4
    speedup = finished["speedup"]
    assert speedup["low"] <= speedup["value"] <= speedup["high"]
    assert (finished["recipe"], finished["epochs"], finished["seed"]) == ("kd", 3, 0)


def test_a_finished_run_is_what_its_hashes_say(
    finished: dict[str, Any], folder: Path, data: Dataset, teacher: Path, tmp_path: Path
) -> None:
    """What is damaged is made again, from what is whole: nothing is trained."""
    out = tmp_path / "copied"
    shutil.copytree(folder / "run", out)
    original = (out / "student.onnx").read_bytes()
    (out / "student.onnx").unlink()
    (out / "teacher.onnx").write_bytes(original)  # a faster one, say
    listener = Listener()
    again = distill(request(data, teacher, out), listener)
    said = " ".join(listener.messages)
    assert "student.onnx is missing, teacher.onnx is not the file that the run made" in said
    assert listener.epochs == 0
    # The file does not depend on the folder's name.
    assert (out / "student.onnx").read_bytes() == original
    assert (out / "teacher.onnx").read_bytes() == (folder / "run/teacher.onnx").read_bytes()
    assert (out / "teacher.onnx.replaced").read_bytes() == original
    assert again["student"]["sha256"] == finished["student"]["sha256"]
    assert again["teacher"]["sha256"] == finished["teacher"]["sha256"]
    once_more = Listener()
    distill(request(data, teacher, out), once_more)
    assert "is already finished" in once_more.messages[0]


def test_a_student_in_8_bits_ships_with_what_that_costs(
    folder: Path, data: Dataset, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(folder / "reduced-cache"))
    out = folder / "reduced"
    reduced = Budget(target=replace(ONE_THREAD, precision="int8"))
    result = distill(request(data, teacher, out, budget=reduced), Listener())
    shipped, floats = (read_artifact(out / name) for name in ("student.onnx", "student.fp32.onnx"))
    assert (shipped.precision, floats.precision) == ("int8", "fp32")
    assert shipped.size_bytes < floats.size_bytes
    assert result["target"]["precision"] == "int8"
    assert result["student"]["size_bytes"] == shipped.size_bytes
    assert list(result["precisions"]) == ["int8"]
    found = result["precisions"]["int8"]
    assert found["fidelity"]["images"] == len(data.validation)
    assert found["top1_agreement"] > 0.8
    # So few images cannot show that no more than half a point is lost; that counts as too much.
    assert found["outcome"] == "undecided"
    assert "images would decide" in found["why"]
    assert (
        "The student may lose more in int8 than --max-precision-loss allows: "
        in result["warnings"][-1]
    )
    assert f" {data.name} has " in result["warnings"][-1]
    assert "--validation" in result["warnings"][-1]
    # Nor that they lose as much, so it was fine-tuned, and what is better shipped.
    tuning = found["fine_tuning"]
    assert (tuning["epochs"], tuning["lr"]) == (2, pytest.approx(0.00005))
    before, after = tuning["before"]["fidelity"], tuning["after"]["fidelity"]
    assert before["float_score"] == after["float_score"]
    rule = PrecisionRule()
    assert tuning["taken"] == rule.better(Fidelity(**after), Fidelity(**before))
    assert found["fidelity"] == (after if tuning["taken"] else before)
    assert ("fine_tuned" in shipped.conversion) == tuning["taken"]
    assert not (out / "student.tuned.onnx").exists()
    # The next choice knows both.
    runs = {run.precision: run.error for run in load_runs(data.sha256)}
    assert runs["int8"] == pytest.approx(1 - found["accuracy"])
    assert runs.keys() == {"fp32", "int8"}


def said(result: dict[str, Any]) -> str:
    """What the command prints of it."""
    return terminal.text_of(document_of(DistillResult.from_dict(result)))


class StopsAfter(Listener):
    """Stops after so many epochs of any training."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.left = epochs

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_a_student_that_loses_in_8_bits_learns_to_live_with_them(
    folder: Path, data: Dataset, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(folder / "tuned-cache"))

    def bad(*arguments: Any) -> Calibrated:
        """Activations are cut off at an eighth of their ranges."""
        found = calibrate(*arguments)
        for tensor in found.ranges.data.values():
            low, high = tensor.range_value
            tensor.lowest, tensor.highest = low / 8, high / 8
        return found

    monkeypatch.setattr("compress.exporting.quantize.calibrate", bad)
    monkeypatch.setattr("compress.pipelines.distill.reduced_precision.calibrate", bad)
    out = folder / "tuned"
    reduced = Budget(target=replace(ONE_THREAD, precision="int8"))
    asked = request(data, teacher, out, budget=reduced, fine_tuning=FineTuning(6, 0.002))
    with pytest.raises(KeyboardInterrupt):
        distill(asked, StopsAfter(OPTIONS.epochs + 2))
    # The folder may have been moved since.
    out = out.rename(folder / "moved")
    listener = Listener()
    result = distill(replace(asked, out=out), listener)
    assert any("Resuming after epoch 2 of 6." in text for text in listener.messages)
    found = result["precisions"]["int8"]
    tuning = found["fine_tuning"]
    assert tuning["taken"] is True
    assert tuning["before"]["accuracy"] < 0.8 < tuning["after"]["accuracy"]
    assert found["accuracy"] == tuning["after"]["accuracy"]
    assert result["student"]["accuracy"]["validation"] == pytest.approx(found["accuracy"])
    assert result["student"]["sha256"] == sha256_of(out / "student.onnx")
    shipped = read_artifact(out / "student.onnx")
    assert shipped.conversion["fine_tuned"] == "6 epochs of kd from a learning rate of 0.002."
    assert any("The fine-tuned student is used: " in text for text in listener.messages)
    assert "Fine-tuned in int8 for 6 epochs from a learning rate of 0.002, used: before, " in said(
        result
    )
    # What it is compared with is the float student, which stays.
    assert shipped.source["float_sha256"] == sha256_of(out / "student.fp32.onnx")


def test_a_student_that_cannot_be_served_is_not_trained(
    folder: Path, data: Dataset, teacher: Path
) -> None:
    reduced = Budget(target=replace(ONE_THREAD, precision="bf16"))
    listener = Listener()
    with pytest.raises(UsageError, match=r"cannot be served in bf16: onnxruntime does not run it"):
        distill(request(data, teacher, folder / "unserved", budget=reduced), listener)
    assert not any("Training" in text for text in listener.messages)


def test_fine_tuning_that_diverges_loses_no_student(
    folder: Path, data: Dataset, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(folder / "diverged-cache"))
    reduced = Budget(target=replace(ONE_THREAD, precision="int8"))
    asked = request(
        data, teacher, folder / "diverged", budget=reduced, fine_tuning=FineTuning(2, 1e30)
    )
    listener = Listener()
    result = distill(asked, listener)
    tuning = result["precisions"]["int8"]["fine_tuning"]
    assert (tuning["after"], tuning["taken"]) == (None, False)
    assert tuning["before"]["accuracy"] == result["precisions"]["int8"]["accuracy"]
    assert any(
        "from before fine-tuning is used. Try a lower --qat-lr" in text
        for text in listener.messages
    )
    assert "rate of 1e+30: it diverged, so the student from before ships." in said(result)


def test_more_images_are_taken_where_some_do_not_decide(
    folder: Path, data: Dataset, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(folder / "more-cache"))
    monkeypatch.setattr("compress.pipelines.distill.reduced_precision.STREAMED_PROOF_IMAGES", 10)
    rows = torch.arange(len(data.validation))
    streamed = replace(
        data,
        validation=Split(
            StreamedImages(torch.as_tensor(data.validation.images[:]), rows),
            data.validation.targets,
        ),
    )
    reduced = Budget(target=replace(ONE_THREAD, precision="int8"))
    asked = request(
        streamed, teacher, folder / "more", budget=reduced, fine_tuning=FineTuning(epochs=0)
    )
    listener = Listener()
    result = distill(asked, listener)
    count = len(data.validation)
    assert f"10 images do not decide what int8 loses; going on to all {count}." in (
        listener.messages
    )
    found = result["precisions"]["int8"]
    assert found["fidelity"]["images"] == count
    assert found["fine_tuning"] is None


def test_auto_ships_the_precision_that_was_chosen_and_measures_the_others(
    folder: Path, data: Dataset, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(folder / "auto-cache"))
    trials = (
        FLOAT,
        PrecisionTrial("fp16", True, False, "not shown to be faster"),
        PrecisionTrial("bf16", False, False, "not run"),
        PrecisionTrial("int8", True, True, "faster"),
    )
    monkeypatch.setattr(
        "compress.pipelines.distill.choosing.try_precisions", lambda *_, **__: trials
    )
    out = folder / "auto"
    # The smallest candidate takes 318 kB in fp32.
    small = Budget(size_bytes=2e5, target=replace(ONE_THREAD, precision="auto"))
    asked = request(data, teacher, out, student=None, budget=small)
    with pytest.raises(KeyboardInterrupt):
        distill(asked, Listener(stop_after=2))
    # What goes on takes what was chosen.
    monkeypatch.setattr("compress.pipelines.distill.choosing.try_precisions", None)
    result = distill(asked, Listener())
    assert result["target"]["precision"] == result["student"]["precision"] == "int8"
    assert result["student"]["name"] == "wrn-10-1"
    assert result["student"]["size_bytes"] <= 2e5
    assert list(result["precisions"]) == ["fp16", "int8"]
    assert result["precisions"]["fp16"]["top1_agreement"] > 0.95
    assert read_artifact(out / "student.onnx").precision == "int8"
    rows = (out / "tradeoff.csv").read_text().splitlines()
    assert sum(",not faster," in row for row in rows) == 65

    # What does not ship is told where it cannot be had, and ends nothing.
    def only_int8(source: Path, path: Path, precision: str, **more: Any) -> Any:
        if precision != "int8":
            raise ExportError("It cannot be had.")
        return reduced_from_onnx(source, path, precision, **more)

    monkeypatch.setattr("compress.pipelines.distill.reduced_precision.reduced_from_onnx", only_int8)
    (out / "result.json").unlink()
    result = distill(asked, Listener())
    assert result["precisions"]["fp16"]["why"] == "It cannot be had."
    assert result["target"]["precision"] == "int8"


def test_a_named_student_has_a_named_precision(folder: Path, data: Dataset, teacher: Path) -> None:
    with pytest.raises(UsageError, match="Name the precision, too"):
        request(data, teacher, folder / "a", budget=Budget(target=Target(precision="auto")))
    with pytest.raises(UsageError, match="--max-precision-loss is 0"):
        request(data, teacher, folder / "a", max_precision_loss=0.0)
    with pytest.raises(UsageError, match="--qat-lr are only for int8, but --precision is f"):
        request(data, teacher, folder / "a", fine_tuning=FineTuning(3))


def test_a_finished_run_is_reported_and_not_touched(
    finished: dict[str, Any], folder: Path, data: Dataset, teacher: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "run").iterdir()}
    listener = Listener()
    assert distill(request(data, teacher, folder / "run"), listener) == finished
    assert "already finished" in listener.messages[0]
    assert {path: path.stat().st_mtime_ns for path in (folder / "run").iterdir()} == before


def test_another_seed_into_the_same_folder_is_refused(
    finished: dict[str, Any], folder: Path, data: Dataset, teacher: Path
) -> None:
    other = TrainingOptions(epochs=3, batch_size=32, dropout=0.0, lr=0.05, seed=9)
    with pytest.raises(RunFolderError, match=r"holds a run with another configuration"):
        distill(request(data, teacher, folder / "run", options=other), Listener())


def test_an_interrupted_run_ends_with_the_same_student(
    finished: dict[str, Any], folder: Path, data: Dataset, teacher: Path
) -> None:
    stopped = request(data, teacher, folder / "stopped")
    with pytest.raises(KeyboardInterrupt):
        distill(stopped, Listener(stop_after=2))
    assert not (folder / "stopped/result.json").exists()
    again = distill(stopped, Listener())
    for name in ("student.safetensors", "teacher.onnx"):
        first, second = (folder / run / name for run in ("run", "stopped"))
        weights = [read_tensors(path).tensors for path in (first, second) if "safe" in name]
        if weights:
            assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert again["student"]["accuracy"] == finished["student"]["accuracy"]


@pytest.mark.slow
def test_the_fastest_runtime_is_found_once_and_stays_the_run_s(
    data: Dataset, teacher: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(target=Target(runtime=FASTEST, threads=1))
    found = RuntimeChoice("openvino", "It took less.", {"onnxruntime": Estimate(1.5, 1.4, 1.6)})
    asked: list[Budget] = []

    def choose(budget: Budget, **_: Any) -> RuntimeChoice:
        asked.append(budget)
        return found

    monkeypatch.setattr("compress.pipelines.distill.choosing.choose_runtime", choose)
    wanted = request(data, teacher, folder / "fastest", budget=budget)
    with pytest.raises(KeyboardInterrupt):
        distill(wanted, Listener(stop_after=1))
    written = json.loads((folder / "fastest/run.json").read_text())
    assert written["runtime_choice"]["runtime"] == "openvino"
    result = distill(wanted, Listener())
    assert asked == [budget]
    assert result["target"]["runtime"] == "openvino"
    assert result["runtime_choice"] == found.to_dict() == written["runtime_choice"]
    assert result["student"]["accuracy"]["test"] > 0.5  # as OpenVINO runs the file


def test_a_runtime_that_is_not_there_is_told_before_anything_is_done(
    data: Dataset, teacher: Path, folder: Path
) -> None:
    if available("onnxruntime-cuda"):
        pytest.skip("it is there")
    target = Target(runtime="onnxruntime-cuda", device="cuda", threads=1)
    with pytest.raises(UsageError, match="onnxruntime-gpu"):
        request(data, teacher, folder / "absent", budget=Budget(target=target))


def test_a_budget_chooses_the_student_and_says_why(
    folder: Path, data: Dataset, teacher: Path
) -> None:
    out, listener = folder / "chosen", Listener()
    budget = Budget(size_bytes=400_000, target=ONE_THREAD)
    result = distill(request(data, teacher, out, student=None, budget=budget), listener)
    assert result["student"]["size_bytes"] <= 400_000
    assert result["budget"]["outcome"] == "kept"
    with (out / "tradeoff.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    chosen = [row for row in rows if row["status"] == "chosen"]
    assert [row["candidate"] for row in chosen] == [result["student"]["name"]]
    assert len(rows) > 50
    assert all(row["why"] for row in rows)
    assert [choice.spec.name for choice in listener.choices] == [result["student"]["name"]]


def test_an_impossible_budget_names_the_nearest_and_another_may_be_tried(
    folder: Path, data: Dataset, teacher: Path
) -> None:
    out, budget = folder / "none", Budget(size_bytes=1000, target=ONE_THREAD)
    with pytest.raises(NoStudentFits, match="nearest is wrn-10-1"):
        distill(request(data, teacher, out, student=None, budget=budget), Listener())
    assert not (out / "student.onnx").exists()
    result = distill(request(data, teacher, out), Listener())
    assert result["student"]["name"] == "wrn-10-0.5"


def test_a_cache_that_cannot_be_written_loses_no_run(
    folder: Path, data: Dataset, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a-file").touch()
    monkeypatch.setenv("COMPRESS_CACHE", str(folder / "a-file"))
    listener = Listener()
    options = TrainingOptions(epochs=1, batch_size=32, dropout=0.0, lr=0.05)
    distill(request(data, teacher, folder / "uncached", options=options), listener)
    assert (folder / "uncached/result.json").exists()
    assert "not recorded for later choices" in listener.messages[-1]


@pytest.mark.slow
def test_figures_of_another_machine_cannot_be_confirmed_here(
    folder: Path, data: Dataset, teacher: Path
) -> None:
    saved = folder / "server.csv"
    budget = Budget(latency_s=1.0, size_bytes=400_000, target=ONE_THREAD)
    write_csv(saved, table_for(num_classes=3, input_shape=(1, 8, 8)).select(budget))
    text = saved.read_text().replace('"cpus": ', '"cpus": 9')
    assert text != saved.read_text()
    saved.write_text(text)
    options = TrainingOptions(epochs=1, batch_size=32, dropout=0.0, lr=0.05)
    asked = request(
        data,
        teacher,
        folder / "there",
        student=None,
        budget=budget,
        tradeoff=saved,
        options=options,
    )
    result = distill(asked, Listener())
    assert result["budget"]["outcome"] == "not judged"
    assert "table from another machine" in result["warnings"][0]


def test_a_teacher_that_knows_nothing_stops_the_run(folder: Path, data: Dataset) -> None:
    torch.manual_seed(0)
    spec = spec_of("wrn-16-1", num_classes=3, input_shape=(1, 8, 8))
    save_checkpoint(folder / "untrained.safetensors", build(spec), normalization=None)
    with pytest.raises(TeacherError, match="chance"):
        distill(request(data, folder / "untrained.safetensors", folder / "no"), Listener())
    assert not (folder / "no").exists()


def test_a_student_or_a_budget_has_to_be_given(data: Dataset, teacher: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="No budget was given"):
        request(data, teacher, folder / "x", student=None)
    with pytest.raises(UsageError, match="no effect"):
        request(data, teacher, folder / "x", tradeoff=folder / "table.csv")


def test_the_student_s_checkpoint_is_the_file_s_network(
    finished: dict[str, Any], folder: Path, data: Dataset
) -> None:
    checkpoint = read_tensors(folder / "run/student.safetensors")
    network = instantiate(checkpoint.hypotheses()[0])
    assert network.spec.name == "wrn-10-0.5"
    assert checkpoint.normalization == data.normalization
