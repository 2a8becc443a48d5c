from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.cli import main
from compress.models.registry import spec_of
from compress.profiling.inputs import Sample
from compress.profiling.timing import ModelTiming, time_model
from compress.recipes.registry import DEFAULT_RECIPE
from compress.spec import Budget
from compress.tradeoff import measure, write_csv
from tests.tradeoff.test_table import AUTOMATIC, auto_table, table

HERE = ["--threads", "1", "--num-classes", "10", "--input-shape", "3,32,32"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def saved(tmp_path: Path) -> str:
    path = tmp_path / "grid.csv"
    write_csv(path, table(spec_of("wrn-40-4")).measure_all(Budget()))
    return str(path)


def test_the_table_fits_eighty_columns_and_marks_the_chosen(
    saved: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    budget = ["--budget-ms", "3", "--headroom", "10%"]
    assert main(["select", *budget, "--tradeoff", saved, *HERE]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    head = next(line for line in lines if "candidate" in line)
    assert all(word in head for word in ("params", "MACs", "latency", "(95%)", "size", "error"))
    (chosen,) = [line for line in lines if line.startswith(">")]
    name = chosen.split()[1]
    assert chosen.rstrip().endswith("chosen")
    assert lines[-1].startswith(f"chosen: {name}, ")
    rows = lines[lines.index(head) : lines.index(chosen) + 1]
    assert max(map(len, rows)) <= 80
    assert "too slow" in out
    asked = (
        "Asked: median of a call at most 2.70 ms (10% of 3.00 ms left free); onnxruntime, fp32, "
    )
    assert f"{asked}batch 1, 1 thread." in out
    assert "In leave-one-out tests the prediction is off by" in out
    assert "\x1b[" not in out


def test_json(saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["select", "--budget-ms", "3", "--budget-mb", "4", "--tradeoff", saved, "--json"]
    assert main([*arguments, "--headroom", "0", *HERE]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["budget"]["headroom"] == 0
    assert result["limits"] == {"latency_ms": 3.0, "size_bytes": 4e6}
    (chosen,) = [row for row in result["candidates"] if row["status"] == "chosen"]
    assert chosen["name"] == result["student"]
    assert chosen["latency_ms"]["high"] <= 3
    assert chosen["size_bytes"] <= 4e6


def test_precision_is_a_part_of_the_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.csv"
    write_csv(path, auto_table().measure_all(AUTOMATIC))
    asked = ["select", "--budget-ms", "3", "--tradeoff", str(path), *HERE]
    assert main([*asked, "--precision", "auto"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("chosen: wrn-")
    assert " int8, " in out.splitlines()[-1]
    assert "fp16: not shown to be faster." in out
    assert "bf16: this machine does not run it." in out
    assert "cost of reduced precision, in points: 0.01 in fp16, 0.20 in int8." in out
    assert main([*asked, "--precision", "int8", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["precision"] == "int8"
    assert {row["precision"] for row in result["candidates"]} == {"int8"}
    assert main([*asked, "--precision", "int4"]) == 2
    assert "no precision 'int4'. Did you mean 'int8'?" in capsys.readouterr().err


def test_the_recipe_is_the_one_that_distill_takes(
    saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = []
    for recipe in ([], ["--recipe", DEFAULT_RECIPE], ["--recipe", "supervised"]):
        asked = ["select", "--budget-ms", "3", "--tradeoff", saved, "--json", *HERE, *recipe]
        assert main(asked) == 0
        result = json.loads(capsys.readouterr().out)
        errors.append([row["predicted_error"] for row in result["candidates"]])
    assert errors[0] == errors[1] != errors[2]


def test_an_impossible_budget_ends_with_1_and_the_nearest(
    saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["select", "--budget-ms", "0.001", "--tradeoff", saved, *HERE]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "The nearest is wrn-10-1: " in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "No budget was given"),
        (["--budget-ms", "-1", "--batch", "0"], "--budget-ms is -1"),
        (["--budget-ms", "nan"], "--budget-ms is nan"),
        (["--budget-ms", "2", "--percentile", "100"], "--percentile is 100"),
        (["--budget-ms", "2", "--threads", "0"], "--threads is 0"),
        (["--budget-ms", "2", "--headroom", "100%"], "--headroom is 100%, it must be"),
        (["--budget-ms", "2", "--headroom", "much"], "--headroom is 'much'; it takes percents"),
        (["--budget-mb", "2", "--headroom", "5%"], "--headroom is a part of --budget-ms"),
        (["--budget-ms", "2", "--input-shape", "3,32"], "takes channels, height and width"),
        (["--budget-ms", "2", "--input-shape", "3,4,4"], "images must be 8x8 or larger"),
        (["--budget-ms", "2", "--num-classes", "1", "--input-shape", "3,8,8"], "num_classes is 1"),
        (["--budget-ms", "2", "--tradeoff", "no.csv"], "There is no file no.csv"),
        (["--budget-ms", "2", "--tradeoff", __file__, "--all"], "excludes --all and --save"),
        (["--speedup", "2", "--num-classes", "10"], "with --teacher"),
        (["--speedup", "2", "--teacher", "no.pt"], "no.pt"),
        (["--budget-ms", "2", "--data", "no-such-data"], "no-such-data"),
        (["--budget-ms", "2", "--recipe", "nonsense"], "There is no recipe 'nonsense'"),
        (["--budget-ms", "2", "--epochs", "0"], "--epochs"),
        (
            ["--budget-ms", "2", "--data-dir", "d"],
            "--data-dir needs --data",
        ),
        (["--budget-ms", "2", "--limit-train", "500"], "--limit-train"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["select", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(("virtual", "headroom"), [(True, 0.2), (False, 0.03)])
def test_what_is_left_free_is_what_the_machine_of_the_table_needs(
    tmp_path: Path, virtual: bool, headroom: float, capsys: pytest.CaptureFixture[str]
) -> None:
    laboratory = table(spec_of("wrn-40-4"))
    laboratory._measurer.machine = {"cpu": "made for tests", "virtual": virtual}
    path = tmp_path / "there.csv"
    write_csv(path, laboratory.measure_all(Budget()))
    assert main(["select", "--budget-ms", "2", *HERE, "--tradeoff", str(path)]) == 0
    assert f"{headroom:.0%} of 2.00 ms left free" in capsys.readouterr().out


def test_networks_are_timed_on_images_where_there_are_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Sample | None] = []

    def timed(path: Path, *, sample: Sample | None, **options: Any) -> ModelTiming:
        seen.append(sample)
        return time_model(path, sample=sample, **options)

    monkeypatch.setattr(measure, "time_model", timed)
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    y = np.arange(40) % 3
    np.savez(tmp_path / "small.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    data = ["--data", str(tmp_path / "small.npz"), "--threads", "1", "--no-cache"]
    assert main(["select", "--budget-mb", "0.4", *data]) == 0
    assert "Networks are timed on images of small." in capsys.readouterr().err
    (sample,) = seen
    assert sample is not None
    assert sample.pixels.shape == (4, 1, 8, 8)


def test_a_real_choice_by_size_is_saved_and_chosen_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only wrn-10-1 is smaller than 0.4 MB, so one network is built, exported and timed."""
    where = ["--num-classes", "3", "--input-shape", "1,8,8", "--threads", "1"]
    saved = str(tmp_path / "table.json")
    assert main(["select", "--budget-mb", "0.4", *where, "--save", saved, "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["student"] == "wrn-10-1"
    assert "Timing wrn-10-1" in captured.err
    assert "Networks are timed on seeded noise; give --data" in captured.err
    (row,) = [row for row in result["candidates"] if row["latency_ms"] is not None]
    assert 0 < row["latency_ms"]["low"] <= row["latency_ms"]["high"] < 1000
    assert main(["select", "--budget-mb", "0.4", *where, "--tradeoff", saved, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["student"] == "wrn-10-1"
