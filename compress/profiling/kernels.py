"""Which kernel a runtime really runs for each convolution, and in which precision.

An int8 file says where values are quantised. What is then computed in 8 bits is the runtime's
doing: it fuses what it has a kernel for and leaves the rest in float, with conversions around it.
So nothing is read from the file here, but from what the runtime ran (ONNX Runtime's profile of one
call) or made of it (OpenVINO's compiled graph).
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx

from compress.errors import UsageError
from compress.profiling.costs import parse
from compress.profiling.runtimes import Subject, make_input, runtime_named
from compress.results import Kernel

# Runtimes that tell what they run.
TELLING = ("onnxruntime", "openvino")

_PRECISIONS = {
    "float": "fp32",
    "f32": "fp32",
    "float16": "fp16",
    "f16": "fp16",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "uint8": "int8",
    "int8": "int8",
    "u8": "int8",
    "i8": "int8",
}
# ONNX Runtime's kinds of operations: Conv, FusedConv, QLinearConv, ConvInteger; Gemm, QGemm,
# MatMul, QLinearMatMul, FusedMatMul ...
_CONVOLUTION, _PRODUCT = re.compile(r"Conv"), re.compile(r"Gemm|MatMul")
# What it adds to the names of nodes that it makes anew.
_ADDED = re.compile(r"(_nchwc|_token_\d+)+$")


def kernels_of(
    path: Path,
    runtime: str = "onnxruntime",
    *,
    threads: int = 1,
    batch: int = 1,
    shape: tuple[int, ...] | None = None,
) -> tuple[Kernel, ...]:
    """The kernels of an ONNX file's convolutions and matrix products, in the order of the graph.

    Args:
        path: the file.
        runtime: one of TELLING.
        threads: of the session.
        batch: images a call, where the file leaves that open.
        shape: channels, height and width, where the file leaves them open.

    Raises:
        UsageError: the runtime does not tell, or is not installed.
        ModelFileError: it cannot run the file.
    """
    if runtime not in TELLING:
        raise UsageError(
            f"{runtime} does not tell which kernels it runs; {' and '.join(TELLING)} do."
        )
    found = runtime_named(runtime)
    subject = Subject(path.name, path=path)
    images = make_input(found, subject, batch=batch, shape=shape)
    found.load(subject, threads=threads, images=images).close()  # tells what is wrong with a file
    if runtime == "openvino":
        return tuple(_of_openvino(path, threads, images))
    return tuple(_of_onnxruntime(path, threads, images))


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


def _of_onnxruntime(path: Path, threads: int, images: Any) -> Iterator[Kernel]:
    import onnxruntime

    model = parse(path)
    weights = _weights_of_nodes(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="compress-kernels-") as folder:
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        session.run(None, {session.get_inputs()[0].name: images})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    for event in events:
        name = event["name"].removesuffix("_kernel_time")
        if event["cat"] != "Node" or name == event["name"]:
            continue
        arguments = event["args"]
        kernel = arguments["op_name"]
        kind = _kind(kernel)
        if kind is None:
            continue
        given, made = (
            [next(iter(each.items())) for each in arguments[key] if each]
            for key in ("input_type_shape", "output_type_shape")
        )
        # Weights that were packed for the kernel are not among the inputs any more.
        packed = kernel.startswith("Q") or len(given) < 2
        weight = weights.get(_ADDED.sub("", name), ()) if packed else given[1][1]
        yield Kernel(
            name=name,
            kind=kind,
            kernel=kernel,
            precision=_PRECISIONS.get(given[0][0], given[0][0]),
            macs=_macs(made[0][1], weight, channels=weight[0] if weight else 1) // len(images),
        )


def _of_openvino(path: Path, threads: int, images: Any) -> Iterator[Kernel]:
    from compress.profiling.openvino_cpu import ov, settings

    core = ov.Core()
    model = core.read_model(path)
    model.reshape(list(images.shape))
    compiled = core.compile_model(model, "CPU", settings(threads))
    for layer in compiled.get_runtime_model().get_ordered_ops():
        told = {key: str(value.astype(str)) for key, value in layer.get_rt_info().items()}
        kind = {"Convolution": "convolution", "FullyConnected": "product"}.get(
            told.get("layerType", "")
        )
        if kind is None:
            continue
        made = list(layer.output(0).get_shape())
        weight = list(layer.input(1).get_shape())
        # [groups, outputs / groups, inputs / groups, ...] where there are groups.
        channels = weight[0] * weight[1] if len(weight) > len(made) else weight[0]
        yield Kernel(
            name=layer.get_friendly_name(),
            kind=kind,
            kernel=told["primitiveType"],
            precision=_PRECISIONS.get(told["runtimePrecision"], told["runtimePrecision"]),
            macs=_macs(made, weight, channels=channels) // len(images),
        )


def _kind(operation: str) -> str | None:
    if _CONVOLUTION.search(operation):
        return "convolution"
    return "product" if _PRODUCT.search(operation) else None


def _macs(made: Sequence[int], weight: Sequence[int], *, channels: int) -> int:
    """MACs of an output: each of its values takes one row of the weight."""
    return math.prod(made) * math.prod(weight) // channels if weight else 0


def _weights_of_nodes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Node -> sizes of its weight, [outputs, inputs / groups, ...], through Q and DQ."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] in sizes:
            sizes[node.output[0]] = sizes[node.input[0]]
        elif _kind(node.op_type) and len(node.input) > 1 and node.input[1] in sizes:
            found[node.name] = sizes[node.input[1]]
    return found
