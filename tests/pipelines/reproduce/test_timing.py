"""reproduce.timing: the declared networks beside the paper's seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compress.models.registry import architecture
from compress.pipelines.reproduce import timing
from compress.pipelines.reproduce.experiment import load_experiment
from compress.pipelines.reproduce.runner import TimeOver
from compress.pipelines.reproduce.timing import time_networks
from compress.results import Estimate
from compress.spec import Budget, ModelSpec
from compress.tradeoff.search import Measurement


class Measurer:
    """Says a hundredth of the network's depth, in seconds."""

    asked: list[tuple[str, Budget]]

    def __init__(self, *, say: Any) -> None:
        self.say = say

    def measure(self, spec: ModelSpec, budget: Budget, limit_s: float | None) -> Measurement:
        self.asked.append((spec.name, budget))
        value = architecture(spec).size[0] / 100
        return Measurement(Estimate(value, 0.9 * value, 1.1 * value), 1000, 6)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Budget]]:
    Measurer.asked = []
    monkeypatch.setattr(timing, "LocalMeasurer", Measurer)
    return Measurer.asked


def nothing(*_: object) -> None:
    """A listener, and a clock that is never over."""


def test_students_and_the_teacher_are_timed(asked: list[tuple[str, Budget]]) -> None:
    experiment = load_experiment("logit-gan/table5")
    task = replace(experiment.tasks[0], students=("wrn-10-4", "wrn-34-4"))
    found = time_networks(
        experiment, task, num_classes=100, input_shape=(3, 32, 32), say=nothing, check=nothing
    )
    assert found is not None
    assert [name for name, _ in asked] == ["wrn-10-4", "wrn-34-4", "wrn-40-10"]
    assert {budget.batch for _, budget in asked} == {100}
    first = found.networks[0]
    assert found.ratio(first) == pytest.approx((10 / 40, 0.32 / 8.73))
    assert first.params == pytest.approx(1.22e6, rel=0.01)
    assert "ONNX Runtime" in found.text


def test_time_may_be_over_between_two_networks(asked: list[tuple[str, Budget]]) -> None:
    experiment = load_experiment("logit-gan/table5")

    def over() -> None:
        if len(asked) == 2:
            raise TimeOver

    with pytest.raises(TimeOver):
        time_networks(
            experiment,
            experiment.tasks[0],
            num_classes=100,
            input_shape=(3, 32, 32),
            say=nothing,
            check=over,
        )
    assert len(asked) == 2


def test_nothing_declared_is_nothing_timed(asked: list[tuple[str, Budget]]) -> None:
    experiment = load_experiment("logit-gan/table2")
    task = experiment.tasks[0]
    found = time_networks(
        experiment, task, num_classes=10, input_shape=(3, 32, 32), say=nothing, check=nothing
    )
    assert found is None
    assert asked == []
