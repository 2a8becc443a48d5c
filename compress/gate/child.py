"""The fresh process of ``compress.gate.measuring``: a pickled Trial in, JSON out."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from compress.errors import NothingMeasured
from compress.gate.latency import ratio_of
from compress.gate.measuring import Rounds, Trial, encode, outcomes
from compress.gate.verdict import Outcome
from compress.profiling import protocol
from compress.profiling.child import serve
from compress.profiling.estimates import CLEAN_CALLS, Array, calls_needed
from compress.profiling.inputs import inputs_of
from compress.profiling.machine import allowed_cpus
from compress.profiling.protocol import Calls, Timing, batches_of
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Input, Session, Subject
from compress.profiling.timing import is_clear

CANDIDATE, AGAINST = "the candidate", "the other model"

# Which of the undisturbed calls is a round's figure.
FAST = 0.1
# Calls of a model in a round, where they take no longer than this.
ROUND_CALLS = 60
ROUND_S = 0.3
TRIAL_CALLS = 4
KEEPS_THREADS = "onnxruntime"
# Where Linux lists the threads of this process.
THREADS = Path("/proc/self/task")


def main() -> None:
    """Reads the trial, measures, answers."""
    serve(lambda trial: encode(measure(trial)))


def measure(trial: Trial) -> Rounds:
    """The rounds of a trial.

    Raises:
        CompressError: a model cannot be loaded or run, or an option cannot be.
    """
    settings = trial.settings
    runtime = runtime_named(settings.runtime)
    paths = {CANDIDATE: trial.candidate}
    if trial.against is not None:
        paths[AGAINST] = trial.against
    subjects = {role: Subject(path.name, path=path) for role, path in paths.items()}

    def decided(timing: Timing) -> bool:
        found = summary(timing, trial)
        if trial.rule is None and trial.budget_s is None:
            # Nothing is judged; the figures are to be good ones.
            return is_clear(
                ratio_of(found.candidate_s, found.against_s) if found.against_s else found.median,
                None,
            )
        # More rounds never make something of a limit that is not exceeded.
        return Outcome.INCONCLUSIVE not in outcomes(replace(trial, limit_s=None), found)

    samples = {CANDIDATE: trial.sample, AGAINST: trial.against_sample}
    inputs = {
        role: inputs_of(
            runtime,
            subject,
            batch=settings.batch,
            shape=settings.shape,
            seed=trial.seed,
            sample=samples[role],
        )
        for role, subject in subjects.items()
    }
    loads: dict[str, Callable[[], Session]] = {
        role: partial(
            runtime.load, subject, threads=settings.threads, images=batches_of(inputs[role])[0]
        )
        for role, subject in subjects.items()
    }
    cpus = sorted(allowed_cpus())
    # OpenVINO's workers take every CPU again at each call, whatever they are told.
    if settings.runtime == KEEPS_THREADS and 1 < len(cpus) <= settings.threads and THREADS.exists():
        loads = {role: partial(bound, load, cpus) for role, load in loads.items()}
    rounds = trial.rounds or protocol.LOOKS[-1]
    begun = time.perf_counter()
    timing = protocol.measure(
        loads,
        inputs,
        min_rounds=trial.rounds or protocol.LOOKS[0],
        max_rounds=rounds,
        stop=None if trial.rounds else decided,
        calls_wanted=max(
            percentile_calls(trial),
            rounds
            // 2
            * min(calls_a_round(loads[role], batches_of(inputs[role])) for role in subjects),
        ),
        max_s=trial.max_s,
        threads=settings.threads,
        seed=trial.seed,
    )
    return replace(summary(timing, trial), rounds_s=time.perf_counter() - begun)


def bound(load: Callable[[], Session], cpus: list[int]) -> Session:
    """A session whose threads stay each on a CPU of its own, the one that calls it on the first.

    Where a session has a thread for every CPU, Linux may leave two of them on one for as long as a
    round lasts, above all when somebody else keeps another busy. Its calls are then slower by half
    or more and nothing preempts them, so that it is the placing that is compared
    (benchmarks/results/gate). Where CPUs are left over, Linux is better at choosing among them.
    """
    os.sched_setaffinity(0, cpus)
    before = _threads()
    session = load()
    for place, thread in enumerate(sorted(_threads() - before), start=1):
        os.sched_setaffinity(thread, [cpus[place % len(cpus)]])
    os.sched_setaffinity(0, cpus[:1])
    return session


def _threads() -> set[int]:
    return {int(entry.name) for entry in THREADS.iterdir()}


def summary(timing: Timing, trial: Trial) -> Rounds:
    """What the rules look at.

    Raises:
        NothingMeasured: fewer than six rounds.
    """
    median = timing.latency(CANDIDATE)
    if median is None:
        raise NothingMeasured(f"{len(timing.rounds)} rounds are too few for an estimate.")
    threads = trial.settings.threads
    return Rounds(
        candidate_s=tuple(fast_call(one[CANDIDATE]) for one in timing.rounds),
        against_s=tuple(fast_call(one[AGAINST]) for one in timing.rounds if AGAINST in one),
        candidate_all_s=tuple(all_calls(one[CANDIDATE], threads) for one in timing.rounds),
        against_all_s=tuple(
            all_calls(one[AGAINST], threads) for one in timing.rounds if AGAINST in one
        ),
        latency=timing.latency(CANDIDATE, trial.settings.percentile),
        median=median,
        all_calls_s=float(np.median(timing.calls_s(CANDIDATE))),
        calls=len(timing.calls_s(CANDIDATE)),
        seconds=0.0,
        rounds_s=0.0,
        load_s=_load_s(timing, CANDIDATE),
        against_load_s=None if trial.against is None else _load_s(timing, AGAINST),
        warnings=tuple(
            f"Timing {name}: {text}" for name in timing.names for text in timing.warnings(name)
        ),
    )


def _load_s(timing: Timing, name: str) -> float:
    return float(np.median([one[name].load_s for one in timing.rounds]))


def percentile_calls(trial: Trial) -> int:
    """Calls that the percentile of a budget takes; none where there is no budget."""
    percentile = trial.settings.percentile
    return 0 if trial.budget_s is None or percentile == 50 else calls_needed(percentile)


def fast_call(calls: Calls) -> float:
    """The lower decile of a round's undisturbed calls, in seconds.

    What others do on the machine only ever makes calls slower: by taking the CPU away, which is
    known of each call, and by leaving nothing of the model in the caches, which is not. Work that
    a model does is in its fast calls too, and those of one round are like those of another.
    """
    return float(np.quantile(undisturbed(calls), FAST))


def all_calls(calls: Calls, threads: int) -> float:
    """The geometric mean of a round's calls in seconds, without what interruptions took.

    A call that was interrupted counts with its CPU time, unless the wall clock says less: where the
    session has one thread that computes, or the clock is that of all threads. Of a device's own
    events, and of calls that wait for somebody else, the wall clock is all that is known.
    """
    own = calls.wall_s
    computes = calls.computes or threads > 1
    if calls.preempted is not None and calls.copies_s is None and computes:
        known = calls.preempted & (calls.cpu_s > 0)
        own = np.where(known, np.minimum(calls.cpu_s, calls.wall_s), calls.wall_s)
    return float(np.exp(np.mean(np.log(own))))


def undisturbed(calls: Calls) -> Array:
    """The calls that kept their CPUs, in seconds; all of them where nearly none did."""
    if calls.preempted is None:
        return calls.wall_s
    clean = calls.wall_s[~calls.preempted]
    return clean if len(clean) >= min(CLEAN_CALLS, len(calls.wall_s) / 2) else calls.wall_s


def calls_a_round(load: Callable[[], Session], batches: Sequence[Input]) -> int:
    """How many calls of a model a round has: as many as the fastest are worth looking for among.

    Slow models get fewer, so that a check ends.
    """
    session = load()
    try:
        taken_s = []
        for images in itertools.islice(itertools.cycle(batches), TRIAL_CALLS):
            begun = time.perf_counter()
            session.infer(images)
            session.synchronize()
            taken_s.append(time.perf_counter() - begun)
    finally:
        session.close()
    return max(1, min(ROUND_CALLS, int(ROUND_S / min(taken_s))))


if __name__ == "__main__":
    main()
