"""benchmarks/agreement.py: what is left to do, what agrees, and what shows why not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.agreement import (
    BENCHMARK_APP,
    INNER,
    MODEL_RUN,
    ONE_BY_ONE,
    OUR_CLOCK,
    OURS,
    PERF_TEST,
    TIMER,
    TOOLS,
    WAYS,
    WITH_DISTURBED,
    Found,
    Setting,
    Step,
    by_timer,
    compared,
    judged,
    markdown,
    median_told,
    model_file,
    model_run,
    perf_test,
    steps,
)
from compress.models.registry import spec_of
from compress.profiling.registry import runtime_named
from compress.tradeoff.measure import untrained


def every_round(seconds: float) -> dict[int, float]:
    return dict.fromkeys(range(6), seconds)


def found_of(ours: float, between: float, tool: float) -> Found:
    return {
        OURS: every_round(ours),
        INNER: every_round(between),
        BENCHMARK_APP: every_round(tool),
    }


@pytest.mark.parametrize(
    ("tool", "between_s", "tool_s", "verdict"),
    [
        (BENCHMARK_APP, 0.8, 1.04, "yes"),
        (BENCHMARK_APP, 0.8, 0.96, "yes"),
        # The tool is beside what lies between, which leaves something out.
        (BENCHMARK_APP, 0.8, 0.81, "no: it leaves out what a call"),
        # That cannot make it longer.
        (BENCHMARK_APP, 1.2, 1.21, "NO, not explained"),
        # What lies between is beside ours, and nothing is known that makes the tool differ from it.
        (BENCHMARK_APP, 1.01, 1.2, "NO, not explained"),
        # It explains half of it only.
        (BENCHMARK_APP, 0.9, 0.8, "NO, not explained"),
        (MODEL_RUN, 1.4, 1.37, "no: the profiler slows"),
        (MODEL_RUN, 1.02, 0.9, "no: it leaves out what a call"),
        (TIMER, 1.0, 3.0, "no: it times blocks"),
        (TIMER, 0.8, 3.0, "NO, not explained"),
        (TIMER, 0.8, 0.8, "NO, not explained"),
        (MODEL_RUN, 1.6, 1.4, "no: the profiler slows the calls and it leaves out what a call"),
        (MODEL_RUN, 0.9, 0.8, "NO, not explained"),
    ],
)
def test_a_difference_agrees_or_is_explained_or_not(
    tool: str, between_s: float, tool_s: float, verdict: str
) -> None:
    found: Found = {
        OURS: every_round(1.0),
        TOOLS[tool].name: every_round(between_s),
        tool: every_round(tool_s),
    }
    assert judged(tool, found).startswith(verdict)


def test_a_difference_that_may_be_less_than_5_percent_is_not_decided() -> None:
    found: Found = {
        OURS: every_round(1.0),
        ONE_BY_ONE: every_round(0.9),
        TIMER: {place: 0.9 if place < 4 else 0.97 for place in range(6)},
    }
    assert judged(TIMER, found).startswith("not decided")


@pytest.mark.parametrize(
    ("same_calls", "verdict"),
    [(1.01, "no: our clock tells the same of those calls"), (1.06, "not decided")],
)
def test_sessions_that_differ_among_themselves_are_no_difference_of_tools(
    same_calls: float, verdict: str
) -> None:
    tool = [0.7, 1.14, 1.15, 1.15, 1.15, 1.15]
    found: Found = {
        OURS: every_round(1.0),
        ONE_BY_ONE: {place: each / same_calls for place, each in enumerate(tool)},
        TIMER: dict(enumerate(tool)),
    }
    assert judged(TIMER, found).startswith(verdict)
    found[TIMER] = dict.fromkeys(range(6), 1.2)
    found[ONE_BY_ONE] = dict.fromkeys(range(6), 1.2)
    assert judged(TIMER, found).startswith("NO, not explained")


def test_what_shows_why_is_told_with_its_size() -> None:
    said = judged(BENCHMARK_APP, found_of(1.0, 0.8, 0.8))
    assert f"{INNER}: -20.0% (-20.0% to -20.0%); the tool beside that: +0.0%" in said


def test_nothing_is_said_of_too_few_rounds() -> None:
    found = {name: dict.fromkeys(range(5), 1.0) for name in (OURS, INNER, BENCHMARK_APP)}
    assert judged(BENCHMARK_APP, found) == "not known yet"


def test_only_rounds_that_both_have_are_compared() -> None:
    tool = dict.fromkeys(range(7), 2.0)
    ours = dict.fromkeys(range(1, 7), 1.0) | {9: 50.0}
    ratio = compared(tool, ours)
    assert ratio is not None
    assert ratio.value == pytest.approx(2.0)
    assert compared(tool, dict.fromkeys(range(2, 7), 1.0)) is None


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("[ INFO ]    Median:        210.33 us", 210.33e-6),
        ("[ INFO ]    Median:        3.21 ms", 3.21e-3),
    ],
)
def test_the_median_of_benchmark_app_is_read(line: str, seconds: float) -> None:
    assert median_told(f"Latency:\n{line}\n    Average:   9.00 ms") == pytest.approx(seconds)


def test_no_median_is_an_end() -> None:
    with pytest.raises(SystemExit, match="told no median"):
        median_told("Average: 3.21 ms")


def test_what_is_done_is_not_done_again() -> None:
    everything = list(steps(["a", "b"], [1, 2], 3, ["openvino"], []))
    assert len(set(everything)) == len(everything) == 2 * 2 * 3 * len(WAYS["openvino"])
    done = [step._asdict() for step in everything[:5]]
    assert list(steps(["a", "b"], [1, 2], 3, ["openvino"], done)) == everything[5:]


def test_a_round_has_every_tool_in_an_order_of_its_own() -> None:
    everything = list(steps(["a"], [1], 4, ["onnxruntime"], []))
    count = len(WAYS["onnxruntime"])
    rounds = [
        [step.way for step in everything[start : start + count]]
        for start in range(0, len(everything), count)
    ]
    assert all(set(ways) == set(WAYS["onnxruntime"]) for ways in rounds)
    assert len({tuple(ways) for ways in rounds}) > 1


def line(place: int, way: str, found_s: dict[str, float]) -> dict[str, Any]:
    return {
        **Step("a.onnx", 1, place, "onnxruntime", way)._asdict(),
        "batch": 1,
        "found_s": found_s,
    }


def test_a_page_of_what_there_is() -> None:
    done = [
        each
        for place in range(6)
        for each in (
            line(place, PERF_TEST, {PERF_TEST: 2e-3}),
            line(place, OURS, {OURS: 1e-3, WITH_DISTURBED: 2e-3}),
        )
    ]
    page = markdown(done)
    rows = [each for each in page if each.startswith("| a.onnx")]
    assert [row.split(" | ")[3] for row in rows] == [OURS, WITH_DISTURBED, PERF_TEST]
    assert "| 2.000 | +100.0% (+100.0% to +100.0%) | no: disturbed calls count there" in "\n".join(
        rows
    )
    assert any("Of 1 comparisons 0 are within 5%; 1 are not" in each for each in page)
    assert any("; 6 rounds with every tool in each" in each for each in page)
    assert any("Of 0 comparisons" in each for each in markdown([]))


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    path = model_file("wrn-10-1", tmp_path)
    spec = spec_of("wrn-10-1", num_classes=10, input_shape=(3, 32, 32))
    images = np.zeros((1, 3, 32, 32), np.float32)
    runtimes = {"onnxruntime": runtime_named("onnxruntime")}
    return Setting(path, untrained(spec), images, 1, 0.05, runtimes)


def test_tools_that_call_onnxruntime_tell_a_time(setting: Setting) -> None:
    profiled = model_run(setting)
    for found in (perf_test(setting), profiled):
        assert all(1e-5 < seconds < 1 for seconds in found.values())
    # One clock is inside the calls that the other is round.
    assert profiled[MODEL_RUN] < profiled[OUR_CLOCK]


def test_a_timer_and_each_of_its_calls(setting: Setting) -> None:
    threads = torch.get_num_threads()
    blocks_s, each_s = by_timer(lambda: time.sleep(0.002), setting)
    assert each_s >= 0.002
    assert blocks_s >= 0.002
    assert torch.get_num_threads() == threads


def test_a_network_is_exported_once(tmp_path: Path) -> None:
    path = model_file("wrn-10-1", tmp_path)
    written = path.stat().st_mtime_ns
    assert model_file("wrn-10-1", tmp_path) == path
    assert path.stat().st_mtime_ns == written
    assert model_file("other.onnx", tmp_path) == Path("other.onnx")
