"""benchmarks/gate.py: exact intervals, files that survive a stop, tables of what is there."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gate
from benchmarks.gate import (
    Condition,
    bootstrap_power,
    check_accuracy,
    check_fooled,
    check_latency,
    drawn,
    markdown,
)
from benchmarks.trials import append, clopper_pearson, read
from compress.gate.measuring import Judged, Trial
from compress.gate.verdict import Outcome
from compress.tasks.classification import Paired
from tests.gate.small import classifier, images, rounds


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # The ends of the closed forms, and a table's value (Clopper and Pearson 1934, n = 20).
    [
        (0, 300, 0.0, 1 - 0.025 ** (1 / 300)),
        (300, 300, 0.025 ** (1 / 300), 1.0),
        (3, 300, 0.00207, 0.02894),
        (5, 20, 0.0866, 0.4910),
    ],
)
def test_intervals_are_exact(successes: int, trials: int, low: float, high: float) -> None:
    assert clopper_pearson(successes, trials) == pytest.approx((low, high), abs=6e-5)


def test_a_line_that_was_cut_off_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    append(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2, "b"')
    assert read(path) == [{"a": 1}]
    append(path, {"a": 3})
    assert read(path) == [{"a": 1}, {"a": 3}]
    assert read(tmp_path / "absent.jsonl") == []


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """Nothing is timed: a candidate is as slow as its file's name says."""
    model = classifier(tmp_path / "model.onnx")

    def judge(trial: Trial) -> Judged:
        slower = {"copy": 0.0, "slower-5%-1": 0.05, "slower-10%-1": 0.1}[trial.candidate.stem]
        found = rounds(slower)
        assert trial.rule is not None
        return Judged(trial.rule.decide(found.ratio(), found.ratio_of_all()), None, found)

    def candidate(_model: Path, threads: int, slowdown: float, folder: Path, _runs: int) -> Path:
        name = f"slower-{slowdown:.0%}-{threads}" if slowdown else "copy"
        ratio = {"value": 1 + slowdown, "low": 1 + slowdown, "high": 1 + slowdown}
        (folder / f"{name}.json").write_text(json.dumps({"rows": 1, "ratio": ratio}))
        return folder / f"{name}.onnx"

    monkeypatch.setattr(gate, "judge", judge)
    monkeypatch.setattr(gate, "candidate", candidate)
    monkeypatch.setattr(gate, "mean_call_s", lambda _path, _threads: 1.0)
    return Namespace(
        model=model,
        data=None,
        trials=tmp_path / "trials",
        same=3,
        slower=2,
        threads="1",
        processes=1,
        minutes=1.0,
    )


def test_trials_are_made_until_there_are_enough(options: Namespace) -> None:
    file = options.trials / gate.LATENCY
    check_latency(Namespace(**{**vars(options), "minutes": 0.0}))
    assert read(file) == []
    check_latency(options)
    trials = [each for each in read(file) if "outcome" in each]
    assert len(trials) == 2 * (3 + 2 + 2)
    assert sum(Condition(1, True, 0.05).of(each) for each in trials) == 2
    assert sum("stored_s" in each for each in read(file)) == 2
    check_latency(options)
    assert len([each for each in read(file) if "outcome" in each]) == len(trials)
    classifier(options.model, noise=0.5)
    with pytest.raises(SystemExit, match="another machine or model"):
        check_latency(options)


def test_the_page_shows_what_there_is(options: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "bootstrap_power", lambda *_: (0.5, 0.25))
    check_latency(options)
    right = np.random.default_rng(0).random((2, 500)) < 0.9
    for place, name in enumerate(("first", "second")):
        np.savez(options.trials / f"{name}.npz", right=right[place])
    check_accuracy(
        Namespace(
            first=options.trials / "first.npz",
            second=options.trials / "second.npz",
            data=None,
            trials=options.trials,
            draws=20,
        )
    )
    page = "\n".join(markdown(options.trials))
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| 1 | ")]
    assert [row[2] for row in rows] == ["0%", "0%", "5%", "5%", "10%", "10%"]
    assert all(row[4].startswith("0 (0.0%") for row in rows[:2])
    assert all(row[4].startswith("2 (100.0%") for row in rows[2:])
    assert "5% in all: FAIL 4 (100.0%" in page
    assert "5% at 1 thread(s) +5.0%" in page
    assert "| 50.0% | 25.0% |" in page
    assert "q = 1" in page
    assert "| 10,000 | 0 | 20 |" in page


def test_models_that_fool_a_careless_gate_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Trial] = []

    def judge(trial: Trial) -> Judged:
        seen.append(trial)
        return Judged(Outcome.FAIL, None, rounds(0.0, in_all=2.0))

    monkeypatch.setattr(gate, "judge", judge)
    model = classifier(tmp_path / "model.onnx")
    options = Namespace(
        model=model,
        data=str(images(tmp_path / "data.npz", model)),
        trials=tmp_path / "trials",
        checks=2,
        threads="1",
        minutes=1.0,
    )
    check_fooled(options)
    assert len(seen) == 3 * 2 * 2
    assert all(trial.sample is not None and trial.against == model for trial in seen)
    check_fooled(options)
    assert len(seen) == 3 * 2 * 2
    page = markdown(options.trials)
    (row,) = [line for line in page if line.startswith("| slow in 45% of calls | 1 | no |")]
    assert " | 2 | 0 (0.0%; 0.0 to 84.2) | 2 (100.0%; 15.8 to 100.0) | -0.0% | +200.0% | " in row
    (row,) = [line for line in page if line.startswith("| wrong one by one | 1 | yes |")]
    assert " | 2 | 0 (0.0%; 0.0 to 84.2) | 2 (100.0%" in row


def test_nothing_yet_is_a_page_too(tmp_path: Path) -> None:
    assert "# What `compress check` says" in markdown(tmp_path)[0]


def test_a_drawn_evaluation_has_the_drop_that_it_says() -> None:
    pair = Paired(1000, 30, 30, 900)
    same = drawn(2000, 0.0, pair, 300)
    assert same[Outcome.FAIL] <= 6
    assert same["plain"] > 40
    worse = drawn(2000, 0.03, pair, 300)
    assert worse[Outcome.FAIL] > 290
    assert worse[Outcome.PASS] == 0
    total: dict[str, Any] = worse
    assert sum(total[each] for each in Outcome) == 300


def test_a_bootstrap_at_each_look_is_less_careful() -> None:
    pool = 0.02 * np.random.default_rng(0).standard_normal(200)
    passes, _ = bootstrap_power(0.03, pool, 150)
    assert passes > 0.03
    _, fails = bootstrap_power(0.1, pool, 20)
    assert fails == 1.0
