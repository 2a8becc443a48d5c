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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto, shape_inference

from compress.errors import ModelFileError, UsageError, first_line
from compress.onnx_file import described, image_input, read_model, weights_of
from compress.profiling.inputs import resolve_shape
from compress.profiling.runtime import InputSpec
from compress.results import Costs

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Operations that move, shape or look at data and compute nothing worth naming.
_FREE = _names(
    """
    Cast Concat Constant ConstantOfShape Expand Flatten Gather Identity Pad Reshape Shape Slice
    Split Squeeze Tile Transpose Unsqueeze Dropout
    """
)
# Operations that multiply matrices inside, and that are not counted here.
_HIDDEN = _names(
    """
    ConvTranspose DeformConv Einsum LSTM GRU RNN Attention MultiHeadAttention If Loop Scan
    FusedConv FusedMatMul GemmFloat8 QLinearAttention
    """
)
# The same for torch's operations.
_TORCH_FREE = _names(
    """
    view reshape slice select permute transpose t expand detach alias clone empty zeros
    constant_pad_nd cat squeeze unsqueeze _to_copy copy_ as_strided split unfold zeros_like
    _unsafe_view lift_fresh new_zeros fill_ contiguous
    """
)
_TORCH_HIDDEN = _names(
    """
    lstm gru rnn_tanh rnn_relu _scaled_dot_product_flash_attention_for_cpu
    _scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention _trilinear
    _cdist_forward convolution_overrideable mkldnn_rnn_layer
    """
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
    model = read_model(path)
    params = sum(math.prod(tensor.dims) for tensor in weights_of(model))
    graph, batch, warnings = _with_shapes(model, path, shape)
    shapes = _shapes(graph)
    macs = 0
    others: Counter[str] = Counter()
    for node in graph.node:
        found = _macs_of_node(node, shapes)
        if found is not None:
            macs += found
        elif node.op_type in _CONVOLUTIONS or node.op_type in _PRODUCTS:
            warnings.append(
                f"{node.op_type} '{node.name}' is not counted in the MACs, because its "
                "shape is open."
            )
        elif node.op_type in _HIDDEN or node.domain not in ("", "ai.onnx"):
            others[node.op_type] += 1
            warnings.append(
                f"{node.op_type} '{node.name}' is not counted in the MACs, because it is unknown."
            )
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
    graph, batch, _ = _with_shapes(read_model(path), path, shape)
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
) -> tuple[onnx.GraphProto, int, list[str]]:
    """The graph with the shapes of its values, the batch that they are for, and warnings."""
    batch = _fixed(model, path, shape)
    model = _without_weights(model)
    try:
        strict = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        return strict.graph, batch, []
    except (shape_inference.InferenceError, RuntimeError, ValueError) as error:
        warning = (
            f"ONNX cannot infer all shapes in {path.name} ({first_line(error).rstrip('.')}), so "
            "the MACs after that point are not counted."
        )
    # ONNX Runtime may run what ONNX cannot infer. Where it cannot either, running it says so.
    try:
        return shape_inference.infer_shapes(model).graph, batch, [warning]
    except (shape_inference.InferenceError, RuntimeError, ValueError):
        return model.graph, batch, [warning]


def _fixed(model: onnx.ModelProto, path: Path, shape: Shape | None) -> int:
    """Gives the input its sizes, in place; returns the batch, which is 1 where it is open."""
    value = image_input(model)
    found = described(value)
    if not found.shape:
        raise ModelFileError(f"The input '{found.name}' of {path.name} has no dimensions.")
    spec = InputSpec(found.name, found.shape, found.dtype)
    batch = spec.shape[0] if isinstance(spec.shape[0], int) else 1
    sizes = resolve_shape(spec, path.name, batch=batch, shape=shape)
    for dimension, size in zip(value.type.tensor_type.shape.dim, sizes, strict=True):
        dimension.dim_value = size
    # What the file says of later shapes was said for an open batch; it is inferred anew.
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return batch


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
    for value in map(described, (*graph.input, *graph.value_info, *graph.output)):
        sizes = [size for size in value.shape or () if isinstance(size, int)]
        if value.shape is not None and len(sizes) == len(value.shape):
            shapes[value.name] = tuple(sizes)
    for tensor in graph.initializer:
        shapes[tensor.name] = tuple(tensor.dims)
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    shapes[node.output[0]] = tuple(attribute.t.dims)
    return shapes


def _macs_of_node(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    """MACs of a convolution or a matrix product; None for other nodes and for open shapes."""
    if node.domain not in ("", "ai.onnx"):
        return None
    place = {**_CONVOLUTIONS, **_PRODUCTS}.get(node.op_type)
    if place is None or not node.output or len(node.input) <= place:
        return None
    output = shapes.get(node.output[0])
    if node.op_type in _CONVOLUTIONS:
        weight = shapes.get(node.input[place])
        if output is None or weight is None:
            return None
        # weight is [outputs, inputs / groups, *kernel]: each output value takes one row of it.
        return math.prod(output) * math.prod(weight[1:])
    left = shapes.get(node.input[place])
    if not output or not left:
        return None
    transposed = any(each.name == "transA" and each.i for each in node.attribute)
    return math.prod(output) * (left[0] if transposed else left[-1])


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
                warnings.append(f"{name} is not counted in the MACs, because it is unknown.")
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
