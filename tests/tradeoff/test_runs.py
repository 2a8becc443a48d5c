from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from compress.environment import cache_folder
from compress.errors import UsageError
from compress.spec import PRECISIONS
from compress.tradeoff.predictor import Predictor
from compress.tradeoff.runs import FILE, OwnRun, load_runs, record_run, remove_runs
from tests.schema.broken import broken_json

RUN = OwnRun("a" * 64, "wrn-10-2", "kd", 30, 45_000, 0.125, 5000, 0)


# Each is no run of a network that is known here.
STRANGE: tuple[dict[str, object], ...] = (
    {"name": "small"},
    {"name": "wrn-11-4"},
    {"name": 10},
    {"error": 1.5},
    {"error": "0.1"},
    {"error": math.nan},
    {"epochs": 0},
    {"epochs": "30"},
    {"epochs": True},
    {"train_images": None},
    {"train_images": 0},
    {"recipe": ["kd"]},
    {"more": 1},
)


def test_runs_come_back_by_data_set(tmp_path: Path) -> None:
    other = replace(RUN, dataset_sha256="b" * 64)
    record_run(RUN, folder=tmp_path / "deep")
    record_run(other, folder=tmp_path / "deep")
    record_run(RUN, folder=tmp_path / "deep")
    assert load_runs("a" * 64, folder=tmp_path / "deep") == (RUN,)
    assert load_runs("b" * 64, folder=tmp_path / "deep") == (other,)
    assert load_runs("c" * 64, folder=tmp_path / "deep") == ()


def test_lines_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    record_run(RUN, folder=tmp_path)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"dataset_sha256": "aaaa"}\n{not json\n[1]\n' + "[" * 100_000 + "\n")
        for changes in STRANGE:
            file.write(json.dumps(asdict(RUN) | {"seed": 7} | changes) + "\n")
        older = {key: value for key, value in asdict(RUN).items() if key != "train_images"}
        file.write(json.dumps(older) + "\n")
    with (tmp_path / FILE).open("ab") as file:
        file.write(b"\xff\xfe\n")
    record_run(replace(RUN, seed=1), folder=tmp_path)
    runs = load_runs(RUN.dataset_sha256, folder=tmp_path)
    assert [run.seed for run in runs] == [0, 1]
    assert Predictor(runs, recipe="kd", epochs=30).own_rows == 2


@pytest.mark.parametrize("error", [-0.1, 1.5, float("nan")])
def test_an_error_that_is_no_share_is_refused(error: float, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        record_run(replace(RUN, error=error), folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="COMPRESS_CACHE"):
        record_run(RUN, folder=tmp_path / "file")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPRESS_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "compress"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/compress")
    monkeypatch.setenv("COMPRESS_CACHE", "/y")
    assert cache_folder() == Path("/y")


def test_a_pipe_in_place_of_the_runs_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE)
    assert load_runs("a" * 64, folder=tmp_path) == ()


def test_lines_that_are_broken_anywhere_are_left_out(tmp_path: Path) -> None:
    text = "".join(f"{text}\n" for _, _, text in broken_json(asdict(RUN)))
    (tmp_path / FILE).write_text(text)
    for run in load_runs(RUN.dataset_sha256, folder=tmp_path):
        assert 0 <= run.error <= 1
        assert run.epochs > 0
        assert run.train_images > 0
        assert run.images > 0
        assert run.precision in PRECISIONS


def test_runs_are_forgotten_by_training(tmp_path: Path) -> None:
    """All precisions of one together; what is no run stays, and so do the others."""
    other = replace(RUN, seed=1)
    for run in (RUN, replace(RUN, precision="int8", error=0.2), other):
        record_run(run, folder=tmp_path)
    with (tmp_path / FILE).open("a") as file:
        file.write("{another program's line\n")
    assert RUN.key != other.key
    assert remove_runs(lambda run: run.key == RUN.key, folder=tmp_path) == 1
    assert load_runs(folder=tmp_path) == (other,)
    assert "another program's line" in (tmp_path / FILE).read_text()
    assert remove_runs(lambda run: run.key == RUN.key, folder=tmp_path) == 0


def test_when_and_where_a_run_was_makes_no_other_one_of_it(tmp_path: Path) -> None:
    record_run(RUN, folder=tmp_path)
    record_run(replace(RUN, when="2026-01-01T00:00:00+00:00", folder="/x"), folder=tmp_path)
    assert len(load_runs(folder=tmp_path)) == 1
