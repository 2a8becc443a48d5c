"""An int8 file as a torch module whose float weights can be trained: fake quantisation.

The module is made of the file's own QDQ graph, so that values are rounded where the file rounds
them, batch normalisation is folded where the file has it folded, and nothing of ONNX Runtime's
quantiser is repeated here. Activations keep the ranges that they were calibrated to. A weight's
scale is that of its largest value in each output channel, as the quantiser takes it, and follows
the weights (Wu et al., "Integer Quantization for Deep Learning Inference", arXiv 2004.09602,
sections 3.1, 4 and 5). What is rounded lets gradients through where it is inside the range: the
straight-through estimator (Bengio et al., arXiv 1308.3432).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from compress.errors import ExportError
from compress.models.network import FEATURES, LOGITS
from compress.onnx_file import image_input, outputs_of, stated_output
from compress.onnx_io import answers_of
from compress.spec import ModelSpec

# Of weights: symmetric, so -128 is left out.
LARGEST = 127
SMALLEST_SCALE = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class _Node:
    """An operation of the graph.

    Attributes:
        operation: its ONNX name.
        inputs, output: names of values.
        attributes: as the file has them.
        done_with: values that nothing reads after it.
    """

    operation: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]
    done_with: tuple[str, ...] = ()


class FakeQuantized(nn.Module):
    """A network that computes in float32 what an int8 file computes, up to the last bits.

    It is trained like a network of ``compress.models``: ``features`` gives what the file's mean
    over the map reads, ``classify`` what follows.

    Args:
        floats: the float graph that was quantised, its batch normalisations folded.
        quantised: the QDQ graph that was made of it.
        spec: of the network.

    Raises:
        ExportError: the graph has operations that no network here is exported with.
    """

    def __init__(self, floats: onnx.ModelProto, quantised: onnx.ModelProto, spec: ModelSpec):
        super().__init__()
        self.spec = spec
        self.taps = (FEATURES,)
        graph = quantised.graph
        unknown = {node.op_type for node in graph.node} - OPERATIONS.keys() - {QUANTIZE, DEQUANTIZE}
        if unknown:
            raise ExportError(
                f"{spec.name} cannot be fine-tuned in int8: its file has {', '.join(unknown)}."
            )
        answers, _ = answers_of(outputs_of(quantised), spec.name, stated_output(quantised))
        self._input, self._output = image_input(quantised).name, answers.name
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._constants = {
            name: value for name, value in constants.items() if value.dtype != np.float32
        } | {name: value for name, value in constants.items() if value.ndim == 0}
        nodes = list(_nodes(graph))
        means = [node.inputs[0] for node in nodes if node.operation == "ReduceMean"]
        if not means:
            raise ExportError(
                f"{spec.name} cannot be fine-tuned in int8: its file has no mean over a map "
                "(ReduceMean)."
            )
        self._map = means[0]
        tail = {self._map}
        for node in nodes:
            if tail.intersection(node.inputs):
                tail.add(node.output)
        tail.discard(self._map)
        # Of a weight the value that the file computes with -> the float weight's name.
        weights = {
            node.output: node.inputs[0].removesuffix("_quantized")
            for node in nodes
            if node.operation == DEQUANTIZE and node.inputs[0] in constants
        }
        nodes = [node for node in nodes if node.output not in weights]
        self._body = _with_last_uses((n for n in nodes if n.output not in tail), self._map)
        self._tail = _with_last_uses((n for n in nodes if n.output in tail), self._output)
        exact = {tensor.name: tensor for tensor in floats.graph.initializer}
        self._places: dict[str, tuple[bool, int]] = {}  # in the graph -> in the lists
        self._rounded = set(weights)
        self._names: dict[str, str] = {}
        self.body = nn.ParameterList()
        self.classifier = nn.ParameterList()
        for part, parameters in ((self._body, self.body), (self._tail, self.classifier)):
            for name in dict.fromkeys(name for node in part for name in node.inputs):
                source = weights.get(name, name)
                if source not in exact or name in self._constants:
                    continue
                value = torch.from_numpy(numpy_helper.to_array(exact[source]).copy())
                self._places[name] = (parameters is self.classifier, len(parameters))
                self._names[name] = source
                parameters.append(nn.Parameter(value))

    def features(self, x: Tensor) -> Tensor:
        """The last convolutional feature map, rounded as the file rounds it."""
        return self._run(self._body, {self._input: x}, self._map)

    def classify(self, features: Tensor) -> Tensor:
        """Logits [b, classes] of that map."""
        return self._run(self._tail, {self._map: features}, self._output)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [b, classes] of images [b, c, h, w]."""
        return self.classify(self.features(x))

    def outputs(self, images: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
        """See ``Network``; an int8 file has no other map than "features"."""
        found = {FEATURES: self.features(images)}
        if LOGITS in wanted:
            found[LOGITS] = self.classify(found[FEATURES])
        return {name: found[name] for name in wanted}

    def into(self, floats: onnx.ModelProto) -> onnx.ModelProto:
        """The float graph with this module's weights."""
        changed = onnx.ModelProto()
        changed.CopyFrom(floats)
        tensors = {tensor.name: tensor for tensor in changed.graph.initializer}
        for name, source in self._names.items():
            value = self._parameter(name).detach().cpu().contiguous().numpy()
            tensors[source].CopyFrom(numpy_helper.from_array(value, source))
        return changed

    def _parameter(self, name: str) -> Tensor:
        in_tail, place = self._places[name]
        found: Tensor = (self.classifier if in_tail else self.body)[place]
        return found

    def _weight(self, name: str) -> Tensor:
        """A weight as the file has it: rounded, where it is."""
        weight = self._parameter(name)
        if name not in self._rounded:
            return weight
        largest = weight.detach().abs().flatten(1).amax(1)
        scale = (largest / LARGEST).clamp(min=SMALLEST_SCALE)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -LARGEST, LARGEST)

    def _run(self, nodes: list[_Node], values: dict[str, Tensor], wanted: str) -> Tensor:
        for node in nodes:
            if node.operation == QUANTIZE:
                made = self._rounded_value(values[node.inputs[0]], *node.inputs[1:])
            elif node.operation == DEQUANTIZE:
                made = values[node.inputs[0]]
            else:
                given: list[Any] = []
                for name in node.inputs:
                    if name in values:
                        given.append(values[name])
                    elif name in self._places:
                        given.append(self._weight(name))
                    else:
                        given.append(self._constants[name].tolist() if name else None)
                made = OPERATIONS[node.operation](*given, **node.attributes)
            values[node.output] = made
            for name in node.done_with:
                values.pop(name, None)
        return values[wanted]

    def _rounded_value(self, x: Tensor, scale: str, zero_point: str) -> Tensor:
        zero = self._constants[zero_point]
        limits = np.iinfo(zero.dtype)
        return torch.fake_quantize_per_tensor_affine(
            x, float(self._constants[scale]), int(zero), int(limits.min), int(limits.max)
        )


def _nodes(graph: onnx.GraphProto) -> Iterable[_Node]:
    for node in graph.node:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        yield _Node(node.op_type, tuple(node.input), node.output[0], attributes)


def _with_last_uses(nodes: Iterable[_Node], kept: str) -> list[_Node]:
    """The same nodes, each with what can be forgotten after it; ``kept`` is not."""
    left: list[_Node] = []
    seen = {kept}
    for node in reversed(list(nodes)):
        last = tuple(name for name in dict.fromkeys(node.inputs) if name not in seen)
        seen.update(node.inputs)
        left.append(_Node(node.operation, node.inputs, node.output, node.attributes, last))
    return left[::-1]


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    pads: tuple[int, ...] = (0, 0, 0, 0),
    strides: tuple[int, ...] = (1, 1),
    dilations: tuple[int, ...] = (1, 1),
    group: int = 1,
    **_: Any,
) -> Tensor:
    x, padding = _padded(x, pads, 0.0)
    return functional.conv2d(x, weight, bias, tuple(strides), padding, tuple(dilations), group)


def _maximum(
    x: Tensor,
    *,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] = (0, 0, 0, 0),
    strides: tuple[int, ...] = (1, 1),
    ceil_mode: int = 0,
    **_: Any,
) -> Tensor:
    x, padding = _padded(x, pads, -torch.inf)
    return functional.max_pool2d(
        x, tuple(kernel_shape), tuple(strides), padding, ceil_mode=bool(ceil_mode)
    )


def _padded(x: Tensor, pads: tuple[int, ...], value: float) -> tuple[Tensor, tuple[int, int]]:
    """What is to be padded still, by as much at the end as at the beginning."""
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return x, (top, left)
    return functional.pad(x, (left, right, top, bottom), value=value), (0, 0)


def _product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    transB: int = 0,  # noqa: N803 - the attribute's name
    **_: Any,
) -> Tensor:
    return functional.linear(x, weight if transB else weight.t(), bias)


def _part(
    x: Tensor, starts: list[int], ends: list[int], axes: list[int], steps: list[int] | None = None
) -> Tensor:
    for place, (start, end, axis) in enumerate(zip(starts, ends, axes, strict=True)):
        step = 1 if steps is None else steps[place]
        ranges = [slice(None)] * x.ndim
        ranges[axis] = slice(start, end, step)
        x = x[tuple(ranges)]
    return x


def _pad(x: Tensor, pads: list[int], value: float | None = None, **_: Any) -> Tensor:
    # torch names the last dimension first.
    pairs = list(zip(pads[: x.ndim], pads[x.ndim :], strict=True))[::-1]
    return functional.pad(x, [size for pair in pairs for size in pair], value=value or 0.0)


def _mean(x: Tensor, axes: list[int], *, keepdims: int = 1, **_: Any) -> Tensor:
    return x.mean(dim=axes, keepdim=bool(keepdims))


def _joined(*parts: Tensor, axis: int) -> Tensor:
    return torch.cat(parts, dim=axis)


QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add,
    "Concat": _joined,
    "Conv": _convolution,
    "Gemm": _product,
    "MaxPool": _maximum,
    "Pad": _pad,
    "ReduceMean": _mean,
    "Relu": functional.relu,
    "Slice": _part,
}
