"""Building, exporting and timing candidates on this machine; and remembering what they took."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress.environment import cache_folder
from compress.errors import InputError, UnknownName, UsageError
from compress.exporting.precision import reduced_for_timing
from compress.exporting.to_onnx import onnx_for_timing
from compress.files import read_json, write_json
from compress.limits import Judgement, judge
from compress.models.network import Network
from compress.models.registry import build
from compress.profiling.inputs import Sample
from compress.profiling.machine import fingerprint
from compress.profiling.registry import RUNTIMES
from compress.profiling.timing import is_clear, time_model, time_models
from compress.results import Estimate
from compress.schema import decode_or_none
from compress.schema.rules import Count, Number, Positive
from compress.scratch import scratch_folder
from compress.spec import PRECISIONS, Budget, ModelSpec
from compress.tradeoff.candidates import candidate_name
from compress.tradeoff.search import Limits, Measurement

# No further round of timing begins after so many seconds; a percentile needs many calls.
MAX_S = 20.0
MAX_PERCENTILE_S = 60.0


@dataclass(frozen=True)
class Reference:
    """A file that others are timed beside, and its latency in seconds."""

    path: Path
    latency_s: float


class LocalMeasurer:
    """Times networks here, on the runtime that is to serve them.

    Latency does not depend on what the weights are, so a network is timed untrained. What was
    timed is kept in a JSON file of the cache folder, one for each machine, runtime, precision,
    batch, threads, percentile and version of what exports.

    Args:
        cache: whether to use and to keep what is remembered.
        say: is told what is being timed.
        folder: of the cache; None for the usual one.
        files: networks of which there is an ONNX file already.
        teacher: what a budget in ``speedup`` is relative to.
        sample: images that networks are called with; None: seeded noise.
    """

    paired = True

    def __init__(
        self,
        *,
        cache: bool = True,
        say: Callable[[str], None] = lambda _: None,
        folder: Path | None = None,
        files: Mapping[ModelSpec, Path] | None = None,
        teacher: ModelSpec | None = None,
        sample: Sample | None = None,
    ) -> None:
        self._sample = sample
        self._cache = cache
        self._files = dict(files or {})
        self._folder = (folder or cache_folder()) / "latency"
        self._say = say
        self._timed: dict[str, Measurement] = {}
        self._teacher = teacher
        self._reference: Reference | None = None
        self.machine: dict[str, Any] = fingerprint().to_dict()

    def measure(
        self, spec: ModelSpec, budget: Budget, limit_s: float | None, *, again: bool = False
    ) -> Measurement:
        """Times one network, or remembers it.

        For a budget in ``speedup`` a candidate and the teacher run in the same rounds, so that a
        machine whose speed drifts changes nothing: the latency is the teacher's, as it was timed
        first, divided by the ratio of the two. Such figures are never remembered: those of
        another day would be compared with a teacher of today.

        Args:
            spec: of the network.
            budget: batch, percentile and target to time with.
            limit_s: timed until it is clear of this, where possible.
            again: it is timed now, whatever is remembered; of two figures of this process the
                faster one counts, for what disturbs only ever makes calls slower.

        Raises:
            ExportError, ModelFileError, UsageError: it cannot be exported or timed.
            Inconclusive: too few calls for the percentile.
        """
        path = self._folder / f"{self._digest(budget)}.json"
        key = json.dumps(spec.to_dict(), sort_keys=True)
        known = found = self._timed.get(f"{path.name} {key}")
        paired = budget.speedup is not None
        cached = self._cache and not paired
        if found is None and cached and not again:
            found = _recall(path, key)
        # A slow moment is one of the teacher's, too, where they run in the same rounds.
        usable = paired or not again
        if (
            usable
            and found is not None
            and (found.undecided or Limits(limit_s).judge(found) is not Judgement.UNDECIDED)
        ):
            return found
        role = "the teacher, " if self._is_teacher(spec, budget) else ""
        name = candidate_name(spec, budget.target.precision)
        self._say(f"Timing {role}{name}{' once more' if again else ''}.")
        found = self._time(spec, budget, limit_s)
        if again and known is not None:
            found = min(found, known, key=lambda one: one.latency.value)
        self._timed[f"{path.name} {key}"] = found
        if cached:
            _remember(path, key, found, self._conditions(budget))
        return found

    def _time(self, spec: ModelSpec, budget: Budget, limit_s: float | None) -> Measurement:
        if self._is_teacher(spec, budget) and budget.speedup is not None:
            file = self._files.get(spec) or self._export_teacher(spec)
            found = time_file(file, budget, limit_s, sample=self._sample)
            self._reference = Reference(file, found.latency.value)
            return found
        beside = None if limit_s is None else self._reference
        if spec in self._files and budget.target.precision == "fp32":
            return time_file(self._files[spec], budget, limit_s, beside, self._sample)
        return time_untrained(spec, budget, limit_s, beside, self._sample)

    def _is_teacher(self, spec: ModelSpec, budget: Budget) -> bool:
        return spec == self._teacher and budget.target.precision == "fp32"

    def _export_teacher(self, spec: ModelSpec) -> Path:
        """The teacher's file, kept for as long as candidates are timed beside it."""
        # Its end is that of the measurer, which no block has.
        held = ExitStack()
        weakref.finalize(self, held.close)
        folder = held.enter_context(scratch_folder("candidates"))
        path = folder / f"{spec.name}.onnx"
        onnx_for_timing(untrained(spec), path, spec=spec)
        return path

    def _conditions(self, budget: Budget) -> dict[str, Any]:
        """Everything that a latency belongs to."""
        return {
            "machine": self.machine,
            "target": asdict(budget.target),
            "batch": budget.batch,
            "percentile": budget.percentile,
            "inputs": "noise" if self._sample is None else self._sample.sha256,
            "exporter": {
                name: importlib.metadata.version(name) for name in ("torch", "onnxscript")
            },
        }

    def _digest(self, budget: Budget) -> str:
        text = json.dumps(self._conditions(budget), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def time_untrained(
    spec: ModelSpec,
    budget: Budget,
    limit_s: float | None,
    beside: Reference | None = None,
    sample: Sample | None = None,
) -> Measurement:
    """Builds a network, exports it in the target's precision and times the file.

    Raises:
        UsageError: a target that is not measured here.
        ExportError, ModelFileError, Inconclusive: it cannot be exported or timed.
    """
    _check_target(budget)
    with scratch_folder("candidates") as folder:
        path = folder / f"{spec.name}.onnx"
        onnx_for_timing(untrained(spec), path, spec=spec)
        precision = budget.target.precision
        if precision != "fp32":
            floats, path = path, path.with_name(f"{spec.name}-{precision}.onnx")
            reduced_for_timing(
                floats,
                path,
                precision,
                shape=spec.input_shape,
                activations=RUNTIMES[budget.target.runtime].activations,
            )
        return time_file(path, budget, limit_s, beside, sample)


def time_file(
    path: Path,
    budget: Budget,
    limit_s: float | None,
    beside: Reference | None = None,
    sample: Sample | None = None,
) -> Measurement:
    """Times an ONNX file until it is clear of the limit, or for as long as allowed.

    With ``beside`` both files run in the same rounds, and the latency is what the other's is
    divided by their ratio. They are called with images of the sample, or with seeded noise.

    Raises:
        UsageError: a target that is not measured here.
        ModelFileError, Inconclusive: it cannot be timed.
    """
    _check_target(budget)
    if beside is not None and limit_s is not None:
        return _time_beside(path, budget, limit_s, beside, sample)
    if budget.percentile != 50 and limit_s is not None:
        # A percentile takes many calls; what is too slow at the median is too slow at any above.
        median = time_file(path, replace(budget, percentile=50.0), limit_s, sample=sample)
        if judge(median.latency, limit_s) is Judgement.MISSED:
            return median
    timing = time_model(
        path,
        batch=budget.batch,
        threads=budget.target.threads,
        percentile=budget.percentile,
        runtime=budget.target.runtime,
        budget_s=limit_s,
        sample=sample,
        max_s=MAX_S if budget.percentile == 50 else MAX_PERCENTILE_S,
    )
    return Measurement(
        timing.latency,
        path.stat().st_size,
        rounds=timing.rounds,
        all_calls_s=timing.all_calls_s,
        undecided=limit_s is not None and timing.judge(limit_s) is Judgement.UNDECIDED,
        warnings=timing.warnings,
    )


def _time_beside(
    path: Path, budget: Budget, limit_s: float, beside: Reference, sample: Sample | None
) -> Measurement:
    allowed = beside.latency_s / limit_s
    timing = time_models(
        {"teacher": beside.path, path.stem: path},
        batch=budget.batch,
        threads=budget.target.threads,
        runtime=budget.target.runtime,
        ratio=allowed,
        sample=sample,
        max_s=MAX_S,
    )
    ratio = timing.ratio("teacher", path.stem)
    return Measurement(
        Estimate(*(beside.latency_s / end for end in (ratio.value, ratio.high, ratio.low))),
        path.stat().st_size,
        rounds=len(timing.rounds),
        undecided=not is_clear(ratio, allowed),
        warnings=timing.warnings(path.stem),
    )


def untrained(spec: ModelSpec, *, seed: int = 0) -> Network:
    """A network to be timed, not used: seeded weights, batch normalisation that does something.

    Fresh statistics (mean 0, variance 1) would let the exporter and the runtime drop what a
    trained network has to compute. torch's global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(spec).eval()
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.weight.uniform_(0.5, 1.0)
                    module.bias.uniform_(-0.1, 0.1)
                    for statistic, low, high in (
                        (module.running_mean, -0.1, 0.1),
                        (module.running_var, 0.8, 1.2),
                    ):
                        if statistic is not None:
                            statistic.uniform_(low, high)
    return network


def _check_target(budget: Budget) -> None:
    target = budget.target
    if target.runtime not in RUNTIMES:
        raise UnknownName("runtime", target.runtime, RUNTIMES)
    if target.precision not in PRECISIONS:
        raise UnknownName("precision", target.precision, PRECISIONS)
    device = RUNTIMES[target.runtime].device
    if target.device != device:
        raise UsageError(
            f"{target.runtime} runs on {device}, but the budget is for {target.device}."
        )


@dataclass(frozen=True)
class _Entry:
    """A measurement as it is remembered."""

    latency_s: Estimate
    size_bytes: Number
    rounds: Count
    all_calls_s: Positive | None
    undecided: bool
    warnings: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 0 < self.latency_s.low <= self.latency_s.value <= self.latency_s.high:
            raise ValueError("this is not a time")


@dataclass(frozen=True)
class _Remembered:
    """A file of the cache."""

    conditions: dict[str, Any]
    measured: dict[str, Any]


def _recall(path: Path, key: str) -> Measurement | None:
    """What is remembered; a damaged file remembers nothing."""
    entry = decode_or_none(_Entry, _remembered(path).get(key))
    if entry is None:
        return None
    return Measurement(
        entry.latency_s,
        entry.size_bytes,
        rounds=entry.rounds,
        all_calls_s=entry.all_calls_s,
        undecided=entry.undecided,
        cached=True,
        warnings=entry.warnings,
    )


def _remembered(path: Path) -> dict[str, Any]:
    try:
        found = decode_or_none(_Remembered, read_json(path))
    except InputError:
        return {}
    return {} if found is None else found.measured


def _remember(path: Path, key: str, found: Measurement, conditions: dict[str, Any]) -> None:
    measured = _remembered(path)
    entry = asdict(found) | {"latency_s": found.latency.to_dict()}
    for name in ("latency", "cached"):
        del entry[name]
    # A folder that cannot be written to costs time at the next choice, nothing else.
    try:
        write_json(path, {"conditions": conditions, "measured": measured | {key: entry}})
    except UsageError:
        return
