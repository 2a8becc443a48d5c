from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from compress.cli import load_command
from compress.errors import CompressError, RunFolderError, UsageError
from compress.files import clear_up
from compress.training import runfolder
from compress.training.option_names import OPTIONS, option_of, shown
from compress.training.options import TrainingOptions
from compress.training.runfolder import RunFolder, read_metrics
from compress.training.tuning import Tuning
from tests.schema.broken import answers, broken_json

CONFIG = {"command": "distill", "training": {"epochs": 3}}


def test_run_json_comes_first_and_result_json_ends_the_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", CONFIG)
    folder.begin({"machine": {"cpu": "some"}})
    written = json.loads((tmp_path / "run/run.json").read_text())
    assert written["config"] == CONFIG
    assert written["machine"] == {"cpu": "some"}
    assert {"torch", "python"} <= written["versions"].keys()
    assert not folder.finished
    folder.finish({"epochs": 3})
    assert RunFolder(tmp_path / "run", CONFIG).finished
    assert folder.result(dict) == {"schema_version": 1, "epochs": 3}


def test_what_was_written_stays_when_a_run_goes_on(tmp_path: Path) -> None:
    RunFolder(tmp_path, CONFIG).begin({"machine": "first"})
    again = RunFolder(tmp_path, CONFIG)
    again.begin({"machine": "second"})
    assert json.loads((tmp_path / "run.json").read_text())["machine"] == "first"


def test_a_run_that_goes_on_elsewhere_says_so_and_records_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = {"cpu": "one", "isa": ["avx2"], "gpu": None, "cpus": 2}
    monkeypatch.setattr(runfolder, "installed_versions", lambda: {"torch": "2.13.0"})
    assert RunFolder(tmp_path, CONFIG).begin({"machine": machine}) == ""
    assert RunFolder(tmp_path, CONFIG).begin({"machine": machine | {"cpus": 8}}) == ""
    assert "continued" not in json.loads((tmp_path / "run.json").read_text())
    monkeypatch.setattr(runfolder, "installed_versions", lambda: {"torch": "2.14.1"})
    told = RunFolder(tmp_path, CONFIG).begin({"machine": machine | {"cpu": "other"}})
    assert "resumes with torch 2.14.1, not 2.13.0; cpu other, not one" in told
    assert "may differ in the last bits" in told
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["versions"], run["machine"]) == ({"torch": "2.13.0"}, machine)
    assert [each["versions"] for each in run["continued"]] == [{"torch": "2.14.1"}]
    # Told once: it is compared with what it went on with last.
    assert RunFolder(tmp_path, CONFIG).begin({"machine": machine | {"cpu": "other"}}) == ""


def test_a_file_is_whole_as_long_as_it_is_the_one_that_was_made(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, CONFIG)
    folder.begin({})
    path = tmp_path / "student.onnx"
    path.write_text("made")
    assert not folder.is_whole("student.onnx")  # nobody has said so
    folder.keep("student.onnx")
    assert RunFolder(tmp_path, CONFIG).is_whole("student.onnx")
    path.write_text("another")
    assert not folder.is_whole("student.onnx")
    path.unlink()
    assert not folder.is_whole("student.onnx")


def test_a_finished_run_whose_files_are_others_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, CONFIG)
    folder.begin({})
    names = ("gone", "emptied", "replaced", "whole")
    for name in names:
        (tmp_path / name).write_text(name)
    folder.keep(*names)
    folder.finish({})
    assert folder.reopen(names) == ""
    assert (tmp_path / "result.json").exists()
    (tmp_path / "gone").unlink()
    (tmp_path / "emptied").write_text("")
    (tmp_path / "replaced").write_text("by somebody")
    told = folder.reopen(names)
    assert "gone is missing, emptied is empty, replaced is not the file" in told
    assert "it is now replaced.replaced" in told
    assert not folder.finished
    assert (tmp_path / "replaced.replaced").read_text() == "by somebody"
    assert sorted(path.name for path in tmp_path.glob("[!.r]*")) == ["whole"]


def test_nothing_is_written_before_the_run_begins(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", CONFIG)
    assert not (tmp_path / "run").exists()


def test_a_run_that_saved_no_training_makes_room_for_another(tmp_path: Path) -> None:
    RunFolder(tmp_path, CONFIG).begin({})
    (tmp_path / "teacher.onnx").write_text("of another teacher, perhaps")
    other = RunFolder(tmp_path, {"command": "train"})
    assert len(list(tmp_path.iterdir())) == 2
    other.begin({})
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert RunFolder(tmp_path, {"command": "train"}).existed


def test_a_kill_while_a_run_makes_room_leaves_a_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder(tmp_path, CONFIG).begin({})
    for name in ("teacher.onnx", "choice.json"):
        (tmp_path / name).write_text("of another teacher, perhaps")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    other = RunFolder(tmp_path, {"command": "train"})
    with monkeypatch.context() as patch:
        patch.setattr(runfolder, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            other.begin({})
    RunFolder(tmp_path, {"command": "train"}).begin({})
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_run_json_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[1, 2]")
    with pytest.raises(RunFolderError, match="does not describe a run"):
        RunFolder(tmp_path, CONFIG)


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    RunFolder(tmp_path, {**CONFIG, "gone": 1}).begin({})
    (tmp_path / "last.ckpt").write_text("hours of work")
    with pytest.raises(RunFolderError) as caught:
        RunFolder(tmp_path, {"command": "distill", "training": {"epochs": 9, "views": 2}})
    for difference in (
        "--epochs: 3 there, 9 here",
        "--views: not set there, 2 here",
        "gone: 1 there, unknown to this version",
    ):
        assert difference in str(caught.value)


def test_what_is_decided_later_is_noted(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", CONFIG)
    folder.begin({"machine": "first"})
    folder.note("tuning", {"fused": False})
    facts = RunFolder(tmp_path / "run", CONFIG).facts()
    assert facts["tuning"] == {"fused": False}
    assert facts["machine"] == "first"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", CONFIG)
    again = RunFolder(tmp_path / "run", CONFIG)
    with (
        folder.alone(),
        pytest.raises(RunFolderError, match="Another process uses the run folder "),
        again.alone(),
    ):
        pass
    with again.alone():
        pass


def test_what_a_killed_process_left_half_written_goes(tmp_path: Path) -> None:
    for name in (".last.ckpt.abcdef_1.ckpt", ".run.json.abcdef_1.json", ".notes", "a.abcdef_1"):
        (tmp_path / name).touch()
    with RunFolder(tmp_path / "other", CONFIG).alone():
        assert len(list(tmp_path.glob(".*"))) == 3
    clear_up(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*")) == [".notes", "a.abcdef_1", "other"]


def test_a_folder_that_cannot_be_written_to_is_an_error_of_use(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UsageError, match=r"Cannot write into .*Choose another folder"),
        RunFolder(tmp_path / "file/run", CONFIG).alone(),
    ):
        pass


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunFolderError, match=r"holds thesis.tex. Give --out"):
        RunFolder(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=r"Cannot use .*file as a run folder"):
        RunFolder(tmp_path / "file", CONFIG)


def test_every_field_of_run_json_is_compared_or_told(tmp_path: Path) -> None:
    config = {"command": "distill", "training": TrainingOptions().to_dict()}
    RunFolder(tmp_path, config).begin({"tuning": Tuning().to_dict(), "runtime_choice": None})
    document = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "last.ckpt").write_text("hours of work")

    def read(text: str) -> None:
        (tmp_path / "run.json").write_text(text)
        Tuning.from_dict(RunFolder(tmp_path, config).facts().get("tuning"))

    counts = answers(broken_json(document), read, CompressError)
    assert min(counts.values()) > 50


def test_metrics_are_read_up_to_what_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    good = '{"epoch": 1, "loss": 2.5, "validation_accuracy": null, "phase": "one"}\n'
    for line in ("[1]", "{", '{"epoch": "1"}', '{"epoch": 2, "loss": NaN}', "[" * 100_000):
        path.write_text(good + line + "\n" + good)
        assert read_metrics(path) == [json.loads(good)]
    path.write_bytes(good.encode() + b"\xff")
    assert read_metrics(path) == []


def test_what_differs_is_told_by_its_option_in_its_unit() -> None:
    """What no option says keeps its name."""
    for entry, option in {
        "training.batch_size": "--batch-size",
        "training.milestones": "training.milestones",
        "budget.latency_s": "--budget-ms",
        "budget.target.threads": "--threads",
        "recipe.temperature": "--set temperature",
        "teacher.normalization.mean": "--normalize",
        "gone": "gone",
    }.items():
        assert option_of(entry) == option
    assert shown("budget.latency_s", 0.002) == "2"
    assert shown("budget.headroom", 0.2) == "20"
    assert shown("teacher.sha256", "a" * 64) == "a file of SHA-256 aaaaaaaa..."
    assert (shown("data.flip", True), shown("student", None)) == ("yes", "none")


def test_those_options_are_there() -> None:
    known = {
        option
        for name in ("distill", "train")
        for parameter in load_command(name).params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    told = " ".join(OPTIONS.values())
    told += " ".join(f" {option_of(f'training.{each.name}')}" for each in fields(TrainingOptions))
    assert set(re.findall(r"--[a-z0-9-]+", told)) <= known
