"""How a model is timed: warmed up, in rounds, in bursts, against others in the same rounds.

A round creates every subject's session anew in random order (where a session's memory comes to
lie makes its speed, for as long as it lives), warms each up, then calls them in short bursts in
random order, so that whatever the machine does meets all of them. Each call is timed by the wall
clock, or by events on the stream of the device that runs it; its CPU time and how often the kernel
took the CPU away from it are noted.
"""

from __future__ import annotations

import contextlib
import gc
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compress.errors import Inconclusive, ModelFileError
from compress.profiling import estimates
from compress.profiling.estimates import Array
from compress.profiling.runtime import DeviceSession, Input, Session
from compress.results import Estimate

try:
    import resource
except ImportError:  # pragma: no cover - Windows has no such counters
    resource = None  # type: ignore[assignment]

LOOKS = (6, 12, 24, 48)

# What one model's bursts may take in a round, in seconds, where its calls allow it.
ROUND_S = 0.1

# Round -> the batches that a model is called with in it, one after the other and from the start.
Draw = Callable[[int], Sequence[Input]]


class Clock(Protocol):
    """What a call is measured with."""

    def wall_ns(self) -> int:
        """Nanoseconds that only go forward."""
        ...

    def cpu_ns(self) -> int:
        """CPU time of those threads whose preemptions count, in nanoseconds."""
        ...

    def preemptions(self) -> int | None:
        """How often the kernel took a CPU away so far; None where it does not tell."""
        ...

    def waits(self) -> int | None:
        """How often a thread gave its CPU up so far, to wait; None where it is not told."""
        ...


class SystemClock:
    """The machine's clocks.

    Args:
        threads: with one thread, only what the calling thread did and what happened to it counts
            (where the system counts by thread); with more, all of the process, for a call is as
            late as its latest worker.
    """

    def __init__(self, threads: int = 1) -> None:
        self._who: int | None = None
        self._cpu_ns: Callable[[], int] = time.process_time_ns
        if resource is not None:
            self._who = resource.RUSAGE_SELF
            if threads == 1 and hasattr(resource, "RUSAGE_THREAD"):
                self._who, self._cpu_ns = resource.RUSAGE_THREAD, time.thread_time_ns

    def wall_ns(self) -> int:
        """Nanoseconds of the performance counter."""
        return time.perf_counter_ns()

    def cpu_ns(self) -> int:
        """User and system time."""
        return self._cpu_ns()

    def preemptions(self) -> int | None:
        """Involuntary context switches so far."""
        return None if self._who is None else resource.getrusage(self._who).ru_nivcsw

    def waits(self) -> int | None:
        """Voluntary context switches so far."""
        return None if self._who is None else resource.getrusage(self._who).ru_nvcsw


@dataclass(frozen=True)
class WarmUp:
    """When a session counts as warm.

    Attributes:
        min_calls, min_s: at least so many calls and seconds.
        block: two successive medians of so many calls must agree; 0 asks for no agreement.
        tolerance: by how much the two may differ, as a fraction.
        max_s: an end in any case.
    """

    min_calls: int = 5
    min_s: float = 0.25
    block: int = 10
    tolerance: float = 0.02
    max_s: float = 5.0

    def settled(self, calls_s: Sequence[float]) -> bool:
        """Whether the calls so far, in seconds, make the session warm."""
        if len(calls_s) < self.min_calls or sum(calls_s) < self.min_s:
            return False
        if not self.block:
            return True
        # Blocks do not overlap: looking after every call would stop at the first coincidence.
        if len(calls_s) < 2 * self.block or len(calls_s) % self.block:
            return False
        last = float(np.median(calls_s[-self.block :]))
        before = float(np.median(calls_s[-2 * self.block : -self.block]))
        return abs(last - before) < self.tolerance * before


# The first session of a model: everything is cold, the CPU's frequency and the process included.
FIRST_WARM_UP = WarmUp()
# Where a larger share was preempted, a median of the others says little of what callers meet.
MOST = 0.5
# A session of a model that ran in this process a moment ago: only its own memory is new (packed
# weights, the arena), and one call touches all of that. The median of calls 6 to 30 of such a
# session was within about 1% of that of calls 31 to 60 (WRN-10-2, WRN-16-4, ResNet-20; 22 sessions
# each). Slow calls warm up in fewer.
NEXT_WARM_UP = WarmUp(min_calls=5, min_s=0.0, block=0, max_s=0.25)


@dataclass(frozen=True)
class Burst:
    """What a round does with one model: ``count`` bursts of ``calls``, ``dropped`` not counted."""

    count: int
    calls: int
    dropped: int

    @property
    def kept(self) -> int:
        """Calls that count, a round."""
        return self.count * (self.calls - self.dropped)


@dataclass(frozen=True)
class Calls:
    """The calls of one model in one round.

    Attributes:
        wall_s: seconds of each call [n]: by the wall clock, or by a device's own events.
        cpu_s: the CPU's seconds of each call [n].
        preempted: whether the kernel took a CPU away during it [n]; None where it does not tell.
        load_s: what creating the session took.
        first_s: the session's first call.
        warm: whether the warm-up rule was met.
        computes: whether the calls were one thread's work and most did not wait for anything, so
            that a call takes its CPU time where nobody takes the CPU away.
        copies_s: seconds of each call that a device was copied to and from [n]; None without one.
    """

    wall_s: Array
    cpu_s: Array
    preempted: NDArray[np.bool_] | None
    load_s: float
    first_s: float
    warm: bool
    computes: bool = False
    copies_s: Array | None = None

    def median(self) -> tuple[float, str]:
        """The round's value in seconds, and what it is of: see ``estimates.median_of_round``."""
        return estimates.median_of_round(
            self.wall_s, self.preempted, self.cpu_s if self.computes else None
        )


@dataclass(frozen=True)
class Timing:
    """Rounds of one or more models, and what follows from them."""

    rounds: tuple[Mapping[str, Calls], ...]
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The models, in the order in which they were given."""
        return tuple(self.rounds[0])

    def calls_s(self, name: str) -> Array:
        """All counted calls of a model [n]."""
        return np.concatenate([one[name].wall_s for one in self.rounds])

    def round_medians(self, name: str) -> Array:
        """One value a round [rounds]: the median of undisturbed calls where there are enough."""
        return np.array([one[name].median()[0] for one in self.rounds])

    def median(self, name: str) -> float:
        """Median over rounds, without an interval, from any number of rounds."""
        return float(np.median(self.round_medians(name)))

    def latency(self, name: str, percentile: float = 50.0) -> Estimate | None:
        """Seconds a call, at a percentile, with the ends of a 95% interval.

        The median comes from rounds (None below six). Any other percentile comes from all
        calls, preempted ones too, for those are what a user meets; None where it is not known
        yet (``estimates.calls_needed``).
        """
        if percentile == 50:
            return estimates.median_of_rounds(self.round_medians(name), seed=self.seed)
        calls = [one[name].wall_s for one in self.rounds]
        return estimates.percentile_of_rounds(calls, percentile)

    def ratio(self, numerator: str, denominator: str) -> Estimate:
        """time(numerator) / time(denominator): median over rounds, bootstrap over rounds.

        Raises:
            Inconclusive: fewer than six rounds.
        """
        found = estimates.ratio_of_rounds(
            self.round_medians(numerator), self.round_medians(denominator), seed=self.seed
        )
        if found is None:
            raise Inconclusive(
                f"{len(self.rounds)} rounds give no interval for a ratio; "
                f"at least {estimates.MINIMUM_ROUNDS} are needed."
            )
        return found

    def load_s(self, name: str) -> float:
        """What creating the session took, the first time."""
        return self.rounds[0][name].load_s

    def first_s(self, name: str) -> float:
        """The first call of the first session."""
        return self.rounds[0][name].first_s

    def preempted_share(self, name: str) -> float | None:
        """Share of calls that lost a CPU to another process; None where unknown."""
        flags = [one[name].preempted for one in self.rounds]
        known = [flag for flag in flags if flag is not None]
        return float(np.mean(np.concatenate(known))) if known else None

    def copies_s(self, name: str) -> float | None:
        """What of a call is copying to and from a device, the median; None without one."""
        found = [one[name].copies_s for one in self.rounds]
        known = [copies for copies in found if copies is not None]
        return float(np.median(np.concatenate(known))) if known else None

    def outliers(self, name: str) -> int:
        """Calls far out, relative to their round. They are counted and never dropped."""
        return estimates.outliers(
            np.concatenate([one[name].wall_s / np.median(one[name].wall_s) for one in self.rounds])
        )

    def warnings(self, name: str) -> tuple[str, ...]:
        """What makes these figures less than they seem, a sentence each."""
        found = []
        if not self.rounds[0][name].warm:
            found.append(
                "The warm-up ended after 5 s, before two medians of 10 calls agreed within 2%."
            )
        for basis, consequence in (
            (
                estimates.CPU_TIME,
                "their CPU time is used instead of wall-clock time, which is the latency of an "
                "idle core plus a few per cent for caches that others emptied",
            ),
            (estimates.DISTURBED, "the figure includes disturbed calls"),
        ):
            rounds = self._rounds_of(name, basis)
            if rounds:
                found.append(
                    f"In {rounds} of {len(self.rounds)} rounds nearly all calls were preempted "
                    f"({self.preempted_share(name) or 0:.0%} of all), so {consequence}."
                )
        if self._set_aside(name) > MOST:
            found.append(f"{self._told_aside(name)}; in service, preempted calls occur, too.")
        return tuple(found)

    def remarks(self, name: str) -> tuple[str, ...]:
        """What was set aside or lay far out, a sentence each."""
        found = []
        calls = len(self.calls_s(name))
        if 0.01 <= self._set_aside(name) <= MOST:
            found.append(f"{self._told_aside(name)}.")
        far = self.outliers(name)
        if far:
            found.append(f"{far} of {calls} calls are outliers (they count).")
        return tuple(found)

    def _set_aside(self, name: str) -> float:
        """Share of the calls that were preempted, where none of those is in the median."""
        clean = self._rounds_of(name, estimates.UNDISTURBED) == len(self.rounds)
        return (self.preempted_share(name) or 0.0) if clean else 0.0

    def _told_aside(self, name: str) -> str:
        return (
            f"{self._set_aside(name):.0%} of {len(self.calls_s(name))} calls were preempted; the "
            "median is of the others"
        )

    def disturbed_rounds(self, name: str) -> int:
        """Rounds in which nearly all calls were preempted, so that all had to count."""
        return self._rounds_of(name, estimates.DISTURBED)

    def _rounds_of(self, name: str, basis: str) -> int:
        """Rounds whose value rests on that."""
        return sum(one[name].median()[1] == basis for one in self.rounds)


def measure(
    subjects: Mapping[str, Callable[[], Session]],
    inputs: Mapping[str, Input | Draw],
    *,
    min_rounds: int = LOOKS[0],
    max_rounds: int = LOOKS[-1],
    looks: Sequence[int] = LOOKS,
    stop: Callable[[Timing], bool] | None = None,
    calls_wanted: int = 0,
    max_s: float = math.inf,
    seed: int = 0,
    threads: int = 1,
    first: WarmUp = FIRST_WARM_UP,
    quiet_s: float = 0.0,
    clock: Clock | None = None,
) -> Timing:
    """Times models in interleaved rounds until ``stop`` says that it is decided.

    Args:
        subjects: name -> what creates its session; called once a round.
        inputs: name -> the batch that it is called with, or what draws those of each round.
        min_rounds: no decision before; without ``stop`` this is how many there are.
        max_rounds: the end in any case.
        looks: after how many rounds ``stop`` is asked. Few looks keep the chance low that one of
            them is met by luck.
        stop: whether the timing so far decides what was asked.
        calls_wanted: counted calls that every model shall have after half of ``max_rounds``
            (a percentile may need more than short rounds would give).
        max_s: no further round begins after so many seconds, once there are ``min_rounds``.
        seed: of the random orders, and of the bootstrap.
        threads: how many each session uses; decides whose preemptions count.
        first: how sessions warm up in the first round.
        quiet_s: what is waited between bursts of two models, for workers of the first that go on
            spinning after its last call.
        clock: the machine's unless given.

    Raises:
        ModelFileError: an output is not finite.
    """
    clock = clock or SystemClock(threads)
    order = random.Random(seed)
    plans: dict[str, Burst] = {}
    rounds: list[Mapping[str, Calls]] = []
    begun_ns = clock.wall_ns()
    wanted = math.ceil(calls_wanted / max(1, max_rounds // 2))
    while True:
        batches = {name: batches_of(each, len(rounds)) for name, each in inputs.items()}
        rounds.append(
            _round(subjects, batches, plans, wanted, order, first, quiet_s, clock, threads)
        )
        done = len(rounds)
        if done >= max_rounds or (stop is None and done >= min_rounds):
            break
        timing = Timing(tuple(rounds), seed)
        if done >= min_rounds and done in looks and stop is not None and stop(timing):
            break
        if done >= min_rounds and (clock.wall_ns() - begun_ns) / 1e9 >= max_s:
            break
    return Timing(tuple(rounds), seed)


def batches_of(inputs: Input | Draw, round_: int = 0) -> Sequence[Input]:
    """What a model is called with in a round, one batch or more."""
    return inputs(round_) if callable(inputs) else (inputs,)


def plan_bursts(call_s: float, wanted: int = 0) -> Burst:
    """Five bursts of six calls, the first of each dropped; fewer where calls are slow.

    A call that takes longer than a round is meant to take is its own burst: what the neighbour
    left in the caches is gone after its first hundredth, so nothing is dropped.

    Args:
        call_s: roughly what a call takes.
        wanted: counted calls a round, at least.
    """
    if call_s > ROUND_S:
        return Burst(count=max(2, wanted), calls=1, dropped=0)
    calls = min(6, max(3, int(ROUND_S / (5 * call_s))))
    count = min(5, max(2, int(ROUND_S / (calls * call_s))))
    if count * (calls - 1) < wanted:
        calls = math.ceil(wanted / count) + 1
    return Burst(count, calls, dropped=1)


def _round(
    subjects: Mapping[str, Callable[[], Session]],
    batches: Mapping[str, Sequence[Input]],
    plans: dict[str, Burst],
    wanted: int,
    order: random.Random,
    first: WarmUp,
    quiet_s: float,
    clock: Clock,
    threads: int,
) -> Mapping[str, Calls]:
    """One round; fills ``plans`` where a model has none yet, which is in the first."""
    names = list(subjects)
    order.shuffle(names)
    sessions: dict[str, Session] = {}
    load_s: dict[str, float] = {}
    first_s: dict[str, float] = {}
    warm: dict[str, bool] = {}
    taken: dict[str, list[_Call]] = {name: [] for name in names}
    # The stack closes sessions in reverse order, as those need that set something global.
    with contextlib.ExitStack() as stack, _without_collector():
        for name in names:
            start_ns = clock.wall_ns()
            session = subjects[name]()
            load_s[name] = (clock.wall_ns() - start_ns) / 1e9
            stack.callback(session.close)
            sessions[name] = session
        for name in names:
            first_s[name] = first_call(name, sessions[name], batches[name][0], clock)
            rule = NEXT_WARM_UP if name in plans else first
            calls_s, warm[name] = warm_up(sessions[name], batches[name], rule, clock, first_s[name])
            if name not in plans:
                plans[name] = plan_bursts(float(np.median(calls_s[-10:])), wanted)
        bursts = [name for name in names for _ in range(plans[name].count)]
        order.shuffle(bursts)
        for before, name in zip([bursts[0], *bursts], bursts, strict=False):
            if quiet_s and name != before:
                time.sleep(quiet_s)
            plan, several = plans[name], batches[name]
            # What is not counted takes no image from what is: models of as many calls see the same.
            for number in range(-plan.dropped, plan.calls - plan.dropped):
                images = several[len(taken[name]) % len(several)]
                call = _call(sessions[name], images, clock)
                if number >= 0:
                    taken[name].append(call)
    return {
        name: _collect(taken[name], load_s[name], first_s[name], warm[name], threads)
        for name in subjects
    }


def warm_up(
    session: Session, batches: Sequence[Input], rule: WarmUp, clock: Clock, first_s: float
) -> tuple[list[float], bool]:
    """Calls a session until it is warm.

    Args:
        session: the one.
        batches: what it is called with, one after the other.
        rule: when it counts as warm.
        clock: measures the calls.
        first_s: what its first call took; it counts as the first of the warm-up.

    Returns:
        the calls in seconds, and whether the rule was met (rather than its time being up).
    """
    calls_s = [first_s]
    while not rule.settled(calls_s):
        if sum(calls_s) >= rule.max_s:
            return calls_s, False
        images = batches[len(calls_s) % len(batches)]
        calls_s.append(_call(session, images, clock).wall_s)
    return calls_s, True


def first_call(name: str, session: Session, images: Input, clock: Clock) -> float:
    """Seconds of a session's first call.

    Raises:
        ModelFileError: the model fails on it, or its answer is not finite.
    """
    start_ns = clock.wall_ns()
    session.infer(images)
    session.synchronize()
    taken_s = (clock.wall_ns() - start_ns) / 1e9
    arrays = map(np.asarray, session.outputs().values())
    if not all(np.isfinite(x).all() for x in arrays if np.issubdtype(x.dtype, np.floating)):
        raise ModelFileError(
            f"{name} answers with values that are not finite (NaN or infinity), so it is not "
            "timed. Train or export it again."
        )
    return taken_s


@dataclass(frozen=True)
class _Call:
    """One call: seconds, and whether it lost the CPU or gave it up; None where unknown."""

    wall_s: float
    cpu_s: float
    preempted: bool | None
    waited: bool | None
    copies_s: float | None


def _call(session: Session, images: Input, clock: Clock) -> _Call:
    preemptions, waits = clock.preemptions(), clock.waits()
    cpu_ns = clock.cpu_ns()
    start_ns = clock.wall_ns()
    session.infer(images)
    session.synchronize()
    end_ns = clock.wall_ns()
    cpu_ns = clock.cpu_ns() - cpu_ns
    preempted = _more(clock.preemptions(), preemptions)
    waited = _more(clock.waits(), waits)
    wall_s, copies_s = (end_ns - start_ns) / 1e9, None
    if isinstance(session, DeviceSession):
        times = session.device_times()
        wall_s, copies_s = times.total_s, times.copies_s
    return _Call(wall_s, cpu_ns / 1e9, preempted, waited, copies_s)


def _mostly(flags: Iterable[bool]) -> bool:
    return float(np.mean(list(flags))) > 0.5


def _more(after: int | None, before: int | None) -> bool | None:
    return None if after is None or before is None else after > before


def _collect(calls: list[_Call], load_s: float, first_s: float, warm: bool, threads: int) -> Calls:
    preempted = [call.preempted for call in calls if call.preempted is not None]
    copies = [call.copies_s for call in calls if call.copies_s is not None]
    return Calls(
        wall_s=np.array([call.wall_s for call in calls]),
        cpu_s=np.array([call.cpu_s for call in calls]),
        preempted=np.array(preempted, dtype=np.bool_) if len(preempted) == len(calls) else None,
        load_s=load_s,
        first_s=first_s,
        warm=warm,
        computes=threads == 1 and not copies and _mostly(call.waited is False for call in calls),
        copies_s=np.array(copies) if copies else None,
    )


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """No garbage collection in between calls."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
