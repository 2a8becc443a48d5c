from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compress.api.check import _embedded
from compress.api.inputs import silent
from compress.cli import main
from compress.errors import Inconclusive
from compress.exporting import read_artifact
from compress.gate import self_test as testing
from compress.gate.extra_work import Slowed
from compress.gate.latency import LatencyRule
from compress.gate.measuring import Judged, Rounds, Settings, Trial
from compress.gate.self_test import power_at, self_test, smallest_detectable
from compress.gate.verdict import Outcome
from compress.results import Estimate
from tests.gate.small import SIZE, classifier, rounds

QUIET = 0.005 * np.random.default_rng(0).standard_normal(96)
LOUD = 0.3 * np.random.default_rng(0).standard_normal(96)


def test_what_is_not_slower_passes_and_what_is_fails() -> None:
    nothing, slower = (power_at(each, QUIET, LatencyRule(), 0) for each in (0.0, 0.05))
    assert nothing.passes > 0.99
    assert nothing.fails == 0
    assert nothing.rounds < 8
    assert slower.fails > 0.99
    # A second process measures what failed.
    assert slower.rounds >= 12


def test_the_smallest_slowdown_grows_with_the_noise() -> None:
    found = smallest_detectable(QUIET, LatencyRule(), 0)
    assert found is not None
    assert 0.03 < found.slowdown < 0.05
    assert found.fails >= 0.95
    assert power_at(found.slowdown * 0.9, QUIET, LatencyRule(), 0).fails < 0.95
    louder = smallest_detectable(4 * QUIET, LatencyRule(), 0)
    assert louder is not None
    assert louder.slowdown > found.slowdown
    assert louder.rounds > found.rounds


def test_a_machine_that_tells_nothing_says_so() -> None:
    assert smallest_detectable(10 * LOUD, LatencyRule(), 0) is None


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return classifier(tmp_path / "model.onnx", layers=4)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What is timed: how much slower the model is than itself, and with extra work."""
    script = {"same": 0.0, "extra": 0.05, "scatter": 0.005}

    def measure(trial: Trial) -> Rounds:
        return rounds(script["same"], count=trial.rounds or 6, scatter=script["scatter"])

    def slow_down(model: Path, slowdown: float, path: Path, **_: object) -> Slowed:
        if script["extra"] < 0:
            raise Inconclusive("not found")
        return Slowed(path, 3, Estimate(1 + slowdown, 1 + slowdown, 1 + slowdown))

    def judge(trial: Trial) -> Judged:
        found = rounds(script["extra"])
        assert trial.rule is not None
        return Judged(trial.rule.decide(found.ratio()), None, found)

    for name, function in (("measure", measure), ("slow_down", slow_down), ("judge", judge)):
        monkeypatch.setattr(testing, name, function)
    return script


@pytest.mark.parametrize(
    ("same", "extra", "outcome"),
    [
        (0.0, 0.05, Outcome.PASS),
        (0.06, 0.05, Outcome.FAIL),
        (0.0, 0.02, Outcome.INCONCLUSIVE),
        (0.0, -1.0, Outcome.INCONCLUSIVE),
    ],
)
def test_the_outcome_is_whether_the_rule_can_be_relied_on(
    same: float, extra: float, outcome: Outcome, scripted: dict[str, float], model: Path
) -> None:
    scripted |= {"same": same, "extra": extra}
    found = self_test(model, rule=LatencyRule(), settings=Settings())
    assert found.outcome is outcome
    said = "\n".join(found.lines())
    assert "A/A, the model beside itself" in said
    assert "The smallest slowdown found 95% of the time" in said
    assert ("No real extra work" in said) is (extra < 0)


def test_a_busy_machine_is_no_pass(
    scripted: dict[str, float], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "LARGEST", 0.5)
    scripted["scatter"] = 0.9
    found = self_test(model, rule=LatencyRule(), settings=Settings())
    assert found.detectable is None
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "too busy" in "\n".join(found.lines())
    assert found.to_dict()["detectable"] is None


def test_the_command_prints_it(
    scripted: dict[str, float], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--self-test", str(model), "--threads", "1"]) == 0
    assert "Real extra work in the model" in capsys.readouterr().out
    assert main(["check", "--self-test", str(model), "--json", "--max-slowdown", "5%"]) == 3
    values = json.loads(capsys.readouterr().out)
    assert values["outcome"] == "inconclusive"
    assert values["exit_code"] == 3
    assert values["detectable"]["fails"] >= 0.95


def test_the_embedded_teacher_is_a_model_too(tmp_path: Path) -> None:
    spec = read_artifact(_embedded(tmp_path, silent)).spec
    assert spec is not None
    assert spec.name == "wrn-16-2"


def test_what_cannot_be_timed_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--self-test", str(tmp_path / "absent.onnx")]) == 2
    assert "There is no file" in capsys.readouterr().err
    path = classifier(tmp_path / "open.onnx", shape=("batch", 1, "height", SIZE))
    assert main(["check", "--self-test", str(path)]) == 2
    assert "'height' is open" in capsys.readouterr().err


def test_a_model_is_really_timed_beside_itself(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "smallest_detectable", lambda *_: None)
    found = self_test(model, rule=LatencyRule(0.5), settings=Settings())
    assert found.scatter > 0
    assert found.latency_s > 0
    assert found.seconds_a_round > 0
    assert found.nothing.fails <= 0.05
    assert found.outcome is Outcome.INCONCLUSIVE


@pytest.mark.slow
def test_real_extra_work_is_found(model: Path) -> None:
    found = self_test(model, rule=LatencyRule(0.2), settings=Settings())
    assert found.slowed is not None
    assert found.slowed.ratio.low > 1.1
    assert found.outcome is Outcome.PASS
