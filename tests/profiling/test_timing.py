from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from compress.errors import Inconclusive, ModelFileError
from compress.limits import Judgement
from compress.profiling import protocol
from compress.profiling.estimates import calls_needed
from compress.profiling.protocol import Timing
from compress.profiling.timing import (
    ModelTiming,
    fastest_of,
    is_clear,
    is_decided,
    is_known,
    summarise,
    time_model,
    time_models,
)
from compress.results import Estimate, Fastest
from tests.profiling import tiny
from tests.profiling.tiny import ScriptedClock, ScriptedSession

IMAGES = np.zeros((1, 2), dtype=np.float32)


def against(budget_s: float, low_s: float, high_s: float, **options: float) -> tuple[int, bool]:
    """Rounds, and whether it stays undecided, for sessions that are fast and slow in turn."""
    clock = ScriptedClock()
    speeds = itertools.cycle([low_s, high_s])
    percentile = options.pop("percentile", 50.0)

    def decided(timing: Timing) -> bool:
        return is_decided(timing, "model", percentile, budget_s)

    timing = protocol.measure(
        {"model": lambda: ScriptedSession(clock, itertools.repeat(next(speeds)))},
        {"model": IMAGES},
        stop=decided,
        calls_wanted=0 if percentile == 50 else calls_needed(percentile),
        clock=clock,
        **options,  # type: ignore[arg-type]
    )
    return len(timing.rounds), not decided(timing)


def test_looking_ends_when_the_interval_is_clear_of_the_budget() -> None:
    assert against(0.002, 0.0009, 0.0011) == (6, False)
    assert against(0.0005, 0.0009, 0.0011) == (6, False)


def test_a_budget_within_the_interval_is_looked_at_48_times_and_stays_undecided() -> None:
    assert against(0.001, 0.0009, 0.0011) == (48, True)
    assert against(0.001, 0.0009, 0.0011, max_s=0.5)[1]


def test_a_budget_that_is_met_exactly_is_kept() -> None:
    assert against(0.001, 0.001, 0.001) == (6, False)


def test_a_percentile_is_looked_at_until_it_is_known() -> None:
    assert against(0.002, 0.001, 0.001, percentile=90) == (6, False)
    assert against(0.002, 0.001, 0.001, percentile=99) == (24, False)


def scripted(durations_s: dict[str, float]) -> Timing:
    clock = ScriptedClock()
    return protocol.measure(
        {
            name: partial(ScriptedSession, clock, itertools.repeat(duration_s))
            for name, duration_s in durations_s.items()
        },
        dict.fromkeys(durations_s, IMAGES),
        clock=clock,
    )


def test_the_fastest_is_that_of_the_smallest_median() -> None:
    timing = scripted({"m in a": 0.003, "m in b": 0.002, "m in c": 0.002, "other": 0.001})
    found = fastest_of(timing, {name: f"m in {name}" for name in "abc"})
    assert found.runtime == "b"
    assert found.ratios["a"].value == pytest.approx(1.5)
    assert list(found.ratios) == ["a", "c"]
    assert found.ties == ("c",)


@pytest.mark.parametrize(
    ("low", "value", "high", "known"),
    [
        (1.01, 1.2, 1.5, True),  # slower, by whatever
        (0.99, 1.0, 1.01, True),  # as good as equal
        (0.95, 1.05, 1.2, False),
    ],
)
def test_which_one_is_fastest_is_known_when_others_are_slower_or_equal(
    low: float, value: float, high: float, known: bool
) -> None:
    other = {"b": Estimate(value, low, high), "c": Estimate(2.0, 1.9, 2.1)}
    assert is_known(Fastest("a", other)) == known


def test_clear_means_on_one_side() -> None:
    interval = Estimate(1.0, 0.9, 1.1)
    assert [is_clear(interval, limit) for limit in (0.89, 0.9, 1.0, 1.1)] == [
        True,
        False,
        False,
        True,
    ]
    assert not is_clear(interval, None)
    assert is_clear(Estimate(1.0, 0.99, 1.01), None)


def test_a_real_file_is_timed(tmp_path: Path) -> None:
    path = tiny.convolution(tmp_path / "m.onnx")
    found = time_model(path, budget_s=10.0)
    assert found.rounds == 6
    assert found.calls == 150
    assert found.all_calls_s is not None
    assert 0 < found.latency.low <= found.latency.value <= found.latency.high < 10.0
    p90 = time_model(path, percentile=90, budget_s=10.0)
    assert p90.latency.high > 0


def test_a_model_against_itself_is_about_as_fast(tmp_path: Path) -> None:
    path = tiny.products(tmp_path / "m.onnx", layers=4)
    timing = time_models({"a": path, "b": path}, max_s=5)
    ratio = timing.ratio("a", "b")
    # Far wider than what is expected, for a machine that does many other things.
    assert ratio.low < 1.3
    assert ratio.high > 1 / 1.3


def test_twice_the_work_is_seen(tmp_path: Path) -> None:
    once = tiny.products(tmp_path / "once.onnx", layers=20, size=192)
    twice = tiny.products(tmp_path / "twice.onnx", layers=40, size=192)
    # Enough images that computing takes the time, and not fetching weights from a shared cache.
    timing = time_models({"twice": twice, "once": once}, batch=64, max_s=5)
    ratio = timing.ratio("twice", "once")
    assert 1.3 < ratio.value < 3.0
    assert ratio.low > 1.0


def test_one_model_can_be_timed_alone_by_time_models(tmp_path: Path) -> None:
    path = tiny.convolution(tmp_path / "m.onnx")
    timing = time_models({"only": path}, max_s=1)
    assert timing.latency("only") is not None


def test_a_broken_file_is_not_timed(tmp_path: Path) -> None:
    broken = tiny.convolution(tmp_path / "nan.onnx", scale=float("nan"))
    with pytest.raises(ModelFileError, match=r"nan\.onnx.*not finite"):
        time_model(broken)


def test_too_few_calls_for_a_percentile_are_inconclusive() -> None:
    clock = ScriptedClock()
    timing = protocol.measure(
        {"model": lambda: ScriptedSession(clock, itertools.repeat(0.001))},
        {"model": IMAGES},
        clock=clock,
    )
    with pytest.raises(Inconclusive, match="it takes 473"):
        summarise(timing, "model", 99)


def test_a_budget_that_only_undisturbed_calls_keep_is_undecided() -> None:
    latency = Estimate(1e-3, 0.9e-3, 1.1e-3)
    timing = ModelTiming(latency, latency, 1.2e-3, 6, 90, ())
    assert [timing.judge(limit) for limit in (0.8e-3, 1.15e-3, 1.2e-3)] == [
        Judgement.MISSED,
        Judgement.UNDECIDED,
        Judgement.KEPT,
    ]
