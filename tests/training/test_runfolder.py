from __future__ import annotations

import json
from pathlib import Path

import pytest

from compress.errors import RunFolderError, UsageError
from compress.training.runfolder import RunFolder

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
    assert folder.result() == {"schema_version": 1, "epochs": 3}


def test_what_was_written_stays_when_a_run_goes_on(tmp_path: Path) -> None:
    RunFolder(tmp_path, CONFIG).begin({"machine": "first"})
    again = RunFolder(tmp_path, CONFIG)
    again.begin({"machine": "second"})
    assert json.loads((tmp_path / "run.json").read_text())["machine"] == "first"


def test_nothing_is_written_before_the_run_begins(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", CONFIG)
    assert not (tmp_path / "run").exists()


def test_a_run_that_saved_no_training_makes_room_for_another(tmp_path: Path) -> None:
    RunFolder(tmp_path, CONFIG).begin({})
    (tmp_path / "teacher.onnx").write_text("of another teacher, perhaps")
    other = RunFolder(tmp_path, {"command": "train"})
    assert not list(tmp_path.iterdir())
    other.begin({})
    assert RunFolder(tmp_path, {"command": "train"}).existed


def test_a_run_json_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[1, 2]")
    with pytest.raises(RunFolderError, match="does not describe a run"):
        RunFolder(tmp_path, CONFIG)


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    RunFolder(tmp_path, CONFIG).begin({})
    (tmp_path / "last.ckpt").write_text("hours of work")
    with pytest.raises(RunFolderError, match=r"training: \{'epochs': 3\} there, \{'epochs': 9\}"):
        RunFolder(tmp_path, {"command": "distill", "training": {"epochs": 9}})


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunFolderError, match=r"holds thesis.tex. Give --out"):
        RunFolder(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=r"Cannot use .*file as a run folder"):
        RunFolder(tmp_path / "file", CONFIG)
