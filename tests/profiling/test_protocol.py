from __future__ import annotations

import gc
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest

from compress.errors import Inconclusive, ModelFileError
from compress.profiling import protocol
from compress.profiling.protocol import FIRST_WARM_UP, NEXT_WARM_UP, Burst, Timing, plan_bursts
from compress.profiling.runtime import DeviceTimes, Input
from tests.profiling.tiny import ScriptedClock, ScriptedSession

IMAGES = np.zeros((1, 2), dtype=np.float32)


def always(duration_s: float) -> Iterator[float]:
    return itertools.repeat(duration_s)


def warm_up(durations_s: Iterator[float], rule: protocol.WarmUp) -> tuple[list[float], bool]:
    clock = ScriptedClock()
    session = ScriptedSession(clock, durations_s)
    return protocol.warm_up(session, [IMAGES], rule, clock, next(durations_s))


def test_steady_calls_are_warm_after_a_quarter_of_a_second() -> None:
    calls, warm = warm_up(always(0.001), FIRST_WARM_UP)
    assert warm
    assert len(calls) == 250


def test_a_warm_up_goes_on_while_calls_become_faster() -> None:
    falling = itertools.chain((0.02 * 0.99**n for n in range(100)), always(0.02 * 0.99**100))
    calls, warm = warm_up(falling, FIRST_WARM_UP)
    assert warm
    assert len(calls) == 120  # two blocks of ten after the hundred that fall by 10% a block


def test_calls_that_never_settle_end_the_warm_up_after_five_seconds() -> None:
    blocks = itertools.cycle([0.01] * 10 + [0.02] * 10)
    calls, warm = warm_up(blocks, FIRST_WARM_UP)
    assert not warm
    assert 5.0 <= sum(calls) < 5.03


def test_a_later_session_is_warm_after_five_calls_or_a_quarter_of_a_second() -> None:
    assert len(warm_up(always(0.001), NEXT_WARM_UP)[0]) == 5
    assert len(warm_up(always(0.1), NEXT_WARM_UP)[0]) == 3


@pytest.mark.parametrize(
    ("call_s", "wanted", "plan"),
    [
        (0.0002, 0, Burst(5, 6, 1)),
        (0.003, 0, Burst(5, 6, 1)),
        (0.006, 0, Burst(5, 3, 1)),
        (0.05, 0, Burst(2, 3, 1)),
        (0.2, 0, Burst(2, 1, 0)),
        (0.0002, 40, Burst(5, 9, 1)),
        (0.05, 20, Burst(2, 11, 1)),
        (0.2, 20, Burst(20, 1, 0)),
    ],
)
def test_slow_calls_get_shorter_bursts_and_percentiles_longer_ones(
    call_s: float, wanted: int, plan: Burst
) -> None:
    found = plan_bursts(call_s, wanted)
    assert found == plan
    assert found.kept >= wanted


def scripted(
    durations_s: dict[str, float], *, rounds: int = 6, log: list[str] | None = None
) -> Timing:
    clock = ScriptedClock()

    def session(name: str) -> ScriptedSession:
        return ScriptedSession(clock, always(durations_s[name]), log=log, name=name)

    return protocol.measure(
        {name: partial(session, name) for name in durations_s},
        dict.fromkeys(durations_s, IMAGES),
        min_rounds=rounds,
        clock=clock,
    )


def test_sessions_are_created_anew_each_round_in_random_order_and_all_closed() -> None:
    log: list[str] = []
    scripted({"a": 0.001, "b": 0.001}, rounds=12, log=log)
    created = [entry for entry in log if entry.startswith("+")]
    closed = [entry for entry in log if entry.startswith("-")]
    assert len(created) == len(closed) == 24
    orders = {tuple(created[place : place + 2]) for place in range(0, 24, 2)}
    assert orders == {("+a", "+b"), ("+b", "+a")}
    # Those that set something global have to be closed in the reverse order.
    for place in range(0, 24, 2):
        assert [name[1] for name in created[place : place + 2]] == [
            name[1] for name in reversed(closed[place : place + 2])
        ]


def test_a_round_has_five_bursts_a_model_and_drops_the_first_call_of_each() -> None:
    timing = scripted({"a": 0.001, "b": 0.002})
    assert timing.names == ("a", "b")
    assert len(timing.calls_s("a")) == len(timing.calls_s("b")) == 6 * 5 * 5


def test_bursts_of_two_models_are_mixed() -> None:
    log: list[str] = []
    scripted({"a": 0.001, "b": 0.001}, rounds=1, log=log)
    bursts = [name for name, _ in itertools.groupby(log[-62:-2])]
    assert log[-62:-2].count("a") == log[-62:-2].count("b") == 30
    assert len(bursts) > 2


class Recording(ScriptedSession):
    """Keeps what it is called with."""

    seen: list[float]

    def infer(self, images: Input) -> None:
        self.seen.append(float(images[0, 0]))
        super().infer(images)


def test_models_see_the_same_images_and_others_in_the_next_round() -> None:
    clock = ScriptedClock()
    seen: dict[str, list[list[float]]] = {"a": [], "b": []}

    def session(name: str) -> Recording:
        found = Recording(clock, always(0.001), name=name)
        found.seen = []
        seen[name].append(found.seen)
        return found

    def draw(round_: int) -> list[Input]:
        return [IMAGES + 10 * round_ + place for place in range(3)]

    protocol.measure(
        {name: partial(session, name) for name in seen},
        dict.fromkeys(seen, draw),
        min_rounds=2,
        clock=clock,
    )
    for round_ in range(2):
        # The first of each burst of six is not counted and takes no image away from the others.
        counted = [10.0 * round_ + place % 3 for place in range(25)]
        bursts = [[counted[at], *counted[at : at + 5]] for at in range(0, 25, 5)]
        for name in seen:
            assert seen[name][round_][-30:] == [image for burst in bursts for image in burst]
            warm_up = seen[name][round_][:-30]
            assert warm_up == [10.0 * round_ + place % 3 for place in range(len(warm_up))]


def test_it_waits_between_the_bursts_of_two_models_only(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    log: list[str] = []
    clock = ScriptedClock()

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        log.append("wait")

    monkeypatch.setattr(time, "sleep", sleep)
    protocol.measure(
        {
            name: partial(ScriptedSession, clock, always(0.001), log=log, name=name)
            for name in ("a", "b")
        },
        dict.fromkeys(("a", "b"), IMAGES),
        min_rounds=1,
        clock=clock,
        quiet_s=0.02,
    )
    assert set(waited) == {0.02}
    bursts = [name for name, _ in itertools.groupby(log[log.index("wait") :]) if name in "ab"]
    between = log[log.index("wait") :].count("wait")
    assert between == len(bursts) == len(waited)


def test_figures_of_scripted_models() -> None:
    timing = scripted({"slow": 0.004, "fast": 0.001})
    latency = timing.latency("slow")
    assert latency is not None
    assert (latency.value, latency.low, latency.high) == (0.004, 0.004, 0.004)
    ratio = timing.ratio("slow", "fast")
    assert ratio.value == pytest.approx(4.0)
    assert timing.ratio("fast", "slow").value == pytest.approx(0.25)
    assert timing.first_s("slow") == 0.004
    assert timing.warnings("slow") == ()
    assert timing.remarks("slow") == ()


def test_percentiles_are_not_known_from_too_few_calls() -> None:
    timing = scripted({"a": 0.001})
    assert timing.latency("a", 90) is not None  # 150 calls
    assert timing.latency("a", 99) is None
    assert scripted({"a": 0.001}, rounds=19).latency("a", 99) is not None  # 475


def test_fewer_than_six_rounds_give_neither_latency_nor_ratio() -> None:
    timing = scripted({"a": 0.001, "b": 0.001}, rounds=3)
    assert timing.latency("a") is None
    assert timing.median("a") == 0.001
    with pytest.raises(Inconclusive, match="at least 6"):
        timing.ratio("a", "b")


def looked_at(stop: Callable[[Timing], bool], **options: float) -> tuple[list[int], int]:
    clock = ScriptedClock()
    looks: list[int] = []

    def look(timing: Timing) -> bool:
        looks.append(len(timing.rounds))
        return stop(timing)

    timing = protocol.measure(
        {"a": lambda: ScriptedSession(clock, always(0.001))},
        {"a": IMAGES},
        stop=look,
        clock=clock,
        **options,  # type: ignore[arg-type]
    )
    return looks, len(timing.rounds)


def test_it_looks_after_6_12_24_rounds_and_ends_after_48() -> None:
    assert looked_at(lambda _: False) == ([6, 12, 24], 48)
    assert looked_at(lambda timing: len(timing.rounds) >= 12) == ([6, 12], 12)
    assert looked_at(lambda _: False, max_rounds=10) == ([6], 10)


def test_no_round_begins_when_time_is_up_but_there_are_at_least_six() -> None:
    # The first round takes about 0.29 s, a later one 0.035 s.
    assert looked_at(lambda _: False, max_s=0.1)[1] == 6
    assert 6 < looked_at(lambda _: False, max_s=0.6)[1] < 48


def preempted(
    every: int,
    *,
    duration_s: float = 0.001,
    cpu_share: float = 1.0,
    waits: int = 0,
    threads: int = 1,
) -> Timing:
    """Every so-manieth call is preempted and takes nine times as long; of ten, some wait."""
    clock = ScriptedClock(cpu_share)
    counter = itertools.count(1)

    def durations() -> Iterator[float]:
        while True:
            yield duration_s * (9 if (hits.current + 1) % every == 0 else 1)

    class Hits:
        current = 0

    hits = Hits()

    def preempt() -> bool:
        hits.current = next(counter)
        clock.waited += hits.current % 10 < waits
        return hits.current % every == 0

    return protocol.measure(
        {"a": lambda: ScriptedSession(clock, durations(), preempted=preempt)},
        {"a": IMAGES},
        clock=clock,
        threads=threads,
    )


def test_preempted_calls_stay_out_of_the_median_and_are_told() -> None:
    timing = preempted(every=4)
    latency = timing.latency("a")
    assert latency is not None
    assert latency.value == pytest.approx(0.001)
    assert timing.warnings("a") == ()
    assert any("preempted" in remark for remark in timing.remarks("a"))
    share = timing.preempted_share("a")
    assert share is not None
    assert 0.2 < share < 0.3


def test_that_most_calls_were_preempted_is_warned_of() -> None:
    timing = preempted(every=4)
    for one in timing.rounds:
        calls = one["a"]
        assert calls.preempted is not None
        calls.preempted[:] = True
        calls.preempted[:5] = False  # enough for a median
    (warning,) = timing.warnings("a")
    assert "calls were preempted; the median is of the others; in service," in warning
    assert not any("preempted" in remark for remark in timing.remarks("a"))
    p90 = timing.latency("a", 90)
    assert p90 is not None
    assert p90.value == pytest.approx(0.009)  # a percentile is of what users meet


@pytest.mark.parametrize("waits", [0, 4])
def test_when_nearly_all_calls_are_preempted_cpu_time_counts_with_a_warning(waits: int) -> None:
    timing = preempted(every=1, duration_s=0.0001, cpu_share=1 / 9, waits=waits)
    latency = timing.latency("a")
    assert latency is not None
    assert latency.value == pytest.approx(0.0001)
    (warning,) = timing.warnings("a")
    assert "6 of 6 rounds" in warning
    assert "CPU time is used instead of wall-clock time" in warning
    assert timing.disturbed_rounds("a") == 0
    p90 = timing.latency("a", 90)
    assert p90 is not None
    assert p90.value == pytest.approx(0.0009)


@pytest.mark.parametrize(("waits", "threads"), [(6, 1), (0, 2)])
def test_cpu_time_of_several_threads_or_of_waiting_is_no_latency(waits: int, threads: int) -> None:
    timing = preempted(every=1, cpu_share=1 / 9, waits=waits, threads=threads)
    latency = timing.latency("a")
    assert latency is not None
    assert latency.value == pytest.approx(0.009)
    (warning,) = timing.warnings("a")
    assert "6 of 6 rounds" in warning
    assert "the figure includes disturbed calls" in warning
    assert timing.disturbed_rounds("a") == 6


def test_undisturbed_calls_are_believed_before_cpu_time() -> None:
    latency = preempted(every=4, cpu_share=0.5).latency("a")
    assert latency is not None
    assert latency.value == pytest.approx(0.001)


class DeviceSession(ScriptedSession):
    """A device that says that a call took 5 ms, 1 ms of it copies."""

    def device_times(self) -> DeviceTimes:
        return DeviceTimes(total_s=0.005, copies_s=0.001)


def test_a_device_is_believed_about_its_own_time() -> None:
    clock = ScriptedClock()
    timing = protocol.measure(
        {
            "device": lambda: DeviceSession(clock, always(0.009)),
            "host": lambda: ScriptedSession(clock, always(0.009)),
        },
        dict.fromkeys(("device", "host"), IMAGES),
        clock=clock,
    )
    assert timing.median("device") == 0.005
    assert timing.copies_s("device") == 0.001
    assert timing.median("host") == pytest.approx(0.009)
    assert timing.copies_s("host") is None
    assert timing.first_s("device") == pytest.approx(0.009)  # as who waits for it sees it


@pytest.mark.parametrize("output", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_end_it_and_close_the_session(output: float) -> None:
    clock = ScriptedClock()
    log: list[str] = []
    with pytest.raises(ModelFileError, match="not finite"):
        protocol.measure(
            {"broken": lambda: ScriptedSession(clock, always(0.001), output=output, log=log)},
            {"broken": IMAGES},
            clock=clock,
        )
    assert log[-1] == "-model"
    assert gc.isenabled()


def test_the_system_clock_goes_forward_and_counts() -> None:
    for threads in (1, 2):
        clock = protocol.SystemClock(threads)
        start = clock.wall_ns(), clock.cpu_ns()
        sum(range(20_000))
        assert clock.wall_ns() > start[0]
        assert clock.cpu_ns() >= start[1]
        for count in (clock.preemptions(), clock.waits()):
            assert count is None or count >= 0


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="needs clocks of threads")
def test_with_one_thread_the_cpu_time_of_others_does_not_count() -> None:
    clocks = [protocol.SystemClock(1), protocol.SystemClock(2)]
    before = [clock.cpu_ns() for clock in clocks]
    other = threading.Thread(target=lambda: sum(range(3_000_000)))
    other.start()
    waits = clocks[0].waits()
    other.join()
    alone, all_of_it = (clock.cpu_ns() - start for clock, start in zip(clocks, before, strict=True))
    assert all_of_it > 2 * alone
    after = clocks[0].waits()
    assert after is None or waits is None or after > waits  # it waited for the other
