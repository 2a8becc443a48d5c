"""All that a model costs on this machine, alone or beside another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from compress.errors import UsageError
from compress.profiling import protocol
from compress.profiling.costs import costs_of_module, costs_of_onnx, size_of_onnx
from compress.profiling.estimates import MINIMUM_CALLS, calls_needed
from compress.profiling.fresh import Request, in_fresh_process
from compress.profiling.machine import fingerprint
from compress.profiling.protocol import Timing
from compress.profiling.runtimes import Runtime, Subject, can_run, make_input, runtime_named
from compress.profiling.timing import is_clear
from compress.results import (
    Costs,
    Estimate,
    Machine,
    Profile,
    ProfileReport,
    RuntimeProfile,
    Throughput,
)

DEFAULT_BATCHES = (1, 8, 32)

# A figure of throughput has no interval; three rounds keep one bad moment from being it.
THROUGHPUT_ROUNDS = 3

# Enough calls for p99 are made where that takes no longer than this.
P99_S = 2.0

# No further round of the main comparison begins after this; torch eager is only shown beside it.
MAX_S = {"torch": 8.0}
DEFAULT_MAX_S = 20.0


@dataclass(frozen=True)
class Settings:
    """How models are measured.

    Attributes:
        runtimes: names; the first that can run the model is the one that claims rest on.
        threads: of each session.
        batches: images a call; the first one is what latency, percentiles and ratio are of.
            None: 1, 8 and 32, or the one that the file fixes.
        shape: channels, height, width, where a file leaves them open.
        seed: of inputs, orders and resampling.
    """

    runtimes: tuple[str, ...] = ("onnxruntime", "torch")
    threads: int = 1
    batches: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None
    seed: int = 0


def profile(
    model: Subject,
    *,
    against: Subject | None = None,
    settings: Settings | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ProfileReport:
    """Measures a model, and another one in the same rounds.

    Args:
        model: what it is about.
        against: what it is compared with.
        settings: how.
        progress: is told what is being done.

    Raises:
        ModelFileError: a file cannot be loaded or run.
        UsageError: no runtime can run the model, or a dimension has no value.
        NothingMeasured: a measuring process died.
    """
    settings = settings or Settings()
    subjects = {"model": model} | ({} if against is None else {"against": against})
    able = {
        role: [runtime_named(name) for name in settings.runtimes if can_run(name, subject)]
        for role, subject in subjects.items()
    }
    for role, subject in subjects.items():
        if not able[role]:
            raise UsageError(
                f"{' and '.join(settings.runtimes)} cannot run {subject.name}: ONNX Runtime takes "
                "ONNX files, torch takes checkpoints."
            )
    runs: dict[str, list[RuntimeProfile]] = {role: [] for role in subjects}
    speedup: Estimate | None = None
    warnings: list[str] = []
    for name in settings.runtimes:
        here = {role: subject for role, subject in subjects.items() if can_run(name, subject)}
        if not here:
            continue
        runtime = runtime_named(name)
        timing, figures = _run(runtime, here, settings, progress)
        for role, found in figures.items():
            runs[role].append(found)
        if against is not None and len(here) == 2 and speedup is None and name != "torch":
            ratio = timing.ratio("against", "model")
            speedup, told = _claim(ratio, figures["model"], figures["against"])
            warnings.extend(told)
    if against is not None and speedup is None and not warnings:
        warnings.append(
            "No speed-up is claimed: the two were not measured in one runtime that serves "
            "(torch eager is none)."
        )
    profiles = {role: _profile(subject, runs[role], settings) for role, subject in subjects.items()}
    machine = fingerprint()
    warnings.extend(_machine_warnings(machine, settings.threads))
    return ProfileReport(
        profiles["model"], profiles.get("against"), speedup, machine, tuple(warnings)
    )


def _run(
    runtime: Runtime,
    subjects: Mapping[str, Subject],
    settings: Settings,
    progress: Callable[[str], None],
) -> tuple[Timing, dict[str, RuntimeProfile]]:
    """The models in one runtime."""
    batches = settings.batches or _batches(runtime, subjects.values())
    threads = settings.threads

    def measured(batch: int, stop: Callable[[Timing], bool] | None, rounds: int) -> Timing:
        return protocol.measure(
            {
                role: partial(runtime.load, subject, threads=threads)
                for role, subject in subjects.items()
            },
            {
                role: make_input(
                    runtime, subject, batch=batch, shape=settings.shape, seed=settings.seed
                )
                for role, subject in subjects.items()
            },
            min_rounds=min(rounds, protocol.LOOKS[0]),
            max_rounds=rounds,
            stop=stop,
            max_s=MAX_S.get(runtime.name, DEFAULT_MAX_S),
            threads=threads,
            # A model's other batch sizes come when it has run here for a while.
            first=protocol.FIRST_WARM_UP if stop else protocol.NEXT_WARM_UP,
            seed=settings.seed,
        )

    def decided(timing: Timing) -> bool:
        for role in subjects:
            calls = len(timing.calls_s(role))
            p99 = calls_needed(99)
            affordable = timing.median(role) * p99 <= P99_S
            if calls < (p99 if affordable else MINIMUM_CALLS):
                return False
        if len(subjects) == 2:
            return is_clear(timing.ratio("against", "model"), None)
        latency = timing.latency("model")
        return latency is not None and is_clear(latency, None)

    names = " and ".join(subject.name for subject in subjects.values())
    where = f"{runtime.name}, {threads} thread{'s' if threads > 1 else ''}"
    fresh = {}
    for role, subject in subjects.items():
        if runtime.name == "torch" and subject.loader is None:
            continue
        progress(f"{subject.name}: loading and memory in a fresh process ({where})")
        fresh[role] = in_fresh_process(
            Request(
                replace(subject, module=subject.loader),
                timed=False,
                runtime=runtime.name,
                batch=batches[0],
                threads=threads,
                shape=settings.shape,
                seed=settings.seed,
            )
        )
    progress(f"{names}: latency at batch {batches[0]} ({where})")
    timing = measured(batches[0], decided, protocol.LOOKS[2])
    speeds = {role: [Throughput(batches[0], batches[0] / timing.median(role))] for role in subjects}
    disturbed: dict[str, list[str]] = {role: [] for role in subjects}
    for batch in batches[1:]:
        progress(f"{names}: throughput at batch {batch} ({where})")
        wide = measured(batch, None, THROUGHPUT_ROUNDS)
        for role in subjects:
            speeds[role].append(Throughput(batch, batch / wide.median(role)))
            if wide.disturbed_rounds(role):
                disturbed[role].append(str(batch))
    figures = {}
    for role, subject in subjects.items():
        latency = timing.latency(role)
        if latency is None:  # pragma: no cover - there are six rounds
            raise UsageError("Fewer than six rounds give no interval.")
        figures[role] = RuntimeProfile(
            runtime=runtime.name,
            precision=runtime.precision(subject),
            threads=threads,
            batch=batches[0],
            options=runtime.options(threads),
            load_s=fresh[role].load_s if role in fresh else timing.load_s(role),
            first_s=fresh[role].first_s if role in fresh else timing.first_s(role),
            latency=latency,
            p90=timing.latency(role, 90),
            p99=timing.latency(role, 99),
            throughput=tuple(speeds[role]),
            memory_bytes=fresh[role].memory_bytes if role in fresh else None,
            rounds=len(timing.rounds),
            calls=len(timing.calls_s(role)),
            preempted=timing.preempted_share(role),
            outliers=timing.outliers(role),
            warnings=(*timing.warnings(role), *_disturbed(disturbed[role])),
        )
    return timing, figures


def _disturbed(batches: list[str]) -> list[str]:
    if not batches:
        return []
    return [f"Most calls were preempted while throughput was measured at {', '.join(batches)}."]


def _batches(runtime: Runtime, subjects: Iterable[Subject]) -> tuple[int, ...]:
    """The default batch sizes, or the one that a file fixes."""
    for subject in subjects:
        size = runtime.input_of(subject).shape[:1]
        if size and isinstance(size[0], int):
            return (size[0],)
    return DEFAULT_BATCHES


def _claim(
    ratio: Estimate, model: RuntimeProfile, against: RuntimeProfile
) -> tuple[Estimate | None, list[str]]:
    """The speed-up, where both were measured alike."""
    if model.precision == against.precision:
        return ratio, []
    return None, [
        f"No speed-up is claimed, for one is {model.precision} and the other {against.precision}: "
        f"time(against) / time(model) is {ratio.value:.3g} ({ratio.low:.3g} to {ratio.high:.3g})."
    ]


def _profile(subject: Subject, runs: list[RuntimeProfile], settings: Settings) -> Profile:
    notes = []
    if subject.path is not None and runs[0].runtime != "torch":
        costs = costs_of_onnx(subject.path, shape=settings.shape)
        size_bytes = size_of_onnx(subject.path)
        if subject.params is not None and subject.params != costs.params:
            notes.append(
                f"{subject.name}: the ONNX file holds {costs.params:,} of the network's "
                f"{subject.params:,} parameters; exporting folds batch normalisation behind a "
                "convolution into its weights."
            )
            costs = Costs(subject.params, costs.macs, costs.not_counted, costs.warnings)
    elif subject.module is not None and subject.input_shape is not None:
        costs = costs_of_module(subject.module(), subject.input_shape)
        size_bytes = subject.size_bytes or 0
    else:
        raise UsageError(f"There is nothing of {subject.name} to count.")
    return Profile(subject.name, size_bytes, costs, tuple(runs), tuple(notes))


def _machine_warnings(machine: Machine, threads: int) -> list[str]:
    if threads > machine.cpus:
        return [
            f"{threads} threads share {machine.cpus} CPUs, so they wait for each other; "
            f"--threads {machine.cores} is what this machine has."
        ]
    return []
