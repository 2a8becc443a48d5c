"""16 bits: fp16 and bf16 files of a float32 file, with float32 input and output.

``onnxruntime.transformers.float16`` converts; a bf16 file is its fp16 file with the other type and
with weights rounded from the float32 ones.

Running such a file on a CPU proves little: ONNX Runtime computes fp16 in float32 there, where
nothing overflows, and has no bf16 convolutions. So what is compared with the float file is the
converted file in float32 with the result of every operation rounded to 16 bits, as hardware does
that multiplies in 16 bits and adds up in 32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import DTypeLike
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from compress.errors import ExportError, PrecisionLost
from compress.exporting.artifact import read_artifact
from compress.exporting.conversion import (
    advice_for,
    float_model,
    guarded,
    in_opset,
    quiet,
    tidy,
    write_converted,
)
from compress.exporting.fidelity import Proof, answers_to, compare, judgement
from compress.exporting.graphs import listed, products, sort_nodes
from compress.exporting.parity import (
    Array,
    Predict,
    check_batch,
    in_batches_of,
    predictor_of,
    values_of,
)
from compress.files import atomic_path
from compress.onnx_file import (
    fixed_batch,
    graphs_within,
    load_model,
    outputs_of,
    precision_of_file,
    stated_output,
    without_weight_inputs,
)
from compress.results import Artifact, Fidelity
from compress.tasks.registry import unstated
from compress.tasks.task import Arrays, Task, finite_rows


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
TOOL = "onnxruntime.transformers.float16"
# Of the weights of convolutions and products: what shares one with an operation that has no 16-bit
# form stays float32.
MOST_IN_FLOAT = 0.01


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


def predictor_of_any(path: Path, task: Task | None = None) -> Predict:
    """Images -> logits of an ONNX file of any precision, on the CPU.

    ONNX Runtime does not run bf16 there; such a file is rounded (see above).

    Raises:
        ModelFileError: the file cannot be loaded.
        ExportError: ONNX Runtime does not run it rounded.
    """
    if precision_of_file(path) != BF16.name:
        return predictor_of(path, task, threads=torch.get_num_threads())
    return _rounded_predictor(load_model(path), path, BF16, task or unstated())


def _converted(source: Path, path: Path, proof: Proof, target: Format) -> tuple[Artifact, Fidelity]:
    original = float_model(source, target.name)
    predict = predictor_of(source, proof.task, threads=torch.get_num_threads())
    check_batch(source, predict, proof.images[:1])
    expected = answers_to(predict, proof.images)
    _check_weights(original, source, target)
    model = in_16_bits(original, source, target)
    found = answers_to(_rounded_predictor(model, source, target, proof.task), proof.images)
    fidelity = compare(expected, found, proof, method="rounded")
    finite = finite_rows(found)
    if finite.all():
        reason = judgement(expected, found, proof)
        worst = int(proof.task.agreement(expected, found).difference.argmax())
    else:
        worst = int(np.argmin(finite))
        reason = f"The {proof.task.number}s of image {worst} are not finite."
    if reason:
        where = _beginning(original, model, proof.images[worst : worst + 1], target)
        raise PrecisionLost(f"{source.name} is not good enough in {target.name}. {reason}{where}")
    conversion = {
        "tool": f"{TOOL} {onnxruntime.__version__}",
        "input_and_output": "fp32",
    }
    with atomic_path(path) as temporary:
        write_converted(
            model,
            temporary,
            original,
            precision=target.name,
            source=source,
            conversion=conversion,
            fidelity=fidelity,
        )
    return read_artifact(path), fidelity


def _rounded_predictor(model: onnx.ModelProto, source: Path, target: Format, task: Task) -> Predict:
    """Images -> answers of a 16-bit graph, each result rounded to 16 bits.

    Raises:
        ExportError: ONNX Runtime does not run it; also from the function that is returned.
    """
    reading = task.reading(outputs_of(model), source.name, stated_output(model))
    failure = f"{source.name} cannot be compared with float32 in {target.name}"
    advice = advice_for(model)
    with guarded(failure, "ONNX Runtime", advice):
        run = values_of(rounded(model, target), reading.names, threads=torch.get_num_threads())

    def predict(images: Array) -> Arrays:
        with guarded(failure, "ONNX Runtime", advice):
            return reading(run(images), len(images))

    return in_batches_of(fixed_batch(model), predict)


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


def in_16_bits(original: onnx.ModelProto, source: Path, target: Format) -> onnx.ModelProto:
    """The converted graph of a model in the form of ``normalise``.

    Raises:
        ExportError: the converter fails, or leaves weights in float32.
    """
    exact = {tensor.name: tensor for tensor in original.graph.initializer}
    model = onnx.ModelProto()
    model.CopyFrom(original)
    failure = f"{source.name} cannot be converted to {target.name}"
    advice = advice_for(original)
    with guarded(failure, "onnx", advice), quiet():
        model = in_opset(model, target.opset)
    with guarded(failure, TOOL, advice), quiet():
        made: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True)
        if target is not FP16:
            _retype(made.graph, exact, target)
        sort_nodes(made)
        without_weight_inputs(made)
        tidy(made)
    with guarded(failure, "onnx.checker", advice):
        onnx.checker.check_model(made, full_check=True)
    _check_reduced(made, failure, target, advice)
    return made


def _check_reduced(model: onnx.ModelProto, failure: str, target: Format, advice: str) -> None:
    """Refuses a graph whose weights do not have the type that it is to have.

    Biases and constants may be float32, where an operation has no other.

    Raises:
        ExportError: says how many of how many have not.
    """
    tensors = {tensor.name: tensor for _, weights in products(model) for tensor in weights}
    sizes = {
        name: math.prod(tensor.dims)
        for name, tensor in tensors.items()
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.DOUBLE, target.kind)
    }
    left = [name for name in sizes if tensors[name].data_type != target.kind]
    count, total = sum(sizes[name] for name in left), sum(sizes.values())
    if count > MOST_IN_FLOAT * total:
        names = listed([f"'{name}'" for name in left])
        raise ExportError(
            f"{failure}: {count:,} of the {total:,} weights of its convolutions and products would "
            f"not be {target.name} ({names}). {advice}"
        )


def _retype(graph: onnx.GraphProto, exact: dict[str, TensorProto], target: Format) -> None:
    """Makes an fp16 graph one of another type, in place; weights are rounded from ``exact``."""
    for tensor in _tensors(graph):
        if tensor.data_type == TensorProto.FLOAT16:
            value = numpy_helper.to_array(exact.get(tensor.name, tensor))
            tensor.CopyFrom(numpy_helper.from_array(value.astype(target.dtype), tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to":
                attribute.i = target.kind if attribute.i == TensorProto.FLOAT16 else attribute.i
        for inner in graphs_within(node):
            _retype(inner, exact, target)
    _retype_values((*graph.input, *graph.value_info, *graph.output), target.kind)


def _retype_values(values: Iterable[onnx.ValueInfoProto], kind: int, of: int = FP16.kind) -> None:
    """Says another type of values of one."""
    for value in values:
        if value.type.tensor_type.elem_type == of:
            value.type.tensor_type.elem_type = kind


def rounded(model: onnx.ModelProto, target: Format) -> onnx.ModelProto:
    """A 16-bit graph in float32: the same values, each result rounded to 16 bits.

    Every operation's result keeps its name.
    """
    wide = onnx.shape_inference.infer_shapes(model)
    _round_graph(wide.graph, target)
    return wide


def _round_graph(graph: onnx.GraphProto, target: Format) -> None:
    """The same of one graph and those within it, whose values have types, in place."""
    narrow = {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == target.kind
    }
    del graph.value_info[:]
    _retype_values((*graph.input, *graph.output), TensorProto.FLOAT, of=target.kind)
    for tensor in _tensors(graph):
        if tensor.data_type == target.kind:
            value = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    nodes = []
    for node in graph.node:
        for inner in graphs_within(node):
            _round_graph(inner, target)
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


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Weights and constants, less those of graphs within."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _beginning(
    original: onnx.ModelProto, model: onnx.ModelProto, image: Array, target: Format
) -> str:
    """Where an image's values become infinite, or where most of its error comes from; may be ''."""
    image = np.repeat(image, fixed_batch(original) or 1, axis=0)
    there = {name for node in model.graph.node for name in node.output if name}
    names = [name for node in original.graph.node for name in node.output if name in there]
    try:
        with guarded("The values of a layer are not available", "ONNX Runtime"):
            graphs = (original, rounded(model, target))
            expected, found = (values_of(graph, names)(image) for graph in graphs)
    except ExportError:
        return ""
    layers = _layers(original)
    errors: dict[str, float] = {}
    for name in names:
        if expected[name].dtype != np.float32:
            continue
        exact = expected[name].astype(np.float64)
        if not np.isfinite(found[name]).all():
            return (
                f" It begins at layer '{layers[name]}', which gives values up to "
                f"{np.abs(exact).max():.3g}, but {target.name} holds at most {target.largest:g}."
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
