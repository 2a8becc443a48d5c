"""What a network needs whatever runs it: parameters, and multiply-accumulates (MACs) an image.

One MAC is one multiplication and the addition of its product. Counted are those of convolutions
and matrix products, with every position of a padded convolution counted in full. Some counters
print twice as much (they count the addition too and call it FLOPs), some count what batch
normalisation, activations and pooling do; here that is listed as not counted.

An ONNX file has fewer parameters than the network it came from: exporting folds batch
normalisation behind a convolution into its weights, and two vectors become one bias.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, numpy_helper, shape_inference

from compress.errors import ModelFileError, UsageError
from compress.external import external_files
from compress.profiling.runtimes import (
    InputSpec,
    one_input,
    resolve_shape,
    spec_of_value_info,
)
from compress.results import Costs

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]

# Operations that move, shape or look at data and compute nothing worth naming.
_FREE = frozenset(
    {
        "Cast",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "Reshape",
        "Shape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Dropout",
    }
)
# Operations whose inputs after the first say how, and are no weights.
_SHAPED_BY_INPUTS = frozenset(
    {
        "Reshape",
        "Slice",
        "Pad",
        "Expand",
        "Resize",
        "Clip",
        "Gather",
        "Unsqueeze",
        "Squeeze",
        "ReduceMean",
        "ReduceSum",
        "Split",
        "Tile",
    }
)
# Operations that multiply matrices inside, and that are not counted here.
_HIDDEN = frozenset(
    {
        "ConvTranspose",
        "DeformConv",
        "Einsum",
        "LSTM",
        "GRU",
        "RNN",
        "Attention",
        "MultiHeadAttention",
        "If",
        "Loop",
        "Scan",
        "FusedConv",
        "FusedMatMul",
        "GemmFloat8",
        "QLinearAttention",
    }
)
# The same for torch's operations.
_TORCH_FREE = frozenset(
    {
        "view",
        "reshape",
        "slice",
        "select",
        "permute",
        "transpose",
        "t",
        "expand",
        "detach",
        "alias",
        "clone",
        "empty",
        "zeros",
        "constant_pad_nd",
        "cat",
        "squeeze",
        "unsqueeze",
        "_to_copy",
        "copy_",
        "as_strided",
        "split",
        "unfold",
        "zeros_like",
        "_unsafe_view",
        "lift_fresh",
        "new_zeros",
        "fill_",
        "contiguous",
    }
)
_TORCH_HIDDEN = frozenset(
    {
        "lstm",
        "gru",
        "rnn_tanh",
        "rnn_relu",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_trilinear",
        "_cdist_forward",
        "convolution_overrideable",
        "mkldnn_rnn_layer",
    }
)
# Position of the weight among a node's inputs, and of the data.
_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
_PRODUCTS = {"MatMul": 0, "MatMulInteger": 0, "QLinearMatMul": 0, "Gemm": 0}


def costs_of_module(module: nn.Module, input_shape: Shape) -> Costs:
    """Runs one image of zeros and counts what is really executed, on the module's own device.

    It sees every operation that torch dispatches, functional calls too, not only modules.

    Args:
        module: the network; it is run in evaluation mode and given back in its own.
        input_shape: channels, height, width.

    Raises:
        UsageError: it cannot be run on images of that shape.
    """
    import torch

    parameters = list(module.parameters())
    device = parameters[0].device if parameters else torch.device("cpu")
    dtype = parameters[0].dtype if parameters else torch.float32
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        counted, others, warnings = _dispatched(
            module, torch.zeros((1, *input_shape), device=device, dtype=dtype)
        )
    finally:
        for part, training in modes.items():
            part.training = training
    return Costs(
        params=sum(parameter.numel() for parameter in parameters),
        macs=counted,
        not_counted=dict(sorted(others.items())),
        warnings=tuple(warnings),
    )


def costs_of_onnx(path: Path, *, shape: Shape | None = None) -> Costs:
    """Counts by the shapes that ONNX infers for a batch of one image.

    Args:
        path: the ONNX file.
        shape: channels, height, width, where the file leaves them open.

    Raises:
        ModelFileError: this is no ONNX file, or its shapes contradict each other.
        UsageError: a dimension that is open has no value.
    """
    model = parse(path)
    params = sum(math.prod(tensor.dims) for tensor in _weights(model))
    graph, batch = _with_shapes(model, path, shape)
    shapes = _shapes(graph)
    macs = 0
    others: Counter[str] = Counter()
    warnings: list[str] = []
    for node in graph.node:
        found = _macs_of_node(node, shapes)
        if found is not None:
            macs += found
        elif node.op_type in _CONVOLUTIONS or node.op_type in _PRODUCTS:
            warnings.append(f"{node.op_type} '{node.name}' is not in the MACs: its shape is open.")
        elif node.op_type in _HIDDEN or node.domain not in ("", "ai.onnx"):
            others[node.op_type] += 1
            warnings.append(f"{node.op_type} '{node.name}' is not in the MACs: it is not known.")
        elif node.op_type not in _FREE:
            others[node.op_type] += 1
    # A file whose batch is fixed at more than one image is counted at that batch.
    return Costs(params, macs // batch, dict(sorted(others.items())), tuple(warnings))


@dataclass(frozen=True)
class Operation:
    """One node of an ONNX file.

    Attributes:
        name: of the node; may be empty.
        kind: its operation.
        inputs, outputs: names of values.
        macs: for one image; None where it is no convolution or matrix product whose shape is known.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    macs: int | None


def operations_of_onnx(path: Path, *, shape: Shape | None = None) -> tuple[Operation, ...]:
    """The nodes of a file in its order, with the multiply-accumulates that are counted of each.

    Raises:
        ModelFileError, UsageError: as ``costs_of_onnx``.
    """
    graph, batch = _with_shapes(parse(path), path, shape)
    shapes = _shapes(graph)
    found = []
    for node in graph.node:
        macs = _macs_of_node(node, shapes)
        found.append(
            Operation(
                node.name,
                node.op_type,
                tuple(node.input),
                tuple(node.output),
                None if macs is None else macs // batch,
            )
        )
    return tuple(found)


def _with_shapes(
    model: onnx.ModelProto, path: Path, shape: Shape | None
) -> tuple[onnx.GraphProto, int]:
    """The graph with the shapes of its values, and the batch that they are for."""
    batch = _fixed(model, path, shape)
    try:
        inferred = shape_inference.infer_shapes(
            _without_weights(model), strict_mode=True, data_prop=True
        )
    except (shape_inference.InferenceError, RuntimeError, ValueError) as error:
        line = (str(error).strip().splitlines() or ["unknown"])[0]
        raise ModelFileError(f"The shapes in {path.name} contradict each other: {line}") from error
    return inferred.graph, batch


def precision_of_onnx(path: Path) -> str:
    """'int8' where values are quantised, else the type of the weights: 'fp32', 'fp16', ..."""
    return _precision(parse(path))


def size_of_onnx(path: Path) -> int:
    """Bytes of the file and of the files that it keeps weights in."""
    others = {path.parent / name for name in external_files(parse(path))}
    return path.stat().st_size + sum(each.stat().st_size for each in others if each.is_file())


def parse(path: Path) -> onnx.ModelProto:
    """An ONNX file's structure, external data left where it is.

    Raises:
        ModelFileError: the file is missing, or is not a whole ONNX file.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelFileError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (DecodeError, ValueError) as error:
        raise ModelFileError(
            f"{path} is not an ONNX file, or only a part of one ({path.stat().st_size} bytes). "
            "Export or copy it again."
        ) from error
    if not model.graph.node or not model.opset_import:
        raise ModelFileError(
            f"{path} is not an ONNX file: there is no graph in its {path.stat().st_size} bytes."
        )
    return model


def fault_of_file(path: Path) -> str:
    """What is wrong with an ONNX file whoever reads it, and what to do; empty where nothing is."""
    if not path.is_file():
        return f"There is no file {path}."
    try:
        model = parse(path)
    except ModelFileError as fault:
        return str(fault)
    missing = missing_external_data(model, path)
    if missing:
        return (
            f"{path.name} keeps weights in {', '.join(missing)}, which is not there or too short. "
            f"Put it beside {path.name}, or export again into one file."
        )
    return ""


def input_of_onnx(path: Path) -> InputSpec:
    """The one input of an ONNX file, as the file describes it.

    Raises:
        ModelFileError: the file is damaged or not whole, or has not exactly one input.
    """
    fault = fault_of_file(path)
    if fault:
        raise ModelFileError(fault)
    value = _only_input(parse(path), path)
    kind = value.type.tensor_type.elem_type
    named = TensorProto.DataType.Name(kind).lower()
    dtype = {"float": "float32", "double": "float64"}.get(named, named)
    return replace(spec_of_value_info(value), dtype=dtype)


def missing_external_data(model: onnx.ModelProto, path: Path) -> list[str]:
    """Names of the files that weights should be in and are not, or are too short."""
    needed = external_files(model)
    return sorted(
        name
        for name, end in needed.items()
        if not (path.parent / name).is_file() or (path.parent / name).stat().st_size < end
    )


def _weights(model: onnx.ModelProto) -> Iterable[TensorProto]:
    """Constants that were learned: floating point, or integers that stand for such values.

    They are initialisers, or the values of Constant nodes, of which those with one number alone
    are part of a formula.

    Shapes, axes and zero points are left out; so are the scales of a quantised file, and the
    statistics that a batch normalisation keeps beside its two weights.
    """
    helpers: set[str] = set()
    scales: set[str] = set()  # of activations that are quantised as they come
    for node in model.graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            scales.add(node.output[1])
        elif node.op_type == "Mul" and scales & set(node.input):
            helpers.update(set(node.input) - scales)
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            helpers.update(node.input[3:5])
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            helpers.update(node.input[1:])
        elif node.op_type in ("QLinearConv", "QLinearMatMul"):
            helpers.update(name for place, name in enumerate(node.input) if place not in (0, 3, 8))
        elif node.op_type in ("MatMulInteger", "ConvInteger"):
            helpers.update(node.input[2:])
        elif node.op_type in _SHAPED_BY_INPUTS:
            helpers.update(node.input[1:])
    constants = [
        (node.output[0], attribute.t)
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value" and attribute.t.dims
    ]
    for name, tensor in [*((each.name, each) for each in model.graph.initializer), *constants]:
        if name not in helpers and tensor.data_type not in (
            TensorProto.INT64,
            TensorProto.BOOL,
            TensorProto.STRING,
        ):
            yield tensor


def _precision(model: onnx.ModelProto) -> str:
    operations = {node.op_type for node in model.graph.node}
    if operations & {
        "QuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
    }:
        return "int8"
    sizes: Counter[int] = Counter()
    for tensor in _weights(model):
        sizes[tensor.data_type] += math.prod(tensor.dims)
    names: dict[int, str] = {
        TensorProto.FLOAT: "fp32",
        TensorProto.FLOAT16: "fp16",
        TensorProto.BFLOAT16: "bf16",
        TensorProto.DOUBLE: "fp64",
    }
    most = sizes.most_common(1)
    return names.get(most[0][0], "mixed") if most else "fp32"


def _fixed(model: onnx.ModelProto, path: Path, shape: Shape | None) -> int:
    """Gives the input its sizes, in place; returns the batch, which is 1 where it is open."""
    value = _only_input(model, path)
    spec = spec_of_value_info(value)
    if not spec.shape:
        raise ModelFileError(f"The input '{spec.name}' of {path.name} has no dimensions.")
    batch = spec.shape[0] if isinstance(spec.shape[0], int) else 1
    sizes = resolve_shape(spec, path.name, batch=batch, shape=shape)
    for dimension, size in zip(value.type.tensor_type.shape.dim, sizes, strict=True):
        dimension.dim_value = size
    # What the file says of later shapes was said for an open batch; it is inferred anew.
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return batch


def _only_input(model: onnx.ModelProto, path: Path) -> onnx.ValueInfoProto:
    """The input that is no weight.

    Raises:
        ModelFileError: there is none, or more than one.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs: list[onnx.ValueInfoProto] = [
        each for each in model.graph.input if each.name not in weights
    ]
    one_input([each.name for each in inputs], path)
    return inputs[0]


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with large weights as graph inputs: inference needs their shapes alone."""
    kept = []
    known = {each.name for each in model.graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= 64 and tensor.data_location != TensorProto.EXTERNAL:
            kept.append(tensor)
        elif tensor.name not in known:
            model.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    copies = [TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    del model.graph.initializer[:]
    model.graph.initializer.extend(copies)
    return model


def _shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    """Value -> its sizes, where all of them are known."""
    shapes: dict[str, Shape] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(
            dimension.HasField("dim_value") for dimension in dimensions
        ):
            shapes[value.name] = tuple(dimension.dim_value for dimension in dimensions)
    for tensor in graph.initializer:
        shapes[tensor.name] = tuple(tensor.dims)
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    shapes[node.output[0]] = numpy_helper.to_array(attribute.t).shape
    return shapes


def _macs_of_node(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    """MACs of a convolution or a matrix product; None for other nodes and for open shapes."""
    if node.domain not in ("", "ai.onnx"):
        return None
    output = shapes.get(node.output[0]) if node.output else None
    if node.op_type in _CONVOLUTIONS:
        weight = shapes.get(node.input[_CONVOLUTIONS[node.op_type]])
        if output is None or weight is None:
            return None
        # weight is [outputs, inputs / groups, *kernel]: each output value takes one row of it.
        return math.prod(output) * math.prod(weight[1:])
    if node.op_type in _PRODUCTS:
        left = shapes.get(node.input[_PRODUCTS[node.op_type]])
        if output is None or left is None:
            return None
        transposed = any(each.name == "transA" and each.i for each in node.attribute)
        return math.prod(output) * (left[0] if transposed else left[-1])
    return None


def _dispatched(module: nn.Module, images: Any) -> tuple[int, Counter[str], list[str]]:
    """MACs, other operations and warnings of one forward pass."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    macs = 0
    others: Counter[str] = Counter()
    warnings: list[str] = []

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(
            self,
            func: Any,
            types: Any,
            args: Sequence[Any] = (),
            kwargs: Mapping[str, Any] | None = None,
        ) -> Any:
            nonlocal macs
            result = func(*args, **(kwargs or {}))
            name = func.overloadpacket.__name__
            found = _macs_of_call(name, args, result)
            if found is not None:
                macs += found
            elif name in _TORCH_HIDDEN:
                others[name] += 1
                warnings.append(f"{name} is not in the MACs: it is not known.")
            elif name not in _TORCH_FREE:
                others[name] += 1
            return result

    mode = Counting()  # type: ignore[no-untyped-call]
    with torch.no_grad(), mode:
        try:
            module(images)
        except RuntimeError as error:
            line = (str(error).splitlines() or ["unknown"])[0]
            shape = ",".join(str(size) for size in images.shape[1:])
            raise UsageError(f"The network cannot be run on images of {shape}: {line}") from error
    return macs, others, warnings


def _macs_of_call(name: str, args: Sequence[Any], result: Any) -> int | None:
    """MACs of one torch operation, by the shapes it was called with; None where it has none."""
    if name == "convolution":
        images, weight, transposed = args[0], args[1], bool(args[6])
        # Transposed: every input value meets one row of the weight [inputs, outputs / groups, ...].
        return int((images if transposed else result).numel() * math.prod(weight.shape[1:]))
    if name in ("mm", "bmm"):
        return int(result.numel() * args[0].shape[-1])
    if name in ("addmm", "baddbmm", "addbmm"):
        batch = args[1].shape[0] if name == "addbmm" else 1
        return int(result.numel() * args[1].shape[-1] * batch)
    if name in ("mv", "addmv"):
        return int(result.numel() * args[name == "addmv"].shape[-1])
    if name == "dot":
        return int(args[0].numel())
    return None
