"""compress runs: what is known of own runs, and forgetting it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from compress.cli import main
from compress.tradeoff.runs import OwnRun, load_runs, record_run

RUN = OwnRun(
    "a" * 64,
    "wrn-10-2",
    "kd",
    30,
    45_000,
    0.125,
    5000,
    0,
    schedule="steps",
    data="cifar10",
    when="2026-11-27T18:00:00+00:00",
    folder="/runs/first",
)
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    record_run(RUN)
    record_run(replace(RUN, precision="int8", error=0.13))
    record_run(replace(RUN, name="inception", data="other", when="2026-11-27T19:00:00+00:00"))


def test_runs_are_listed_with_what_they_count_for(capsys: Capture) -> None:
    assert main(["runs", "list"]) == 0
    head, first, second, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == [
        "id",
        "when,",
        "UTC",
        "data",
        "student",
        "trained",
        "accuracy",
        "counts",
        "for",
    ]
    for words in (
        RUN.key,
        "2026-11-27 18:00",
        "cifar10",
        "wrn-10-2",
        "kd, 30 epochs steps, 45,000 images, seed 0",
        "87.5%, 87.0% in int8",
        "15 to 60 epochs",
    ):
        assert words in first
    assert "nothing: no candidate" in second
    assert main(["runs", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["runs"]
    assert [run["folder"] for run in listed] == ["/runs/first"] * 2
    assert listed[0]["validation_accuracy"] == {"fp32": 0.875, "int8": 0.87}


def test_runs_are_forgotten(capsys: Capture) -> None:
    assert main(["runs", "remove", "00000000"]) == 2
    assert RUN.key in capsys.readouterr().err
    assert main(["runs", "remove"]) == 2
    assert main(["runs", "remove", RUN.key]) == 0
    assert "1 run was removed." in capsys.readouterr().out
    assert [run.name for run in load_runs()] == ["inception"]
    assert main(["runs", "remove", "--data", "other"]) == 0
    assert load_runs() == ()
    assert main(["runs", "list"]) == 0
    assert "No run is recorded" in capsys.readouterr().out
    assert main(["runs", "remove", "--data", "other"]) == 2


def test_all_are_forgotten(capsys: Capture) -> None:
    assert main(["runs", "remove", "--all"]) == 0
    assert "2 runs were removed." in capsys.readouterr().out
    assert load_runs() == ()


@pytest.mark.parametrize("command", ["select", "distill"])
def test_the_help_of_what_rests_on_runs_says_so(command: str, capsys: Capture) -> None:
    assert main([command, "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "compress runs" in out
    assert "--ignore-runs" in out
