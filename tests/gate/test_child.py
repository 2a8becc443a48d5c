"""The rule on rounds whose clock is scripted: models that are slow at random, and busy machines."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from compress.gate.child import AGAINST, CANDIDATE, all_calls, fast_call, summary
from compress.gate.latency import LatencyRule
from compress.gate.measuring import Rounds, Settings, Trial, outcomes
from compress.gate.verdict import Outcome
from compress.profiling import protocol
from compress.profiling.protocol import Calls, Timing
from tests.profiling.tiny import ScriptedClock, ScriptedSession

TRIAL = Trial(Path("candidate.onnx"), Path("baseline.onnx"), rule=LatencyRule())
CALL_S, SLICE_S = 0.2e-3, 4e-3


class Clock(ScriptedClock):
    """Time that somebody else had the CPU is none of the calling thread's."""

    def __init__(self) -> None:
        super().__init__()
        self.taken_ns = 0

    def cpu_ns(self) -> int:
        return self.now_ns - self.taken_ns


class Machine:
    """What calls take on one that others use.

    Args:
        seed: of everything.
        busy: share of the calls, of ``CALL_S``, that lose the CPU for a slice.
        noise: by how much undisturbed calls scatter, as a fraction.
    """

    def __init__(self, seed: int, *, busy: float = 0.0, noise: float = 0.03) -> None:
        self.rng = np.random.default_rng(seed)
        self.busy, self.noise = busy, noise
        self.clock = Clock()

    def calls(self, slow: float, times: float, slower: float) -> Iterator[float]:
        """Seconds of a model's calls; a share takes so many times as long."""
        while True:
            own = CALL_S * (1 + slower) * np.exp(self.noise * abs(self.rng.standard_normal()))
            own *= times if self.rng.random() < slow else 1.0
            taken = 0.0
            self.lost = self.rng.random() < self.busy * own / CALL_S
            if self.lost:
                # It comes back to caches that others have filled.
                taken, own = SLICE_S * self.rng.uniform(0.5, 1.5), own + 0.1e-3
            self.clock.taken_ns += round(taken * 1e9)
            yield own + taken

    def load(self, slow: float = 0.0, times: float = 1.0, slower: float = 0.0) -> ScriptedSession:
        calls = self.calls(slow, times, slower)
        return ScriptedSession(self.clock, calls, preempted=lambda: self.lost)

    def checked(self, slow: float = 0.0, times: float = 1.0, slower: float = 0.0) -> Outcome:
        """What the rule says of a model beside the plain one."""

        def decided(timing: Timing) -> bool:
            return said(summary(timing, TRIAL)) is not Outcome.INCONCLUSIVE

        warm = protocol.WarmUp(min_calls=2, min_s=0.0, block=0)
        timing = protocol.measure(
            {CANDIDATE: partial(self.load, slow, times, slower), AGAINST: self.load},
            dict.fromkeys((CANDIDATE, AGAINST), np.zeros((1, 2), np.float32)),
            stop=decided,
            calls_wanted=24 * 60,
            seed=int(self.rng.integers(1 << 30)),
            first=warm,
            clock=self.clock,
        )
        return said(summary(timing, TRIAL))


def said(found: Rounds) -> Outcome:
    outcome, _ = outcomes(TRIAL, found)
    assert outcome is not None
    return outcome


@pytest.mark.parametrize("busy", [0.0, 0.02])
@pytest.mark.parametrize(("slow", "times"), [(0.85, 9.0), (0.45, 9.0), (0.1, 9.0), (0.45, 1.3)])
def test_a_model_that_is_slow_at_random_never_passes(
    slow: float, times: float, busy: float
) -> None:
    found = [Machine(seed, busy=busy).checked(slow, times) for seed in range(4)]
    assert set(found) == {Outcome.FAIL}


@pytest.mark.parametrize(("busy", "noise"), [(0.0, 0.03), (0.02, 0.1), (0.1, 0.1)])
def test_a_busy_machine_is_no_slow_model(busy: float, noise: float) -> None:
    found = [Machine(seed, busy=busy, noise=noise).checked() for seed in range(12)]
    assert Outcome.FAIL not in found
    assert found.count(Outcome.PASS) >= 10


@pytest.mark.parametrize("slower", [0.05, 0.1])
def test_what_is_slower_in_every_call_fails_as_before(slower: float) -> None:
    found = [Machine(seed, busy=0.01).checked(slower=slower) for seed in range(6)]
    assert set(found) == {Outcome.FAIL}


def calls_of(wall_s: list[float], cpu_s: list[float], preempted: list[bool] | None) -> Calls:
    flags = None if preempted is None else np.array(preempted)
    return Calls(np.array(wall_s), np.array(cpu_s), flags, 0.1, 0.1, warm=True, computes=True)


def test_of_a_call_that_was_interrupted_the_cpu_time_counts() -> None:
    calls = calls_of([1.0, 9.0, 1.0], [1.0, 1.0, 0.5], [False, True, False])
    assert all_calls(calls, threads=1) == pytest.approx(1.0)
    assert fast_call(calls) == pytest.approx(1.0)
    # Two threads have twice the CPU time, and are not slower for that.
    assert all_calls(calls_of([4.0], [6.0], [True]), threads=2) == pytest.approx(4.0)
    unknown = calls_of([1.0, 8.0, 1.0], [1.0, 1.0, 1.0], None)
    assert all_calls(unknown, threads=1) == pytest.approx(2.0)
    without_clock = calls_of([1.0, 8.0, 1.0], [0.0, 0.0, 0.0], [False, True, False])
    assert all_calls(without_clock, threads=1) == pytest.approx(2.0)


def test_all_calls_of_a_device_are_as_its_events_say() -> None:
    wall, cpu = np.array([1.0, 4.0]), np.array([0.1, 0.1])
    device = Calls(wall, cpu, np.array([True, True]), 0.1, 0.1, warm=True, copies_s=wall / 10)
    assert all_calls(device, threads=2) == pytest.approx(2.0)


def test_by_way_of_a_teacher_uneven_calls_do_not_pass() -> None:
    trial = Trial(
        Path("a.onnx"),
        Path("teacher.onnx"),
        settings=Settings(),
        rule=LatencyRule(),
        stored=(1.0, 1.0001, 0.9999, 1.0, 1.0),
    )
    machine = Machine(0)

    def found(slow: float) -> Outcome | None:
        timing = protocol.measure(
            {CANDIDATE: partial(machine.load, slow, 9.0), AGAINST: machine.load},
            dict.fromkeys((CANDIDATE, AGAINST), np.zeros((1, 2), np.float32)),
            min_rounds=12,
            max_rounds=12,
            calls_wanted=6 * 60,
            clock=machine.clock,
            first=protocol.WarmUp(min_calls=2, min_s=0.0, block=0),
        )
        return outcomes(trial, summary(timing, trial))[0]

    assert found(0.0) is Outcome.PASS
    assert found(0.45) is Outcome.INCONCLUSIVE
