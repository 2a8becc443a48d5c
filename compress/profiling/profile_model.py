"""All that a model costs on this machine, alone or beside another, in one runtime or in several.

Every model in every runtime is a subject of the same rounds, and so is a matrix product in each
runtime: ratios between them are of figures that met the same machine.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from compress.errors import Inconclusive, ModelFileError, UsageError
from compress.onnx_file import size_of
from compress.profiling import protocol
from compress.profiling.costs import costs_of_module, costs_of_onnx
from compress.profiling.estimates import MINIMUM_CALLS, calls_needed
from compress.profiling.fresh import Loading, LoadingRequest, load_in_fresh_process
from compress.profiling.inputs import Sample, inputs_of, make_input
from compress.profiling.machine import fingerprint, gpu_state, shares_cores
from compress.profiling.peak import product_for, side_of
from compress.profiling.protocol import SystemClock, Timing
from compress.profiling.registry import RUNTIMES, can_run, runtime_named
from compress.profiling.runtime import Input, Runtime, Session, Subject
from compress.profiling.timing import SPINNING_S, fastest_of, is_clear, is_known
from compress.results import (
    Costs,
    Estimate,
    Fastest,
    Machine,
    Peak,
    Profile,
    ProfileReport,
    RuntimeProfile,
    Throughput,
)
from compress.scratch import scratch_folder

DEFAULT_BATCHES = (1, 8, 32)

# A figure of throughput has no interval; three rounds keep one bad moment from being it.
THROUGHPUT_ROUNDS = 3

# Enough calls for p99 are made where that takes no longer than this.
P99_S = 2.0

# No further round begins after this: for one runtime and another beside it, and for each more.
MAX_S, MAX_S_EACH_MORE = 20.0, 10.0

# Shown for comparison: no speed-up is claimed in them.
EAGER = ("torch", "torch-cuda")


@dataclass(frozen=True)
class Settings:
    """How models are measured.

    Attributes:
        runtimes: names; the first that can run the model is the one that claims rest on (torch
            eager is none, and comes last).
        threads: of each session.
        batches: images a call; the first one is what latency, percentiles and ratio are of.
            None: 1, 8 and 32, or the one that the file fixes.
        shape: channels, height, width, where a file leaves them open.
        sample: images that models are called with; None: seeded noise.
        seed: of inputs, orders and resampling.
        compare: whether the runtimes are to be compared: one that fails on a model is then left
            out with a warning, and the fastest is named.
    """

    runtimes: tuple[str, ...] = ("onnxruntime", "torch")
    threads: int = 1
    batches: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None
    sample: Sample | None = None
    seed: int = 0
    compare: bool = False


@dataclass(frozen=True)
class _ModelInRuntime:
    """One model in one runtime: a subject of the rounds."""

    role: str
    subject: Subject
    runtime: Runtime

    @property
    def key(self) -> str:
        return f"{self.role} in {self.runtime.name}"

    def draw(self, batch: int, settings: Settings) -> protocol.Draw:
        """What the model is called with in each round."""
        return inputs_of(
            self.runtime,
            self.subject,
            batch=batch,
            shape=settings.shape,
            seed=settings.seed,
            sample=settings.sample,
        )

    def load(self, settings: Settings, images: Input) -> Session:
        """A session of the model."""
        return self.runtime.load(self.subject, threads=settings.threads, images=images)


def profile(
    model: Subject,
    *,
    against: Subject | None = None,
    settings: Settings | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> ProfileReport:
    """Measures a model, and another one in the same rounds.

    Args:
        model: what it is about.
        against: what it is compared with.
        settings: how.
        say: is told what is being done.

    Raises:
        ModelFileError: a file cannot be loaded or run.
        UsageError: no runtime can run the model, or a dimension has no value.
        NothingMeasured: a measuring process died.
    """
    settings = settings or Settings()
    subjects = {"model": model} | ({} if against is None else {"against": against})
    runs = _runs(subjects, settings)
    batches = settings.batches or _batches(runs)
    for run, batch in itertools.product(runs, batches):
        run.draw(batch, settings)(0)  # what does not fit is told before anything is measured
    runs, warnings = _able(runs, batches[0], settings, say)
    costs = {role: _costs(subjects[role], _of(runs, role), settings) for role in subjects}
    with scratch_folder("profile") as folder:
        measuring = _Measuring(runs, batches, settings, folder, say)
        loading = measuring.loading()
        before = _device_states(runs)
        timing = measuring.latency()
        after = _device_states(runs)
        speeds, disturbed = measuring.throughput(timing)
    found = {
        run.key: replace(
            _figures(run, timing, loading.get(run.key), costs[run.role][0], measuring),
            throughput=tuple(speeds[run.key]),
            warnings=(*timing.warnings(run.key), *_disturbed(disturbed[run.key])),
            device=_told(before, after, run),
        )
        for run in runs
    }
    profiles = {
        role: Profile(
            subject.name,
            size_bytes,
            counted,
            tuple(found[run.key] for run in _of(runs, role)),
            notes,
        )
        for role, subject in subjects.items()
        for counted, size_bytes, notes in [costs[role]]
    }
    speedup, speedups, told = _speedups(runs, timing, found) if against else (None, {}, [])
    machine = fingerprint()
    return ProfileReport(
        model=profiles["model"],
        against=profiles.get("against"),
        speedup=speedup,
        machine=machine,
        warnings=(*warnings, *told, *_machine_warnings(machine, settings.threads)),
        fastest=_fastest(_of(runs, "model"), timing) if settings.compare else None,
        speedups=speedups,
    )


class _Measuring:
    """What is measured of the runs; an object because its parts share all that they are given."""

    def __init__(
        self,
        runs: Sequence[_ModelInRuntime],
        batches: Sequence[int],
        settings: Settings,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self.runs, self.batches, self.settings = runs, batches, settings
        self.say = say
        self.products = self._products(folder)
        names = " and ".join(dict.fromkeys(run.subject.name for run in runs))
        runtimes = ", ".join(dict.fromkeys(run.runtime.name for run in runs))
        threads = f"{settings.threads} thread{'s' if settings.threads > 1 else ''}"
        self.names, self.where = names, f"{runtimes}, {threads}"

    def _products(self, folder: Path) -> dict[str, _ModelInRuntime]:
        """Run -> the matrix product that it is held against; one for each runtime and precision."""
        made: dict[tuple[str, str], _ModelInRuntime] = {}
        found: dict[str, _ModelInRuntime] = {}
        for run in self.runs:
            name, precision = run.runtime.name, run.runtime.precision(run.subject)
            if (name, precision) not in made:
                product = product_for(name, precision, self.settings.threads, folder)
                if product is None:
                    continue
                held = _ModelInRuntime(f"{precision} product", product, run.runtime)
                try:
                    _try(held, self._factor(held), self.settings)
                except ModelFileError:  # not every engine has every product
                    continue
                made[name, precision] = held
            found[run.key] = made[name, precision]
        return found

    def _factor(self, product: _ModelInRuntime) -> Input:
        """The left matrix of a product."""
        side = side_of(product.runtime.name, self.settings.threads)
        return make_input(product.runtime, product.subject, batch=side)

    def loading(self) -> dict[str, Loading]:
        """Loading, the first call and memory, each in a process of its own."""
        found = {}
        for run in self.runs:
            subject = run.subject
            if RUNTIMES[run.runtime.name].takes == "torch" and subject.loader is None:
                continue
            self.say(
                f"{subject.name}: loading and memory in a fresh process ({run.runtime.name}, "
                f"{self.settings.threads} thread{'s' if self.settings.threads > 1 else ''})"
            )
            found[run.key] = load_in_fresh_process(
                LoadingRequest(
                    replace(subject, module=subject.loader),
                    runtime=run.runtime.name,
                    batch=self.batches[0],
                    threads=self.settings.threads,
                    shape=self.settings.shape,
                    sample=self.settings.sample,
                    seed=self.settings.seed,
                )
            )
        return found

    def latency(self) -> Timing:
        """All runs and the products in the same rounds, until what is claimed is known."""
        self.say(f"{self.names}: latency at batch {self.batches[0]} ({self.where})")
        runtimes = {run.runtime.name for run in self.runs}
        return self._measured(
            self.batches[0],
            self.products,
            stop=self._decided,
            max_rounds=protocol.LOOKS[2],
            max_s=MAX_S + MAX_S_EACH_MORE * max(0, len(runtimes) - 2),
        )

    def throughput(
        self, timing: Timing
    ) -> tuple[dict[str, list[Throughput]], dict[str, list[str]]]:
        """Images a second of each run by batch size, and the sizes at which it was disturbed."""
        first = self.batches[0]
        speeds = {run.key: [Throughput(first, first / timing.median(run.key))] for run in self.runs}
        disturbed: dict[str, list[str]] = {run.key: [] for run in self.runs}
        for batch in self.batches[1:]:
            self.say(f"{self.names}: throughput at batch {batch} ({self.where})")
            wide = self._measured(batch, {}, stop=None, max_rounds=THROUGHPUT_ROUNDS)
            for key, found in speeds.items():
                found.append(Throughput(batch, batch / wide.median(key)))
                if wide.disturbed_rounds(key):
                    disturbed[key].append(str(batch))
        return speeds, disturbed

    def _measured(
        self,
        batch: int,
        products: Mapping[str, _ModelInRuntime],
        *,
        stop: Callable[[Timing], bool] | None,
        max_rounds: int,
        max_s: float = MAX_S,
    ) -> Timing:
        settings = self.settings
        inputs: dict[str, Input | protocol.Draw] = {
            run.key: run.draw(batch, settings) for run in self.runs
        }
        subjects = {run.key: run for run in self.runs}
        for product in products.values():
            # Two models in one runtime and precision are held against one product.
            subjects[product.key] = product
            inputs[product.key] = self._factor(product)
        return protocol.measure(
            {
                key: partial(run.load, settings, protocol.batches_of(inputs[key])[0])
                for key, run in subjects.items()
            },
            inputs,
            min_rounds=min(max_rounds, protocol.LOOKS[0]),
            max_rounds=max_rounds,
            stop=stop,
            max_s=max_s,
            threads=settings.threads,
            seed=settings.seed,
            quiet_s=_quiet_s([run.runtime.name for run in self.runs], settings.threads),
        )

    def _decided(self, timing: Timing) -> bool:
        """Whether the claims are known: those of the first runtime, and which one is fastest."""
        name = self.runs[0].runtime.name
        first = [run.key for run in self.runs if run.runtime.name == name]
        p99 = calls_needed(99)
        for key in first:
            calls = len(timing.calls_s(key))
            if calls < (p99 if timing.median(key) * p99 <= P99_S else MINIMUM_CALLS):
                return False
        latency = timing.latency(first[0])
        known = timing.ratio(first[1], first[0]) if len(first) == 2 else latency
        if known is None or not is_clear(known, None):
            return False
        if not self.settings.compare:
            return True
        fastest = _fastest(_of(self.runs, "model"), timing)
        return fastest is None or is_known(fastest)


def _quiet_s(runtimes: Sequence[str], threads: int) -> float:
    """How long workers of one model, or of a product, may be in the way of another.

    torch's spin for a while after each call, ONNX Runtime's where cores are not shared.
    """
    of_torch = any(RUNTIMES[name].takes == "torch" for name in runtimes)
    return SPINNING_S if threads > 1 and (of_torch or not shares_cores(threads)) else 0.0


def _runs(subjects: Mapping[str, Subject], settings: Settings) -> list[_ModelInRuntime]:
    """Every model in every runtime that it is at hand for; those that claims rest on come first.

    Raises:
        UsageError: a runtime is not there, or none can run one of the models.
    """
    runs = [
        _ModelInRuntime(role, subject, runtime)
        for name in sorted(settings.runtimes, key=lambda name: name in EAGER)
        if any(can_run(name, subject) for subject in subjects.values())
        for runtime in [runtime_named(name)]
        for role, subject in subjects.items()
        if can_run(name, subject)
    ]
    for role, subject in subjects.items():
        if not _of(runs, role):
            raise UsageError(
                f"{' and '.join(settings.runtimes)} cannot run {subject.name}: torch runtimes "
                "take checkpoints, the others ONNX files."
            )
    return runs


def _able(
    runs: Sequence[_ModelInRuntime], batch: int, settings: Settings, say: Callable[[str], None]
) -> tuple[list[_ModelInRuntime], list[str]]:
    """The runs whose first call gives numbers; why others were left out.

    Raises:
        ModelFileError: one fails, and runtimes are not to be compared or no other is left.
    """
    able: list[_ModelInRuntime] = []
    faults = []
    for run in runs:
        images = run.draw(batch, settings)(0)[0]
        if run.runtime.name.startswith("torch-compile"):
            say(f"{run.subject.name}: compiling it ({run.runtime.name})")
        try:
            _try(run, images, settings)
        except (ModelFileError, UsageError) as fault:
            others = [other.role for other in (*able, *runs[runs.index(run) + 1 :])]
            if not settings.compare or run.role not in others:
                raise
            faults.append(f"{run.runtime.name} is skipped: {fault}")
        else:
            able.append(run)
    return able, faults


def _try(run: _ModelInRuntime, images: Input, settings: Settings) -> None:
    """One call.

    Raises:
        ModelFileError: the model cannot be loaded or run, or does not answer with numbers.
    """
    with contextlib.closing(run.load(settings, images)) as session:
        protocol.first_call(run.subject.name, session, images, SystemClock())


def _of(runs: Sequence[_ModelInRuntime], role: str) -> list[_ModelInRuntime]:
    return [run for run in runs if run.role == role]


def _batches(runs: Sequence[_ModelInRuntime]) -> tuple[int, ...]:
    """The default batch sizes, or the one that a file fixes."""
    for run in runs:
        size = run.runtime.input_of(run.subject).shape[:1]
        if size and isinstance(size[0], int):
            return (size[0],)
    return DEFAULT_BATCHES


def _figures(
    run: _ModelInRuntime,
    timing: Timing,
    loading: Loading | None,
    costs: Costs,
    measuring: _Measuring,
) -> RuntimeProfile:
    """What the rounds say of a run; throughput and warnings are added."""
    settings, batch, key = measuring.settings, measuring.batches[0], run.key
    latency = timing.latency(key)
    if latency is None:  # pragma: no cover - there are six rounds
        raise Inconclusive("Fewer than six rounds give no interval.")
    product = measuring.products.get(key)
    return RuntimeProfile(
        runtime=run.runtime.name,
        precision=run.runtime.precision(run.subject),
        threads=settings.threads,
        batch=batch,
        options=run.runtime.options(settings.threads),
        load_s=loading.load_s if loading else timing.load_s(key),
        first_s=loading.first_s if loading else timing.first_s(key),
        latency=latency,
        p90=timing.latency(key, 90),
        p99=timing.latency(key, 99),
        throughput=(),
        memory_bytes=loading.memory_bytes if loading else None,
        rounds=len(timing.rounds),
        calls=len(timing.calls_s(key)),
        preempted=timing.preempted_share(key),
        outliers=timing.outliers(key),
        input_shape=run.draw(batch, settings)(0)[0].shape,
        macs_per_s=costs.macs * batch / latency.value,
        peak=None if product is None else _peak(run, product, timing, costs.macs * batch, settings),
        copies_s=timing.copies_s(key),
        calls_s=tuple(timing.calls_s(key).tolist()),
    )


def _peak(
    run: _ModelInRuntime, product: _ModelInRuntime, timing: Timing, macs: int, settings: Settings
) -> Peak:
    side = side_of(run.runtime.name, settings.threads)
    ratio = timing.ratio(product.key, run.key)
    scale = macs / side**3
    return Peak(
        side,
        side**3 / timing.median(product.key),
        Estimate(ratio.value * scale, ratio.low * scale, ratio.high * scale),
    )


def _fastest(runs: Sequence[_ModelInRuntime], timing: Timing) -> Fastest | None:
    """Which runtime is the fastest for a model; None where there is one alone."""
    if len(runs) < 2:
        return None
    return fastest_of(timing, {run.runtime.name: run.key for run in runs})


def _speedups(
    runs: Sequence[_ModelInRuntime], timing: Timing, found: Mapping[str, RuntimeProfile]
) -> tuple[Estimate | None, dict[str, Estimate], list[str]]:
    """The claim, the ratio in each runtime that serves and ran both alike, and what to tell."""
    against = {run.runtime.name: run for run in _of(runs, "against")}
    pairs = [
        (run, against[run.runtime.name])
        for run in _of(runs, "model")
        if run.runtime.name in against and run.runtime.name not in EAGER
    ]
    if not pairs:
        return (
            None,
            {},
            [
                "No speedup is reported: the two were not measured in the same serving runtime "
                "(torch eager is not one)."
            ],
        )
    claims = {
        run.runtime.name: _claim(timing.ratio(other.key, run.key), found[run.key], found[other.key])
        for run, other in pairs
    }
    speedup, told = claims[pairs[0][0].runtime.name]
    return (
        speedup,
        {name: ratio for name, (ratio, _) in claims.items() if ratio is not None},
        told,
    )


def _claim(
    ratio: Estimate, model: RuntimeProfile, against: RuntimeProfile
) -> tuple[Estimate | None, list[str]]:
    """The speed-up, where both were measured alike."""
    if model.precision == against.precision:
        return ratio, []
    return None, [
        f"No speedup is reported, because one is {model.precision} and the other "
        f"{against.precision}: time(against) / time(model) is {ratio.value:.3g} ({ratio.low:.3g} "
        f"to {ratio.high:.3g})."
    ]


def _costs(
    subject: Subject, runs: Sequence[_ModelInRuntime], settings: Settings
) -> tuple[Costs, int, tuple[str, ...]]:
    """What a model needs, the size of its file, and what else to know of the file."""
    if subject.path is not None and RUNTIMES[runs[0].runtime.name].takes == "onnx":
        costs = costs_of_onnx(subject.path, shape=settings.shape)
        size_bytes = size_of(subject.path)
        if subject.params is None or subject.params == costs.params:
            return costs, size_bytes, ()
        note = (
            f"{subject.name}: the ONNX file holds {costs.params:,} of the network's "
            f"{subject.params:,} parameters; exporting folds batch normalisation behind a "
            "convolution into its weights."
        )
        return replace(costs, params=subject.params), size_bytes, (note,)
    if subject.module is not None and subject.input_shape is not None:
        return costs_of_module(subject.module(), subject.input_shape), subject.size_bytes or 0, ()
    raise UsageError(f"The MACs of {subject.name} cannot be counted.")


def _disturbed(batches: list[str]) -> list[str]:
    if not batches:
        return []
    return [f"Most calls were preempted while throughput was measured at {', '.join(batches)}."]


def _device_states(runs: Sequence[_ModelInRuntime]) -> dict[str, str]:
    """What the GPU says of itself, where one of the runs is on it."""
    devices = {RUNTIMES[run.runtime.name].device for run in runs}
    return gpu_state() if "cuda" in devices else {}


def _told(before: dict[str, str], after: dict[str, str], run: _ModelInRuntime) -> dict[str, str]:
    if RUNTIMES[run.runtime.name].device != "cuda":
        return {}
    return {name: f"{before.get(name, '?')} to {value}" for name, value in after.items()}


def _machine_warnings(machine: Machine, threads: int) -> list[str]:
    if threads > machine.cpus:
        return [
            f"{threads} threads share {machine.cpus} CPUs, so they wait for each other. This "
            f"machine has --threads {machine.cores}."
        ]
    return []
