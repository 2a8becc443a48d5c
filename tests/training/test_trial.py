from __future__ import annotations

import itertools

import pytest
import torch

from compress.models.registry import build, spec_of
from compress.training.trial import Trial, fastest, time_steps, trial_batch

CPU = torch.device("cpu")


def test_a_trial_finds_a_larger_network_slower() -> None:
    small, large = (
        time_steps(build(spec_of(name, input_shape=(3, 16, 16))), CPU, batch=8, bf16=False)
        for name in ("wrn-10-0.5", "wrn-28-4")
    )
    assert large.train_s > small.train_s > 0
    assert large.forward_s > small.forward_s > 0
    assert large.train_s > large.forward_s


def test_a_trial_leaves_the_network_and_the_generator_alone() -> None:
    network = build(spec_of("wrn-10-0.5", input_shape=(1, 8, 8)))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    time_steps(network, CPU, batch=4, bf16=False)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert network.training


def test_both_layouts_run() -> None:
    network = build(spec_of("wrn-10-0.5", input_shape=(1, 8, 8)))
    for layout in ("channels_last", "contiguous"):
        assert Trial(network, CPU, batch=4, memory_format=layout).step() > 0


def test_the_first_call_does_not_count_and_calls_take_turns() -> None:
    order: list[str] = []

    def call(name: str, times: list[float]) -> float:
        order.append(name)
        return times[order.count(name) - 1]

    found = fastest(
        lambda: call("a", [1.0, 5.0, 4.0, 6.0, 7.0]), lambda: call("b", [2.0, 9.0, 8.0, 7.0, 3.0])
    )
    assert found == [4.0, 3.0]
    assert order == ["a", "b"] * 5


def test_slow_calls_are_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 100)
    monkeypatch.setattr("compress.training.trial.time.monotonic", lambda: next(clock))
    times = iter([9.0, 2.0, 1.0])
    assert fastest(lambda: next(times)) == [2.0]


def test_large_networks_are_tried_on_few_images() -> None:
    assert trial_batch(128, 1_000_000) == 128
    assert trial_batch(128, 1_000_000_000) == 20
    assert trial_batch(128, 100_000_000_000) == 8
    assert trial_batch(4, 100_000_000_000) == 4
