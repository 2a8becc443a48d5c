"""What was measured. Frozen, serialisable, standard library only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from compress.limits import Judgement, judge
from compress.schema.rules import Count, Name, NotNegative, Number, Share, known
from compress.spec import ModelSpec, Normalization

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95% confidence interval, in SI units."""

    value: float
    low: float
    high: float

    def scaled(self, scale: float) -> Estimate:
        """The same in another unit: 1e3 for milliseconds."""
        return Estimate(self.value * scale, self.low * scale, self.high * scale)

    def to_dict(self, scale: float = 1.0, name: str = "value") -> dict[str, float]:
        """{name: ..., "low": ..., "high": ...}, each times ``scale`` (1e3 for milliseconds)."""
        return {name: self.value * scale, "low": self.low * scale, "high": self.high * scale}


@dataclass(frozen=True)
class Artifact:
    """A file that can be served.

    Attributes:
        path: the file.
        format: "onnx".
        sha256: of its bytes.
        size_bytes: of the file.
        spec: the architecture, where it is known.
        precision: of weights and activations.
        normalization: None where it is not known.
        classes: class names, empty where they are not known.
        toolchain: package -> version that made it.
        source: where the weights come from: run, checkpoint, their hashes.
        conversion: how a file of reduced precision was made; empty for a float file.
        fidelity: how far it is from that, where it was measured.
    """

    path: Path
    format: str
    sha256: str
    size_bytes: int
    spec: ModelSpec | None
    precision: str = "fp32"
    normalization: Normalization | None = None
    classes: tuple[str, ...] = ()
    toolchain: dict[str, str] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)
    conversion: dict[str, str] = field(default_factory=dict)
    fidelity: Fidelity | None = None


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from the model that it was made from.

    Attributes:
        images: how many inputs were compared.
        top1_agreement: share with the same answer, a tie within the tolerance counted as same.
        max_abs_diff: largest difference of any number.
    """

    images: Count
    top1_agreement: Share
    max_abs_diff: NotNegative


@dataclass(frozen=True)
class Accuracies:
    """The shares that are right of the validation and of the test images."""

    validation: Share
    test: Share


@dataclass(frozen=True)
class Fidelity:
    """How far a file of reduced precision is from the float file, on the same images.

    Attributes:
        images: how many.
        top1_agreement: share with the same answer: the best class, of a classifier.
        max_abs_diff: largest difference of any number.
        relative_error: root mean square difference of the numbers by that of the float file's,
            both less what changes no answer; see ``compress.tasks.task.Agreement``.
        task: whose score it is.
        score, float_score: of this file and of the float file; None where nothing could be scored.
        pair: the counts behind their comparison, as ``Pair.to_dict`` gives them.
        method: "run" where the file itself was run; "rounded" where the runtime at hand cannot
            run it, and the float file was, with each layer's result rounded.
    """

    images: Number
    top1_agreement: Share
    max_abs_diff: NotNegative
    relative_error: NotNegative
    task: Name = "classification"
    score: float | None = None
    float_score: float | None = None
    pair: dict[str, float] | None = None
    method: Annotated[str, known("run", "rounded")] = "run"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Kernel:
    """What a runtime really runs for a convolution or a matrix product.

    Attributes:
        name: as the runtime calls it.
        kind: "convolution" or "product".
        kernel: the runtime's own name of what computes it.
        precision: of what it multiplies: 'int8', 'fp32', 'fp16', 'bf16'.
        macs: of the file's operations that it was made of, for one image.
    """

    name: str
    kind: str
    kernel: str
    precision: str
    macs: int


@dataclass(frozen=True)
class Machine:
    """What a latency belongs to. Clock rates are left out: they change by the second.

    Attributes:
        cpu: the model as the CPU names itself.
        isa: which of the instruction sets that decide speed it has.
        cpus: how many CPUs this process may use, by affinity and quota.
        cores: how many physical cores those are.
        machine_cpus: how many CPUs the machine has.
        virtual: whether it is a virtual machine, as far as it tells.
        system: operating system and architecture.
        python: its version.
        engines: package -> version of what can run or train models.
        gpu, driver: empty where there is none.
    """

    cpu: str
    isa: tuple[str, ...]
    cpus: Number
    cores: Count
    machine_cpus: Number
    virtual: bool
    system: str
    python: str
    engines: dict[str, str]
    gpu: str = ""
    driver: str = ""

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that change when anything here does; for names of caches."""
        text = json.dumps(self._fields(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the digest among them."""
        return self._fields() | {"digest": self.digest}

    def _fields(self) -> dict[str, Any]:
        return asdict(self) | {"isa": list(self.isa)}


@dataclass(frozen=True)
class Throughput:
    """Images a second with ``batch`` images a call; 1 / (time a call) times the batch."""

    batch: int
    images_per_s: float


@dataclass(frozen=True)
class Peak:
    """How near a model comes to the fastest multiplying that this machine was seen to do.

    Attributes:
        side: rows and columns of the matrices whose product was timed in the same rounds, in the
            same runtime, precision and threads.
        macs_per_s: multiply-accumulates a second of that product.
        share: what part of that the model reaches.
    """

    side: int
    macs_per_s: float
    share: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "product_side": self.side,
            "macs_per_s": self.macs_per_s,
            "share": self.share.to_dict(),
        }


@dataclass(frozen=True)
class RuntimeProfile:
    """What a model takes in one runtime.

    Attributes:
        runtime, precision, threads, batch: what it was measured with.
        options: what else the runtime was told.
        load_s, first_s: loading, and the first call, in a fresh process where that was possible.
        latency: the median call of ``batch`` images, in seconds.
        p90, p99: percentiles with their bounds; None where too few calls were made to know.
        throughput: at several batch sizes.
        memory_bytes: the high-water mark's growth over loading and the first calls, in a fresh
            process; None where it was not measured.
        rounds, calls: what the latency rests on.
        preempted: share of calls that lost a CPU to another process; None where unknown.
        outliers: calls far out; they count.
        warnings: a sentence each.
        input_shape: of the batch that the latency is of.
        macs_per_s: multiply-accumulates a second that the latency comes to.
        peak: how near that is to what the machine can do; None where there is no such product.
        copies_s: what of the latency is copying to and from a device; None without one.
        device: what the device said of itself before and after: clocks, temperature, throttling.
        calls_s: every counted call, for a picture; not in the JSON.
    """

    runtime: str
    precision: str
    threads: int
    batch: int
    options: dict[str, str]
    load_s: float
    first_s: float
    latency: Estimate
    p90: Estimate | None
    p99: Estimate | None
    throughput: tuple[Throughput, ...]
    memory_bytes: int | None
    rounds: int
    calls: int
    preempted: float | None
    outliers: int
    warnings: tuple[str, ...] = ()
    input_shape: tuple[int, ...] = ()
    macs_per_s: float | None = None
    peak: Peak | None = None
    copies_s: float | None = None
    device: dict[str, str] = field(default_factory=dict)
    calls_s: tuple[float, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, times in milliseconds."""
        return {
            "runtime": self.runtime,
            "precision": self.precision,
            "threads": self.threads,
            "batch": self.batch,
            "input_shape": list(self.input_shape),
            "options": self.options,
            "latency_ms": self.latency.to_dict(1e3, "median")
            | _percentile("p90", self.p90)
            | _percentile("p99", self.p99),
            "load_ms": self.load_s * 1e3,
            "first_ms": self.first_s * 1e3,
            "throughput": [asdict(each) for each in self.throughput],
            "memory_bytes": self.memory_bytes,
            "macs_per_s": self.macs_per_s,
            "peak": None if self.peak is None else self.peak.to_dict(),
            "copies_ms": None if self.copies_s is None else self.copies_s * 1e3,
            "device": self.device,
            "rounds": self.rounds,
            "calls": self.calls,
            "preempted": self.preempted,
            "outliers": self.outliers,
            "warnings": list(self.warnings),
        }


def _percentile(name: str, found: Estimate | None) -> dict[str, float | None]:
    """Milliseconds of a percentile and of its upper bound, null where it is not known."""
    return {
        name: None if found is None else found.value * 1e3,
        f"{name}_high": None if found is None else found.high * 1e3,
    }


@dataclass(frozen=True)
class Costs:
    """What a network needs, whatever runs it.

    Attributes:
        params: weights; running statistics do not count.
        macs: multiply-accumulates of convolutions and matrix products, for one image.
        not_counted: operation -> how often, for those that are not in ``macs``.
        warnings: a sentence for each multiplication that should be in ``macs`` and is not.
    """

    params: int
    macs: int
    not_counted: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """One model on this machine.

    Attributes:
        name: of the model.
        size_bytes: of its file, external data included.
        costs: parameters and MACs.
        runs: one for each runtime; the first is the one that claims rest on.
        notes: what else a reader should know of the file.
    """

    name: str
    size_bytes: int
    costs: Costs
    runs: tuple[RuntimeProfile, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the first run's figures at the top, the others under "also"."""
        first, *others = self.runs
        values = first.to_dict()
        values["warnings"] = [*self.costs.warnings, *values["warnings"]]
        return {
            "name": self.name,
            "size_bytes": self.size_bytes,
            "params": self.costs.params,
            "macs": self.costs.macs,
            "not_counted": self.costs.not_counted,
            **values,
            "notes": list(self.notes),
            "also": [other.to_dict() for other in others],
        }


@dataclass(frozen=True)
class Layer:
    """What a runtime executed as one.

    Attributes:
        name: as the runtime calls it.
        kind: operation and kernel, as the runtime calls them.
        time_s: of a call, the median of the profiled ones.
        macs: of the operations of the file that it was made of, for the batch.
    """

    name: str
    kind: str
    time_s: float
    macs: int = 0

    @property
    def macs_per_s(self) -> float | None:
        """None where it takes less than the microsecond that profilers count in."""
        return self.macs / self.time_s if self.time_s >= 1e-6 else None


@dataclass(frozen=True)
class Layers:
    """What a model costs by layer, as a runtime's own profiler tells it.

    Attributes:
        runtime, threads, batch: what it was measured with.
        calls: that the times are medians of.
        layers: in the order in which they ran.
        call_s: the median of a profiled call as a whole.
        slowdown: time of a profiled call / time of one without, from the same rounds.
        unmatched: operation of the file -> its MACs, where none of the layers is known to have it.
        kernels: of its convolutions and matrix products.
    """

    runtime: str
    threads: int
    batch: int
    calls: int
    layers: tuple[Layer, ...]
    call_s: float
    slowdown: Estimate
    unmatched: dict[str, int] = field(default_factory=dict)
    kernels: tuple[Kernel, ...] = ()

    @property
    def macs(self) -> int:
        """Of the whole model, for the batch."""
        return sum(layer.macs for layer in self.layers) + sum(self.unmatched.values())

    @property
    def total_s(self) -> float:
        """Of all layers; shares are of this."""
        return sum(layer.time_s for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "runtime": self.runtime,
            "threads": self.threads,
            "batch": self.batch,
            "calls": self.calls,
            "call_ms": self.call_s * 1e3,
            "layers_ms": self.total_s * 1e3,
            "slowdown": self.slowdown.to_dict(),
            "macs": self.macs,
            "unmatched_macs": self.unmatched,
            "kernels": [asdict(kernel) for kernel in self.kernels],
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "ms": layer.time_s * 1e3,
                    "share": layer.time_s / self.total_s if self.total_s else 0.0,
                    "macs": layer.macs,
                    "macs_per_s": layer.macs_per_s,
                }
                for layer in self.layers
            ],
        }


@dataclass(frozen=True)
class Fastest:
    """Which of several runtimes runs a model fastest on this machine.

    Attributes:
        runtime: the one with the smallest median.
        ratios: each other one -> its time / the fastest one's, from the same rounds.
    """

    runtime: str
    ratios: dict[str, Estimate]

    @property
    def ties(self) -> tuple[str, ...]:
        """Those that no difference was shown to: 1 lies in the interval of the ratio."""
        return tuple(
            name for name, ratio in self.ratios.items() if judge(ratio, 1.0) is not Judgement.MISSED
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; "shown": whether it is faster than all others."""
        return {
            "runtime": self.runtime,
            "shown": not self.ties,
            "no_difference_to": list(self.ties),
            "time_of_others": {name: ratio.to_dict() for name, ratio in self.ratios.items()},
        }


@dataclass(frozen=True)
class ProfileReport:
    """What ``compress profile`` found.

    Attributes:
        model, against: the two models; ``against`` may be missing.
        speedup: time(against) / time(model), same runtime, precision, batch and threads.
        machine: where.
        warnings: about the comparison.
        fastest: of the runtimes that ran the model; None where they were not to be compared.
        speedups: the same ratio in each runtime that ran both.
        layers: what the model costs by layer; None where that was not asked.
    """

    model: Profile
    against: Profile | None
    speedup: Estimate | None
    machine: Machine
    warnings: tuple[str, ...] = ()
    fastest: Fastest | None = None
    speedups: dict[str, Estimate] = field(default_factory=dict)
    layers: Layers | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = self.model.to_dict()
        values["warnings"] = [*values["warnings"], *self.warnings]
        return {
            "schema_version": SCHEMA_VERSION,
            **values,
            "against": None if self.against is None else self.against.to_dict(),
            "speedup": None if self.speedup is None else self.speedup.to_dict(),
            "speedups": {name: ratio.to_dict() for name, ratio in self.speedups.items()},
            "fastest": None if self.fastest is None else self.fastest.to_dict(),
            "layers": None if self.layers is None else self.layers.to_dict(),
            "machine": self.machine.to_dict(),
        }
