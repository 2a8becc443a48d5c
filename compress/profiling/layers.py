"""What a model costs by layer, from the runtimes' own profilers.

ONNX Runtime writes an event for every kernel that it runs, OpenVINO keeps the mean time of every
layer. Both run a graph of their own making: convolutions with what follows them fused, in other
layouts, under other names. The multiply-accumulates of the file's operations are given to the
layers that do them, each once; what no layer could be found for is told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from compress.errors import NothingMeasured, UsageError
from compress.profiling import protocol
from compress.profiling.costs import Operation, operations_of_onnx
from compress.profiling.inputs import make_input
from compress.profiling.profile_model import MAX_S
from compress.profiling.protocol import Timing
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Input, Session, Subject, path_of
from compress.profiling.timing import is_clear
from compress.results import Layer, Layers
from compress.scratch import scratch_folder

# Runtimes that tell what a layer takes.
PROFILERS = ("onnxruntime", "openvino")

CALLS, WARM_UP_CALLS = 50, 10
# Calls of a session, and how many of the first ones are not counted.
OPENVINO_CALLS, OPENVINO_WARM_UP = 14, 4
# Calls that a trace shows.
TRACED_CALLS = 10

# Kinds of layers that multiply matrices, as ONNX Runtime calls them: Conv, FusedConv, QLinearConv,
# NhwcFusedConv, Gemm, QGemm, MatMulIntegerToFloat, DynamicQuantizeMatMul ...
_MULTIPLIES = re.compile(r"Conv|Gemm|MatMul")
# What optimisers add to the name of a node, or of a value, that they make another node of.
_ADDED = re.compile(
    r"^fused |^InsertedPrecisionFreeCast_"
    r"|(_nchwc|_token_\d+|/duplicated|/MatMulAddFusion|/WithoutBiases)+/?$"
)


@dataclass(frozen=True)
class Event:
    """A layer in one call: when it began and how long it took, in seconds."""

    name: str
    kind: str
    start_s: float
    time_s: float


@dataclass(frozen=True)
class Call:
    """One call as a whole, and its layers in the order in which they ran."""

    start_s: float
    time_s: float
    layers: tuple[Event, ...]


@dataclass(frozen=True)
class Recorded:
    """What a profiler told.

    Attributes:
        calls: all of them ran the same layers.
        origins: layer -> names of the file's operations or values that it was made of, where the
            runtime tells them.
    """

    calls: tuple[Call, ...]
    origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Profiler(Protocol):
    """A runtime's way to tell what its layers take."""

    def session(self, path: Path, threads: int, images: Input) -> Session:
        """A session that is profiled."""
        ...

    def record(self, path: Path, threads: int, images: Input, calls: int) -> Recorded:
        """Calls a session so many times, and the last of them are told."""
        ...


def profile_layers(
    subject: Subject,
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    batch: int | None = None,
    shape: tuple[int, ...] | None = None,
    trace: Path | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Layers:
    """Measures what each layer of an ONNX file takes, and how much measuring that slows it.

    Args:
        subject: the model.
        runtime: one of ``PROFILERS``.
        threads: of the session.
        batch: images a call; None: 1, or what the file fixes.
        shape: channels, height and width, where the file leaves them open.
        trace: a file to write the events of some calls to, as chrome://tracing and Perfetto read
            them.
        seed: of inputs, orders and resampling.
        say: is told what is being done.

    Raises:
        UsageError: a runtime that does not tell, or a model that is no ONNX file.
        ModelFileError: the file cannot be loaded or run.
    """
    if runtime not in PROFILERS:
        raise UsageError(
            f"{runtime} does not report the time of layers. Use {' or '.join(PROFILERS)}."
        )
    found = runtime_named(runtime)
    path = path_of(subject, found.name)
    if batch is None:
        size = found.input_of(subject).shape[0]
        batch = size if isinstance(size, int) else 1
    images = make_input(found, subject, batch=batch, shape=shape, seed=seed)
    operations = operations_of_onnx(path, shape=shape)
    with scratch_folder("layers") as folder:
        profiler = _profiler(runtime, folder)
        say(f"{subject.name}: timing each layer ({runtime})")
        recorded = profiler.record(path, threads, images, CALLS)
        say(f"{subject.name}: measuring the cost of profiling ({runtime})")
        timing = protocol.measure(
            {
                "plain": partial(found.load, subject, threads=threads, images=images),
                "profiled": partial(profiler.session, path, threads, images),
            },
            dict.fromkeys(("plain", "profiled"), images),
            max_rounds=protocol.LOOKS[2],
            stop=lambda timing: is_clear(timing.ratio("profiled", "plain"), None),
            max_s=MAX_S,
            threads=threads,
            seed=seed,
        )
    if trace is not None:
        write_trace(trace, recorded, subject.name, runtime)
    return summarise(recorded, operations, timing, runtime=runtime, threads=threads, batch=batch)


def summarise(
    recorded: Recorded,
    operations: Sequence[Operation],
    timing: Timing,
    *,
    runtime: str,
    threads: int,
    batch: int,
) -> Layers:
    """Medians over the calls, and the multiply-accumulates of each layer.

    Args:
        recorded: of one session, so that every call ran the same layers.
        operations: of the file, their MACs for one image.
        timing: rounds of "plain" and "profiled".
        runtime: its name.
        threads: of the session.
        batch: images a call.
    """
    times = np.median([[event.time_s for event in call.layers] for call in recorded.calls], axis=0)
    events = recorded.calls[0].layers
    macs, unmatched = match(events, recorded.origins, operations)
    layers = tuple(
        Layer(event.name, event.kind, max(0.0, float(time_s)), batch * each)
        for event, time_s, each in zip(events, times, macs, strict=True)
    )
    return Layers(
        runtime=runtime,
        threads=threads,
        batch=batch,
        calls=len(recorded.calls),
        layers=layers,
        call_s=float(np.median([call.time_s for call in recorded.calls])),
        slowdown=timing.ratio("profiled", "plain"),
        unmatched={name: batch * each for name, each in unmatched.items()},
    )


def match(
    events: Sequence[Event],
    origins: Mapping[str, tuple[str, ...]],
    operations: Sequence[Operation],
) -> tuple[list[int], dict[str, int]]:
    """Gives the MACs of the file's operations to the layers that do them, each once.

    A layer has the operations whose names, or the names of whose outputs, are its own or among its
    origins; where such a name is of something that multiplies nothing (an activation that was
    fused with the convolution before it), it has the nearest operation before that.

    Returns:
        MACs for one image of each event, and those of operations that none was found for.
    """
    by_name = {each.name: each for each in operations if each.name}
    by_output = {name: each for each in operations for name in each.outputs}
    left = {id(each): each for each in operations if each.macs is not None}
    found = []
    for event in events:
        macs = 0
        names = [event.name, *origins.get(event.name, ())]
        names += [_ADDED.sub("", name) for name in names]
        named = [by_name.get(name) or by_output.get(name) for name in names]
        for operation in filter(None, named):
            if id(operation) in left:
                macs += left.pop(id(operation)).macs or 0
        if not macs and _MULTIPLIES.search(event.kind):
            before = _nearest(filter(None, named), by_output, left)
            if before is not None:
                macs += left.pop(id(before)).macs or 0
        found.append(macs)
    unmatched = {each.name or each.outputs[0]: each.macs or 0 for each in left.values()}
    return found, unmatched


def _nearest(
    starts: Iterable[Operation],
    by_output: Mapping[str, Operation],
    left: Mapping[int, Operation],
) -> Operation | None:
    """The nearest operation before those that multiplies and has not been given away."""
    row = list(starts)
    seen: set[int] = set()
    while row:
        following = []
        for operation in row:
            if id(operation) in left:
                return operation
            if id(operation) in seen or operation.macs is not None:
                continue  # what lies before another product is that one's
            seen.add(id(operation))
            following += [by_output[name] for name in operation.inputs if name in by_output]
        row = following
    return None


def write_trace(path: Path, recorded: Recorded, model: str, runtime: str) -> None:
    """Writes the events of the last calls in the format of Chrome's tracing.

    Raises:
        UsageError: the folder cannot be written to.
    """
    from compress.files import write_json

    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": 1, "args": {"name": f"{model}, {runtime}"}}
    ]
    for call in recorded.calls[-TRACED_CALLS:]:
        for event in (Event("call", "", call.start_s, call.time_s), *call.layers):
            events.append(
                {
                    "name": event.name,
                    "cat": event.kind,
                    "ph": "X",
                    "pid": 1,
                    "tid": 1,
                    "ts": event.start_s * 1e6,
                    "dur": max(0.0, event.time_s) * 1e6,
                    "args": {"kind": event.kind},
                }
            )
    write_json(path, {"traceEvents": events, "displayTimeUnit": "ms"})


def _profiler(runtime: str, folder: Path) -> Profiler:
    return OnnxRuntimeProfiler(folder) if runtime == "onnxruntime" else OpenVinoProfiler()


@dataclass(frozen=True)
class OnnxRuntimeProfiler:
    """Reads the file that ONNX Runtime's profiler writes.

    Args:
        folder: where those files may lie.
    """

    folder: Path

    def session(self, path: Path, threads: int, images: Input) -> Session:
        """A session with the profiler on."""
        from compress.profiling.onnxruntime_cpu import OnnxSession

        return OnnxSession(path, threads=threads, profile=self.folder / "rounds")

    def record(self, path: Path, threads: int, images: Input, calls: int) -> Recorded:
        """Calls a session and reads its profile."""
        from compress.profiling.onnxruntime_cpu import OnnxSession

        session = OnnxSession(path, threads=threads, profile=self.folder / "calls")
        for _ in range(WARM_UP_CALLS + calls):
            session.infer(images)
        written = session.end_profiling()
        session.close()
        return read_onnxruntime_profile(json.loads(written.read_text(encoding="utf-8")), calls)


def read_onnxruntime_profile(events: Sequence[Mapping[str, Any]], calls: int) -> Recorded:
    """The last calls in a profile of ONNX Runtime.

    Events of kernels come before the event "model_run" of their call.

    Raises:
        NothingMeasured: it holds fewer calls, or calls that did not run the same kernels.
    """
    found: list[Call] = []
    kernels: list[Event] = []
    for each in events:
        name, time_s = str(each["name"]), each.get("dur", 0) / 1e6
        if each["cat"] == "Node" and name.endswith("_kernel_time"):
            arguments = each["args"]
            kernels.append(
                Event(
                    name.removesuffix("_kernel_time"),
                    str(arguments["op_name"]),
                    each["ts"] / 1e6,
                    time_s,
                )
            )
        elif each["cat"] == "Session" and name == "model_run":
            ran = tuple(sorted(kernels, key=lambda event: event.start_s))
            found.append(Call(each["ts"] / 1e6, time_s, ran))
            kernels = []
    last = found[-calls:]
    ran_alike = len({tuple(event.name for event in call.layers) for call in last}) == 1
    if len(last) < calls or not ran_alike:
        raise NothingMeasured(
            f"ONNX Runtime's profile has {len(found)} calls, and of the last {calls} not all ran "
            "the same kernels, so layers cannot be timed."
        )
    return Recorded(tuple(last))


class OpenVinoProfiler:
    """Reads OpenVINO's counters after each call.

    A counter is the mean of all calls of its session, rounded down to microseconds. What one call
    took is the difference of two sums, known to as many microseconds as there were calls: few
    calls a session, in several sessions. When a layer began is not told.
    """

    def session(self, path: Path, threads: int, images: Input) -> Session:
        """A session that counts."""
        from compress.profiling.openvino_cpu import OpenVinoSession

        return OpenVinoSession(path, threads=threads, images=images, profile=True)

    def record(self, path: Path, threads: int, images: Input, calls: int) -> Recorded:
        """Calls several sessions and asks each after every call what its layers took."""
        from compress.profiling.openvino_cpu import OpenVinoSession

        clock = protocol.SystemClock()
        told: list[Call] = []
        origins: dict[str, tuple[str, ...]] = {}
        while len(told) < calls:
            session = OpenVinoSession(path, threads=threads, images=images, profile=True)
            origins = session.origins()
            sums_s: list[float] = []
            for call in range(1, OPENVINO_CALLS + 1):
                start_ns = clock.wall_ns()
                session.infer(images)
                start_s, time_s = start_ns / 1e9, (clock.wall_ns() - start_ns) / 1e9
                layers = [layer for layer in session.layers() if layer[0] in origins]
                before_s, sums_s = sums_s, [call * mean_s for _, _, mean_s in layers]
                if call > OPENVINO_WARM_UP:
                    told.append(Call(start_s, time_s, _in_a_row(layers, before_s, sums_s, start_s)))
            session.close()
        return Recorded(tuple(told), origins)


def _in_a_row(
    layers: Sequence[tuple[str, str, float]],
    before_s: Sequence[float],
    after_s: Sequence[float],
    start_s: float,
) -> tuple[Event, ...]:
    """What the layers took between two sums, one after the other."""
    events = []
    for (name, kind, _), before, after in zip(layers, before_s, after_s, strict=True):
        events.append(Event(name, kind, start_s, after - before))
        start_s += max(0.0, after - before)
    return tuple(events)
