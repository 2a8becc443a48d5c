"""16 bits: fp16 and bf16 files of a float32 file, with float32 input and output.

``onnxruntime.transformers.float16`` converts; a bf16 file is its fp16 file with the other type and
with weights rounded from the float32 ones.

Running such a file on a CPU proves little: ONNX Runtime computes fp16 in float32 there, where
nothing overflows, and has no bf16 convolutions. So what is compared with the float file is the
converted file in float32 with the result of every operation rounded to 16 bits, as hardware does
that multiplies in 16 bits and adds up in 32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import DTypeLike
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.transformers.float16 import convert_float_to_float16

from compress.errors import ExportError, PrecisionLost, first_line
from compress.export.artifact import read_artifact
from compress.export.conversion import float_model, tidy, write_converted
from compress.export.fidelity import Predict, Proof, compare, judgement, logits_of
from compress.export.parity import Array, fixed_batch, in_batches_of, predictor_of, values_of
from compress.export.to_onnx import quiet
from compress.files import atomic_path
from compress.results import Artifact, Fidelity


@dataclass(frozen=True)
class Format:
    """A floating point type of 16 bits.

    Attributes:
        name: 'fp16' or 'bf16'.
        kind: ONNX's number of it.
        dtype: numpy's.
        largest: finite value.
        opset: the first in which ONNX's convolutions take it.
    """

    name: str
    kind: int
    dtype: DTypeLike
    largest: float
    opset: int


FP16 = Format("fp16", TensorProto.FLOAT16, np.float16, 65504.0, 11)
BFLOAT16 = helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)
BF16 = Format("bf16", TensorProto.BFLOAT16, BFLOAT16, 3.3895e38, 22)


def fp16_from_onnx(source: Path, path: Path, *, proof: Proof) -> tuple[Artifact, Fidelity]:
    """Writes a float32 ONNX file as an fp16 one; its input and output stay float32.

    Args:
        source: the float32 file.
        path: the fp16 file.
        proof: what it is compared on with the float file; its judge may refuse it.

    Returns:
        the file and its fidelity, which its metadata have, too.

    Raises:
        ModelFileError: the float file cannot be loaded, or takes other images.
        UsageError: it is not float32.
        ExportError: the converter fails.
        PrecisionLost: a value is too large for fp16, or the judge refuses; the message names the
            layer where that begins, and no file is left.
    """
    return _converted(source, path, proof, FP16)


def bf16_from_onnx(source: Path, path: Path, *, proof: Proof) -> tuple[Artifact, Fidelity]:
    """The same in bf16, which has float32's range and 8 bits of precision."""
    return _converted(source, path, proof, BF16)


def predictor_of_any(path: Path) -> Predict:
    """Images -> logits of an ONNX file of any precision, on the CPU.

    ONNX Runtime does not run bf16 there; such a file is rounded (see above).

    Raises:
        ModelFileError: the file cannot be loaded.
    """
    threads = torch.get_num_threads()
    if read_artifact(path).precision != BF16.name:
        return predictor_of(path, threads=threads)
    model = onnx.load(path)
    output = model.graph.output[0].name
    run = values_of(rounded(model, BF16), [output], threads=threads)
    return in_batches_of(fixed_batch(model), lambda images: run(images)[output])


def _converted(source: Path, path: Path, proof: Proof, target: Format) -> tuple[Artifact, Fidelity]:
    floats = float_model(source, target.name)
    expected = logits_of(predictor_of(source, threads=torch.get_num_threads()), proof.images)
    original = onnx.load(source)
    _constants_as_weights(original)
    _check_weights(original, source, target)
    model = narrowed(original, source, target)
    wide, output = rounded(model, target), model.graph.output[0].name
    run = values_of(wide, [output], threads=torch.get_num_threads())
    batch = fixed_batch(original)
    predict = in_batches_of(batch, lambda images: run(images)[output])
    found = logits_of(predict, proof.images)
    fidelity = compare(expected, found, proof, method="rounded")
    finite = np.isfinite(found).all(axis=1)
    if finite.all():
        reason = judgement(expected, found, proof)
        worst = int(np.abs(found - expected).max(axis=1).argmax())
    else:
        worst = int(np.argmin(finite))
        reason = f"The logits of image {worst} are not finite."
    if reason:
        image = np.repeat(proof.images[worst : worst + 1], batch or 1, axis=0)
        where = _beginning(original, wide, image, target)
        raise PrecisionLost(f"{source.name} is not good enough in {target.name}. {reason}{where}")
    conversion = {
        "tool": f"onnxruntime.transformers.float16 {onnxruntime.__version__}",
        "input_and_output": "fp32",
    }
    with atomic_path(path) as temporary:
        write_converted(
            model,
            temporary,
            floats,
            precision=target.name,
            source=source,
            conversion=conversion,
            fidelity=fidelity,
        )
    return read_artifact(path), fidelity


def _constants_as_weights(model: onnx.ModelProto) -> None:
    """Makes weights of the constants of a graph, in place: the converter clips both to fp16."""
    graph = model.graph
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        value = next((each.t for each in node.attribute if each.name == "value"), None)
        if value is not None:
            graph.initializer.add().CopyFrom(value)
            graph.initializer[-1].name = node.output[0]
            graph.node.remove(node)


def _check_weights(model: onnx.ModelProto, source: Path, target: Format) -> None:
    """Refuses weights that the type cannot hold; the converter would clip them.

    Raises:
        PrecisionLost: names them.
    """
    faults = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        value = float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))
        if not value <= target.largest:
            faults.append(f"'{tensor.name}' has {value:.3g}")
    if faults:
        raise PrecisionLost(
            f"{source.name} has weights that {target.name} cannot hold (up to {target.largest:g}): "
            f"{'; '.join(faults)}."
        )


def narrowed(original: onnx.ModelProto, source: Path, target: Format) -> onnx.ModelProto:
    """The converted graph.

    Raises:
        ExportError: the converter fails.
    """
    exact = {tensor.name: tensor for tensor in original.graph.initializer}
    model = onnx.ModelProto()
    model.CopyFrom(original)
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    try:
        with quiet():
            if opset < target.opset:
                model = version_converter.convert_version(model, target.opset)
            model = convert_float_to_float16(model, keep_io_types=True)
            if target is not FP16:
                _retype(model, exact, target)
            ordered = ONNXModel(model)
            ordered.topological_sort()
        made: onnx.ModelProto = ordered.model
        tidy(made)
        onnx.checker.check_model(made, full_check=True)
    except (RuntimeError, ValueError, TypeError, onnx.checker.ValidationError) as error:
        reason = first_line(error)
        raise ExportError(
            f"{source.name} cannot be converted to {target.name}: {reason}"
        ) from error
    return made


def _retype(model: onnx.ModelProto, exact: dict[str, TensorProto], target: Format) -> None:
    """Makes an fp16 graph one of another type, in place; weights are rounded from ``exact``."""
    graph = model.graph
    for tensor in _tensors(graph):
        if tensor.data_type == TensorProto.FLOAT16:
            value = numpy_helper.to_array(exact.get(tensor.name, tensor))
            tensor.CopyFrom(numpy_helper.from_array(value.astype(target.dtype), tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to":
                attribute.i = target.kind if attribute.i == TensorProto.FLOAT16 else attribute.i
    for value_info in (*graph.input, *graph.value_info, *graph.output):
        if value_info.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value_info.type.tensor_type.elem_type = target.kind


def rounded(model: onnx.ModelProto, target: Format) -> onnx.ModelProto:
    """A 16-bit graph in float32: the same values, each result rounded to 16 bits.

    Every operation's result keeps its name.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    narrow = {
        value.name
        for value in (*inferred.graph.value_info, *inferred.graph.output)
        if value.type.tensor_type.elem_type == target.kind
    }
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    graph = wide.graph
    del graph.value_info[:]
    for tensor in _tensors(graph):
        if tensor.data_type == target.kind:
            value = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == target.kind:
                attribute.i = TensorProto.FLOAT
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name in narrow:
                node.output[place] = f"{name}/exact"
                nodes += [
                    helper.make_node("Cast", [f"{name}/exact"], [f"{name}/narrow"], to=target.kind),
                    helper.make_node("Cast", [f"{name}/narrow"], [name], to=TensorProto.FLOAT),
                ]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return wide


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Weights and constants."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def _beginning(
    original: onnx.ModelProto, wide: onnx.ModelProto, image: Array, target: Format
) -> str:
    """Where an image's values become infinite, or where most of its error comes from."""
    there = {name for node in wide.graph.node for name in node.output}
    names = [name for node in original.graph.node for name in node.output if name in there]
    expected, found = (values_of(graph, names)(image) for graph in (original, wide))
    layers = _layers(original)
    errors: dict[str, float] = {}
    for name in names:
        if expected[name].dtype != np.float32:
            continue
        exact = expected[name].astype(np.float64)
        if not np.isfinite(found[name]).all():
            return (
                f" It begins at layer '{layers[name]}', which gives values up to "
                f"{np.abs(exact).max():.3g}; {target.name} holds up to {target.largest:g}."
            )
        scale = float(np.sqrt((exact**2).mean()))
        error = float(np.sqrt(((found[name] - exact) ** 2).mean()))
        errors[name] = error / scale if scale else 0.0
    if not errors:
        return ""
    last = list(errors.values())[-1]
    name = next(name for name, error in errors.items() if error >= last / 2)
    return f" It begins at layer '{layers[name]}', whose result is off by {errors[name]:.2%}."


def _layers(model: onnx.ModelProto) -> dict[str, str]:
    """Value -> the layer that gives it: by the name of its weights, else by its own."""
    weights = {tensor.name for tensor in model.graph.initializer}
    layers = {}
    for node in model.graph.node:
        named = [name for name in node.input if name in weights]
        for output in node.output:
            layers[output] = named[0].rpartition(".")[0] if named else ""
            layers[output] = layers[output] or node.name or output
    return layers
