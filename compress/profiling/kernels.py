"""Which kernel a runtime really runs for each convolution, and in which precision.

An int8 file says where values are quantised. What is then computed in 8 bits is the runtime's
doing: it fuses what it has a kernel for and leaves the rest in float, with conversions around it.
So nothing is read from the file here, but from what the runtime ran (ONNX Runtime's profile of one
call) or made of it (OpenVINO's compiled graph).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from compress.errors import UsageError
from compress.profiling.costs import operations_of_onnx
from compress.profiling.inputs import make_input
from compress.profiling.layers import PROFILERS, Event, match
from compress.profiling.onnxruntime_cpu import OnnxSession
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Input, Subject
from compress.results import Kernel
from compress.scratch import scratch_folder

_PRECISIONS = {
    "float": "fp32",
    "f32": "fp32",
    "float16": "fp16",
    "f16": "fp16",
    "bfloat16": "bf16",
    "uint8": "int8",
    "u8": "int8",
    "i8": "int8",
}
# Conv, FusedConv, QLinearConv, NhwcFusedConv; Gemm, QGemm, MatMul; Convolution, FullyConnected.
_CONVOLUTION, _PRODUCT = re.compile(r"Conv(?!ert)"), re.compile(r"Gemm|MatMul|FullyConnected")


@dataclass(frozen=True)
class _RuntimeLayer:
    """A layer as a runtime tells it, of whatever kind.

    Attributes:
        name: of it.
        kind: of operation.
        kernel: that computes it.
        precision: of what it reads, as the runtime calls it.
        origins: names of the file's operations that it was made of, where they are told.
    """

    name: str
    kind: str
    kernel: str
    precision: str
    origins: tuple[str, ...] = ()


def kernels_of(
    path: Path,
    runtime: str = "onnxruntime",
    *,
    threads: int = 1,
    batch: int = 1,
    shape: tuple[int, ...] | None = None,
) -> tuple[Kernel, ...]:
    """The kernels of an ONNX file's convolutions and matrix products, in the order of running.

    Args:
        path: the file.
        runtime: one of ``layers.PROFILERS``.
        threads: of the session.
        batch: images a call, where the file leaves that open.
        shape: channels, height and width, where the file leaves them open.

    Raises:
        UsageError: the runtime does not tell, or is not installed.
        ModelFileError: it cannot run the file.
    """
    if runtime not in PROFILERS:
        raise UsageError(f"{runtime} does not report its kernels. Use {' or '.join(PROFILERS)}.")
    images = make_input(
        runtime_named(runtime), Subject(path.name, path=path), batch=batch, shape=shape
    )
    told = {"onnxruntime": _by_onnxruntime, "openvino": _by_openvino}[runtime]
    layers = told(path, threads, images)
    macs, _ = match(
        [Event(layer.name, layer.kind, 0.0, 0.0) for layer in layers],
        {layer.name: layer.origins for layer in layers},
        operations_of_onnx(path, shape=shape),
    )
    return tuple(
        Kernel(
            name=layer.name,
            kind=kind,
            kernel=layer.kernel,
            precision=_PRECISIONS.get(layer.precision, layer.precision),
            macs=each,
        )
        for layer, each in zip(layers, macs, strict=True)
        for kind in _kind(layer.kind)
    )


def share(kernels: Iterable[Kernel], precision: str = "int8", *, of_macs: bool = False) -> float:
    """Share of the convolutions, by number or by multiply-accumulates, in a precision.

    Raises:
        UsageError: there are no convolutions.
    """
    weights = [
        (kernel.macs if of_macs else 1, kernel.precision == precision)
        for kernel in kernels
        if kernel.kind == "convolution"
    ]
    total = sum(weight for weight, _ in weights)
    if not total:
        raise UsageError("The model has no convolutions.")
    return sum(weight for weight, matches in weights if matches) / total


def _by_onnxruntime(path: Path, threads: int, images: Input) -> list[_RuntimeLayer]:
    """From the profile of one call."""
    with scratch_folder("kernels") as folder:
        session = OnnxSession(path, threads=threads, profile=folder / "profile")
        session.infer(images)
        events = json.loads(session.end_profiling().read_text(encoding="utf-8"))
        session.close()
    found = []
    for event in events:
        name = event["name"].removesuffix("_kernel_time")
        if event["cat"] == "Node" and name != event["name"]:
            kernel = event["args"]["op_name"]
            # [{"uint8": [1, 3, 32, 32]}, ...]; weights that were packed are not among them.
            given = [kind for each in event["args"]["input_type_shape"] for kind in each]
            found.append(_RuntimeLayer(name, kernel, kernel, given[0] if given else ""))
    return found


def _by_openvino(path: Path, threads: int, images: Input) -> list[_RuntimeLayer]:
    """From the compiled graph, after one call."""
    from compress.profiling.openvino_cpu import OpenVinoSession

    session = OpenVinoSession(path, threads=threads, images=images, profile=True)
    session.infer(images)
    layers, origins = session.layers(), session.origins()
    session.close()
    found = []
    for name, text, _ in layers:
        if name in origins:
            # "Convolution brgconv_avx512_I8"
            kind, _, kernel = text.partition(" ")
            precision = kernel.rpartition("_")[2].lower()
            found.append(_RuntimeLayer(name, kind, kernel, precision, origins[name]))
    return found


def _kind(operation: str) -> tuple[str, ...]:
    """What a kind of operation is; nothing where it multiplies no matrices."""
    if _CONVOLUTION.search(operation):
        return ("convolution",)
    return ("product",) if _PRODUCT.search(operation) else ()
