"""Timing files: one against a budget, several against each other, and in a fresh process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from compress.errors import Inconclusive
from compress.limits import Judgement, judge
from compress.profiling import protocol
from compress.profiling.estimates import calls_needed, why_unknown
from compress.profiling.inputs import Sample, inputs_of
from compress.profiling.machine import shares_cores
from compress.profiling.protocol import Timing
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Runtime, Subject
from compress.results import Estimate, Fastest

# For so long at most workers go on spinning after a call; torch's were seen to do so for 3 to 7 ms.
SPINNING_S = 0.02

# Without a budget to be clear of, looking ends when the interval is this narrow, as a fraction.
NARROW = 0.02


@dataclass(frozen=True)
class ModelTiming:
    """What one model takes.

    Attributes:
        latency: seconds a call, at the percentile asked for.
        median: the same at the median.
        all_calls_s: the median of all calls, disturbed ones too; None where ``latency`` is of
            another percentile, which is always one of all calls.
        rounds, calls: what it rests on.
        warnings: a sentence each.
    """

    latency: Estimate
    median: Estimate
    all_calls_s: float | None
    rounds: int
    calls: int
    warnings: tuple[str, ...]

    def judge(self, budget_s: float) -> Judgement:
        """Whether the latency keeps a budget."""
        return judge(self.latency, budget_s, all_calls=self.all_calls_s)


def time_model(
    path: Path,
    *,
    batch: int = 1,
    threads: int = 1,
    percentile: float = 50.0,
    runtime: str = "onnxruntime",
    budget_s: float | None = None,
    shape: tuple[int, ...] | None = None,
    sample: Sample | None = None,
    max_s: float = 30.0,
    seed: int = 0,
) -> ModelTiming:
    """Times a model file until it is decided whether it keeps the budget, or for 48 rounds.

    Args:
        path: an ONNX file.
        batch: images a call, for a dynamic first dimension.
        threads: of the session.
        percentile: 50 times the median.
        runtime: one of ``registry.RUNTIMES`` that reads ONNX files.
        budget_s: without one, looking ends when the interval is within 2%.
        shape: channels, height and width, where the file leaves them open.
        sample: images that it is called with; None: seeded noise.
        max_s: no further round begins after so many seconds; the interval is then what it is.
        seed: of the inputs, the orders and the resampling.

    Raises:
        ModelFileError: the file cannot be loaded, or its outputs are not finite.
        UsageError: an unknown runtime, or a dimension that has no value.
        Inconclusive: too few calls for the percentile when time was up.
    """
    timing = time_in_rounds(
        {path.name: (runtime_named(runtime), Subject(path.name, path=path))},
        lambda timing: is_decided(timing, path.name, percentile, budget_s),
        calls_wanted=0 if percentile == 50 else calls_needed(percentile),
        batch=batch,
        threads=threads,
        shape=shape,
        sample=sample,
        max_s=max_s,
        seed=seed,
    )
    return summarise(timing, path.name, percentile)


def time_in_rounds(
    models: Mapping[str, tuple[Runtime, Subject]],
    stop: Callable[[Timing], bool],
    *,
    batch: int,
    threads: int,
    shape: tuple[int, ...] | None,
    sample: Sample | None,
    max_s: float,
    seed: int,
    calls_wanted: int = 0,
    quiet_s: float = 0.0,
) -> Timing:
    """Times models, each in its runtime, in the same rounds.

    Args:
        models: name -> what runs it, and the model.
        stop: whether what was asked is decided; asked after 6, 12, 24 and 48 rounds.
        batch: images a call, for a dynamic first dimension.
        threads: of each session.
        shape: channels, height and width, where a model leaves them open.
        sample: images that they are called with; None: seeded noise.
        max_s: no further round begins after so many seconds.
        seed: of the inputs, the orders and the resampling.
        calls_wanted: counted calls that every model shall have after half of the rounds.
        quiet_s: what is waited between bursts of two models.
    """
    inputs = {
        name: inputs_of(runtime, subject, batch=batch, shape=shape, seed=seed, sample=sample)
        for name, (runtime, subject) in models.items()
    }
    loads = {
        name: partial(
            runtime.load, subject, threads=threads, images=protocol.batches_of(inputs[name])[0]
        )
        for name, (runtime, subject) in models.items()
    }
    return protocol.measure(
        loads,
        inputs,
        stop=stop,
        calls_wanted=calls_wanted,
        max_s=max_s,
        threads=threads,
        seed=seed,
        quiet_s=quiet_s,
    )


def time_models(
    paths: Mapping[str, Path],
    *,
    batch: int = 1,
    threads: int = 1,
    runtime: str = "onnxruntime",
    shape: tuple[int, ...] | None = None,
    sample: Sample | None = None,
    ratio: float | None = None,
    max_s: float = 60.0,
    seed: int = 0,
) -> Timing:
    """Times files in the same rounds, for their ratios: ``timing.ratio("teacher", "student")``.

    Ends when the ratio of the first file to every other is clear of ``ratio`` (without one: is
    known within 2%), after 48 rounds, or when ``max_s`` is over.

    Args:
        paths: name -> ONNX file, two or more.
        ratio: that the ratios are to be judged against.
        batch: images a call, for a dynamic first dimension.
        threads: of each session.
        runtime: one of ``registry.RUNTIMES`` that reads ONNX files.
        shape: channels, height and width, where the files leave them open.
        sample: images that they are called with; None: seeded noise.
        max_s: no further round begins after so many seconds.
        seed: of the inputs, the orders and the resampling.

    Raises:
        ModelFileError, UsageError: as ``time_model``.
    """
    first, *others = names = list(paths)

    def narrow(timing: Timing) -> bool:
        if len(names) == 1:
            latency = timing.latency(first)
            return latency is not None and is_clear(latency, None)
        return all(is_clear(timing.ratio(first, other), ratio) for other in others)

    found = runtime_named(runtime)
    return time_in_rounds(
        {name: (found, Subject(name, path=path)) for name, path in paths.items()},
        narrow,
        batch=batch,
        threads=threads,
        shape=shape,
        sample=sample,
        max_s=max_s,
        seed=seed,
    )


def time_runtimes(
    path: Path,
    runtimes: Sequence[str],
    *,
    batch: int = 1,
    threads: int = 1,
    shape: tuple[int, ...] | None = None,
    sample: Sample | None = None,
    max_s: float = 60.0,
    seed: int = 0,
) -> Timing:
    """Times one file in several runtimes in the same rounds: ``timing.ratio("a", "b")``.

    Ends when the fastest is known (see ``is_known``), after 48 rounds, or when ``max_s`` is over.

    Args:
        path: an ONNX file.
        runtimes: two or more of ``registry.RUNTIMES`` that read ONNX files.
        batch: images a call, for a dynamic first dimension.
        threads: of each session.
        shape: channels, height and width, where the file leaves them open.
        sample: images that it is called with; None: seeded noise.
        max_s: no further round begins after so many seconds.
        seed: of the inputs, the orders and the resampling.

    Raises:
        ModelFileError, UsageError: as ``time_model``.
    """
    subject = Subject(path.name, path=path)
    return time_in_rounds(
        {name: (runtime_named(name), subject) for name in runtimes},
        lambda timing: is_known(fastest_of(timing, {name: name for name in runtimes})),
        batch=batch,
        threads=threads,
        shape=shape,
        sample=sample,
        max_s=max_s,
        seed=seed,
        quiet_s=0.0 if threads == 1 or shares_cores(threads) else SPINNING_S,
    )


def fastest_of(timing: Timing, names: Mapping[str, str]) -> Fastest:
    """The runtime with the smallest median, and how much longer the others take.

    Args:
        timing: rounds in which all of them ran the same model.
        names: runtime -> what it is called in the timing.
    """
    best = min(names, key=lambda runtime: timing.median(names[runtime]))
    return Fastest(
        best,
        {
            runtime: timing.ratio(name, names[best])
            for runtime, name in names.items()
            if runtime != best
        },
    )


def is_known(fastest: Fastest) -> bool:
    """Whether every other one is shown to be slower, or the difference is known within 2%."""
    return all(is_clear(ratio, 1.0) or is_clear(ratio, None) for ratio in fastest.ratios.values())


def is_clear(estimate: Estimate, limit: float | None) -> bool:
    """Whether an interval lies on one side of a limit; without one, whether it is within 2%."""
    if limit is None:
        return estimate.high - estimate.low <= 2 * NARROW * estimate.value
    return judge(estimate, limit) is not Judgement.UNDECIDED


def is_decided(timing: Timing, name: str, percentile: float, budget_s: float | None) -> bool:
    """Whether a latency is known to keep or to miss a budget; without one, is known within 2%."""
    latency = timing.latency(name, percentile)
    if latency is None:
        return False
    if budget_s is None:
        return is_clear(latency, None)
    all_calls = all_calls_s(timing, name, percentile)
    return judge(latency, budget_s, all_calls=all_calls) is not Judgement.UNDECIDED


def all_calls_s(timing: Timing, name: str, percentile: float) -> float | None:
    """The median of all calls, disturbed ones too; None for another percentile than the median."""
    return float(np.median(timing.calls_s(name))) if percentile == 50 else None


def summarise(timing: Timing, name: str, percentile: float) -> ModelTiming:
    """The figures of one model out of a timing.

    Raises:
        Inconclusive: too few calls for the percentile.
    """
    latency, median = timing.latency(name, percentile), timing.latency(name)
    calls = len(timing.calls_s(name))
    if latency is None or median is None:
        raise Inconclusive(
            f"{name}: p{percentile:g} is not known from {calls} calls, "
            f"{why_unknown(calls, calls_needed(percentile))}. Allow more time, or judge the median."
        )
    warnings = (*timing.warnings(name), *timing.remarks(name))
    all_calls = all_calls_s(timing, name, percentile)
    return ModelTiming(latency, median, all_calls, len(timing.rounds), calls, warnings)
