"""ONNX graphs: such as never end, nest, claim sizes, or are merely unusual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.case import Bench, Kind
from tests.fuzz.kinds.onnx_files import (
    AUTO,
    BF16,
    CHECK,
    COMMANDS,
    COPY,
    EVALUATE,
    FP16,
    INT8,
    PROFILE,
    UPDATE,
    add,
    words,
)
from tests.fuzz.stock import CLASSES, SIZE, classifier

KIND = Kind("onnx graph")
CONVERSIONS = (FP16, BF16, INT8)
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
#: Nodes that are put between the classifier's, by name: what they do to the maps.
OPERATORS: tuple[tuple[str, dict[str, Any]], ...] = (
    *(
        (name, {})
        for name in ("Sqrt", "Log", "Neg", "LpNormalization", "Identity", "NonZero", "Det")
    ),
    *((name, {}) for name in ("RandomNormalLike", "Bernoulli", "Hardmax", "Unknown", "IsNaN")),
    *((name, {}) for name in ("Shape", "Size", "Dropout", "BatchNormalization", "Loop", "If")),
    ("Softmax", {"axis": 9}),
    ("Transpose", {"perm": [3, 2, 1, 0]}),
    ("Flatten", {"axis": 0}),
    ("MaxPool", {"kernel_shape": [99, 99]}),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [0, 0]}),
    ("AveragePool", {"kernel_shape": [1, 1], "pads": [10**6] * 4}),
    ("Cast", {"to": 10}),
    ("Cast", {"to": 8}),
    ("DepthToSpace", {"blocksize": 0}),
    ("Einsum", {"equation": "nchw->wh"}),
    ("LRN", {"size": 10**6}),
)


@KIND.damaged
def damage(bench: Bench) -> Sequence[str]:
    """A node more somewhere, of any operator; inputs and outputs of any type and shape."""
    rng = bench.rng
    model = classifier()
    graph = model.graph
    for _ in range(rng.choice((1, 1, 2))):
        way = rng.random()
        if way < 0.5:
            at = rng.randrange(len(graph.node))
            operator, attributes = rng.choice(OPERATORS)
            _insert(graph, at, operator, attributes)
        elif way < 0.7:
            value = rng.choice([*graph.input, *graph.output])
            tensor = value.type.tensor_type
            tensor.elem_type = rng.choice((1, 1, 2, 3, 7, 8, 9, 10, 11, 16, 17))
            dims = [
                rng.choice((-1, 0, 1, 3, SIZE, CLASSES, 10**12, "n", ""))
                for _ in range(rng.randrange(6))
            ]
            value.CopyFrom(helper.make_tensor_value_info(value.name, tensor.elem_type, dims))
        elif way < 0.8:
            tensor = rng.choice(graph.initializer)
            graph.input.add().CopyFrom(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
        elif way < 0.9:
            name = rng.choice([*[node.output[0] for node in graph.node], "kernel", "images"])
            graph.output.insert(
                rng.randrange(2), helper.make_tensor_value_info(name, rng.choice((1, 7)), None)
            )
        else:
            model.opset_import[0].version = rng.choice((-1, 0, 1, 5, 7, 9, 11, 13, 18, 24, 999))
            model.ir_version = rng.choice((0, 3, 4, 8, 10, 11, 10**6))
    bench.write("own.onnx", model.SerializeToString())
    return words(bench, rng.choice(COMMANDS))


def _insert(graph: onnx.GraphProto, at: int, operator: str, attributes: dict[str, Any]) -> None:
    """Puts a node behind the one at a place."""
    node = graph.node[at]
    behind = node.output[0]
    node.output[0] = f"{behind}-{at}"
    graph.node.insert(at + 1, helper.make_node(operator, [node.output[0]], [behind], **attributes))


def _constant(value: Any, name: str, kind: Any = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype=kind), name)


def _loop(model: onnx.ModelProto, *, trips: int | None = None, grow: bool = False) -> None:
    """A loop over the logits that never ends, or only after so many rounds."""
    graph = model.graph
    graph.node[-1].output[0] = "begin"
    inside = [helper.make_node("Identity", ["go"], ["goes"])]
    if grow:
        inside.append(helper.make_node("Concat", ["x", "x"], ["y"], axis=0))
    else:
        inside.append(helper.make_node("Add", ["x", "one"], ["y"]))
    body = helper.make_graph(
        inside,
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("go", BOOL, []),
            helper.make_tensor_value_info("x", FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes", BOOL, []),
            helper.make_tensor_value_info("y", FLOAT, None),
        ],
    )
    graph.initializer.append(_constant(True, "yes", np.bool_))
    graph.initializer.append(_constant(1.0, "one", np.float32))
    graph.initializer.append(_constant(trips or 1, "trips"))
    counted = "trips" if trips else ""
    graph.node.append(helper.make_node("Loop", [counted, "yes", "begin"], ["logits"], body=body))


def _if(depth: int) -> Callable[[onnx.ModelProto], None]:
    """The logits through an If in an If in ..., both branches the same."""

    def branch(level: int) -> onnx.GraphProto:
        output = [helper.make_tensor_value_info(f"o{level}", FLOAT, None)]
        if level == depth:
            return helper.make_graph(
                [helper.make_node("Identity", ["begin"], [f"o{level}"])], "x", [], output
            )
        inner = branch(level + 1)
        short = helper.make_graph(
            [helper.make_node("Identity", ["begin"], [f"s{level}"])],
            "s",
            [],
            [helper.make_tensor_value_info(f"s{level}", FLOAT, None)],
        )
        node = helper.make_node("If", ["yes"], [f"o{level}"], then_branch=inner, else_branch=short)
        return helper.make_graph([node], "y", [], output)

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        graph.node[-1].output[0] = "begin"
        graph.initializer.append(_constant(True, "yes", np.bool_))
        top = branch(0)
        node = top.node[0]
        node.output[0] = "logits"
        graph.node.append(node)

    return change


def _deeper(depth: int) -> Callable[[onnx.ModelProto], bytes]:
    """As ``_if``, deeper than protobuf itself writes."""

    def part(field: int, content: bytes) -> bytes:
        size, length = len(content), bytearray()
        while size > 127:
            length.append(size & 127 | 128)
            size >>= 7
        return bytes((field << 3 | 2, *length, size)) + content

    def change(model: onnx.ModelProto) -> bytes:
        graph = model.graph
        graph.node[-1].output[0] = "begin"
        graph.initializer.append(_constant(True, "yes", np.bool_))
        output = [helper.make_tensor_value_info("o", FLOAT, None)]
        same = helper.make_node("Identity", ["begin"], ["o"])
        content = helper.make_graph([same], "x", [], output).SerializeToString()
        short = helper.make_attribute("else_branch", helper.make_graph([same], "x", [], output))
        long = onnx.AttributeProto(name="then_branch", type=onnx.AttributeProto.GRAPH)
        about = helper.make_graph([], "x", [], output).SerializeToString()
        for level in range(depth):
            last = level == depth - 1
            node = helper.make_node("If", ["yes"], ["logits" if last else "o"])
            if level < 30:
                node.attribute.append(short)
            inner = part(5, long.SerializeToString() + part(6, content))
            content = part(1, node.SerializeToString() + inner) + (b"" if last else about)
        # Fields of a message that comes twice are put together.
        whole: bytes = model.SerializeToString()
        return whole + part(7, content)

    return change


def _tail(
    operator: str, sizes: Sequence[int], *, fill: bool = False
) -> Callable[[onnx.ModelProto], None]:
    """The logits, and beside them something large that is computed for them."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        graph.node[-1].output[0] = "begin"
        graph.initializer.append(_constant(sizes, "sizes"))
        graph.initializer.append(_constant(0.0, "nought", np.float32))
        inputs = ["sizes"] if fill else ["nought", "sizes"]
        graph.node.append(helper.make_node(operator, inputs, ["large"]))
        graph.node.append(helper.make_node("ReduceMax", ["large"], ["most"], keepdims=0))
        graph.node.append(helper.make_node("Add", ["begin", "most"], ["logits"]))

    return change


add(KIND, "a loop without end", _loop, EVALUATE, INT8, PROFILE, UPDATE)
add(KIND, "a loop of 10^15 rounds", lambda m: _loop(m, trips=10**15))
add(KIND, "a loop that doubles", lambda m: _loop(m, trips=60, grow=True))
add(
    KIND,
    "a loop of 3 rounds",
    lambda m: _loop(m, trips=3),
    EVALUATE,
    *CONVERSIONS,
    AUTO,
    refused=False,
)
add(KIND, "an If", _if(1), EVALUATE, *CONVERSIONS, AUTO, refused=False)
add(KIND, "Ifs 20 deep", _if(20), EVALUATE, FP16, INT8, COPY, refused=False)
add(KIND, "Ifs 30 deep", _if(30), EVALUATE, FP16, INT8, refused=False)
add(KIND, "Ifs 200 deep", _deeper(200), EVALUATE, FP16, PROFILE)
add(KIND, "Ifs 5,000 deep", _deeper(5000), EVALUATE, FP16, PROFILE)
add(KIND, "40 GB of one number", _tail("Expand", (10**5, 10**5)), EVALUATE, PROFILE)
add(KIND, "40 GB of zeros", _tail("ConstantOfShape", (10**5, 10**5), fill=True), EVALUATE, INT8)
add(KIND, "10^18 zeros", _tail("ConstantOfShape", (10**9, 10**9), fill=True))
add(KIND, "-1 zeros", _tail("ConstantOfShape", (-1,), fill=True))


def _dims(*dims: int | str) -> Callable[[onnx.ModelProto], object]:
    return lambda model: model.graph.input[0].CopyFrom(
        helper.make_tensor_value_info("images", FLOAT, list(dims))
    )


add(KIND, "an input of 10^12 pixels", _dims("n", 1, 10**6, 10**6), EVALUATE, PROFILE)
add(KIND, "an input of 10^12 channels", _dims("n", 10**12, 8, 8), EVALUATE, PROFILE)
add(KIND, "an input of -1 pixels", _dims(-1, -1, -1, -1), EVALUATE, PROFILE, refused=False)
add(KIND, "an input of no pixels", _dims("n", 1, 0, 0), EVALUATE, PROFILE)
add(KIND, "a batch of 10^12", _dims(10**12, 1, 8, 8), EVALUATE, PROFILE)
add(KIND, "a batch of 7", _dims(7, 1, 8, 8), EVALUATE, INT8, refused=False)
add(KIND, "an input without dimensions", _dims(), EVALUATE, PROFILE, refused=False)
add(KIND, "an input of two dimensions", _dims("n", 64), EVALUATE, PROFILE)
add(KIND, "an input of ten dimensions", _dims(*[1] * 10), EVALUATE, PROFILE)


def _typed(kind: int, *, cast: bool = True) -> Callable[[onnx.ModelProto], None]:
    """An input of another type, cast inside or not."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        graph.input[0].type.tensor_type.elem_type = kind
        if cast:
            graph.node[0].input[0] = "cast"
            graph.node.insert(0, helper.make_node("Cast", ["images"], ["cast"], to=FLOAT))

    return change


for _name, _type in (
    ("fp16", 10),
    ("uint8", 2),
    ("double", 11),
    ("bool", 9),
    ("string", 8),
    ("bf16", 16),
):
    add(KIND, f"an input of {_name}", _typed(_type), EVALUATE, PROFILE, INT8, refused=False)
    add(KIND, f"an input of {_name} that nothing casts", _typed(_type, cast=False))


def _sequence(model: onnx.ModelProto) -> None:
    inner = helper.make_tensor_type_proto(FLOAT, None)
    model.graph.input[0].CopyFrom(
        helper.make_value_info("images", helper.make_sequence_type_proto(inner))
    )


add(KIND, "an input that is a sequence", _sequence, EVALUATE, PROFILE)


def _weights_as_inputs(model: onnx.ModelProto, *, first: bool) -> None:
    values = [
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
    ]
    if first:
        image = model.graph.input[0]
        values.append(helper.make_tensor_value_info(image.name, FLOAT, ["n", 1, SIZE, SIZE]))
        del model.graph.input[:]
    model.graph.input.extend(values)


for _first in (True, False):
    add(
        KIND,
        f"weights among the inputs, {'first' if _first else 'last'}",
        lambda m, first=_first: _weights_as_inputs(m, first=first),  # type: ignore[misc]
        EVALUATE,
        *CONVERSIONS,
        AUTO,
        refused=False,
    )


def _constants(model: onnx.ModelProto) -> None:
    for tensor in reversed(model.graph.initializer):
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]


def _value_float(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = "begin"
    model.graph.node.append(helper.make_node("Constant", [], ["one"], value_float=1.0))
    model.graph.node.append(helper.make_node("Mul", ["begin", "one"], ["logits"]))


def _weight_as_output(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    model.graph.output.append(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
    )


def _function(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type, model.graph.node[1].domain = "Mine", "local"
    opsets = [helper.make_opsetid("", 17)]
    node = helper.make_node("Relu", ["a"], ["b"])
    model.functions.append(helper.make_function("local", "Mine", ["a"], ["b"], [node], opsets))
    model.opset_import.append(helper.make_opsetid("local", 1))


def _recursive(model: onnx.ModelProto) -> None:
    _function(model)
    node = model.functions[0].node[0]
    node.op_type, node.domain = "Mine", "local"
    model.functions[0].opset_import.append(helper.make_opsetid("local", 1))


def _dropout(model: onnx.ModelProto) -> None:
    graph = model.graph
    graph.node[-1].output[0] = "begin"
    graph.initializer.append(_constant(0.5, "ratio", np.float32))
    graph.initializer.append(_constant(True, "training", np.bool_))
    graph.node.append(helper.make_node("Dropout", ["begin", "ratio", "training"], ["logits"]))


def _reshape(model: onnx.ModelProto) -> None:
    graph = model.graph
    graph.initializer.append(_constant((1, 6), "shape"))
    graph.node[3].CopyFrom(helper.make_node("Reshape", ["pooled", "shape"], ["flat"]))


def _squeeze(model: onnx.ModelProto) -> None:
    model.graph.node[3].CopyFrom(helper.make_node("Squeeze", ["pooled"], ["flat"]))


add(KIND, "weights that are constants", _constants, EVALUATE, *CONVERSIONS, AUTO, refused=False)
add(KIND, "a constant of value_float", _value_float, EVALUATE, *CONVERSIONS, AUTO, refused=False)
add(
    KIND,
    "a weight that is an output",
    _weight_as_output,
    EVALUATE,
    *CONVERSIONS,
    AUTO,
    refused=False,
)
add(KIND, "a local function", _function, EVALUATE, *CONVERSIONS, AUTO, refused=False)
add(KIND, "a function that calls itself", _recursive, EVALUATE, FP16, INT8)
add(KIND, "dropout in training", _dropout, UPDATE)
add(KIND, "dropout in training, seen", _dropout, EVALUATE, FP16, INT8, CHECK, refused=False)
add(KIND, "a Reshape of one image", _reshape, EVALUATE, INT8, FP16, AUTO, refused=False)
add(KIND, "a Squeeze of all", _squeeze, EVALUATE, PROFILE, FP16, refused=False)


def _nodes(count: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[-1].output[0] = "x0"
        model.graph.node.extend(
            helper.make_node("Neg", [f"x{n}"], [f"x{n + 1}"]) for n in range(count)
        )
        model.graph.node.append(helper.make_node("Identity", [f"x{count}"], ["logits"]))

    return change


def _many_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer.extend(_constant([n], f"w{n}") for n in range(20_000))


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "flat"


def _set(change: Callable[[onnx.ModelProto], object]) -> Callable[[onnx.ModelProto], None]:
    def apply(model: onnx.ModelProto) -> None:
        change(model)

    return apply


add(KIND, "20,000 nodes", _nodes(20_000), EVALUATE, refused=False)
add(KIND, "20,000 weights", _many_weights, EVALUATE, FP16, refused=False)
add(KIND, "a cycle", _cycle, EVALUATE, PROFILE, INT8)
add(KIND, "no nodes", _set(lambda m: m.graph.ClearField("node")), EVALUATE, PROFILE, FP16)
add(KIND, "no graph", _set(lambda m: m.ClearField("graph")), EVALUATE, PROFILE, FP16)
add(
    KIND,
    "no opset",
    _set(lambda m: m.ClearField("opset_import")),
    EVALUATE,
    FP16,
    INT8,
    refused=False,
)
add(
    KIND,
    "opset 999",
    _set(lambda m: setattr(m.opset_import[0], "version", 999)),
    EVALUATE,
    FP16,
    INT8,
    PROFILE,
)
add(
    KIND,
    "opset 7",
    _set(lambda m: setattr(m.opset_import[0], "version", 7)),
    EVALUATE,
    *CONVERSIONS,
    refused=False,
)
add(
    KIND,
    "another domain's node",
    _set(lambda m: setattr(m.graph.node[1], "domain", "com.example")),
    EVALUATE,
    FP16,
    INT8,
    PROFILE,
)
add(
    KIND,
    "a weight that claims 10^12",
    _set(lambda m: m.graph.initializer[0].dims.__setitem__(0, 10**12)),
    EVALUATE,
    FP16,
    INT8,
    PROFILE,
)
add(
    KIND,
    "a weight that claims -1",
    _set(lambda m: m.graph.initializer[0].dims.__setitem__(0, -1)),
    EVALUATE,
    FP16,
    INT8,
    PROFILE,
)
add(
    KIND,
    "a weight whose product is nothing",
    _set(lambda m: m.graph.initializer[0].dims.extend([2**62, 0])),
    EVALUATE,
    FP16,
    INT8,
    PROFILE,
)
add(
    KIND,
    "a weight without bytes",
    _set(lambda m: m.graph.initializer[0].ClearField("raw_data")),
    EVALUATE,
    FP16,
    INT8,
    PROFILE,
)
add(
    KIND,
    "a weight without a type",
    _set(lambda m: m.graph.initializer[0].ClearField("data_type")),
    EVALUATE,
    FP16,
    INT8,
    PROFILE,
)
add(
    KIND,
    "weights that are infinite",
    _set(
        lambda m: m.graph.initializer[2].CopyFrom(
            _constant(np.full((CLASSES, 6), np.inf), "matrix", np.float32)
        )
    ),
    EVALUATE,
    FP16,
    INT8,
)
add(
    KIND,
    "weights of 10^30",
    _set(
        lambda m: m.graph.initializer[2].CopyFrom(
            _constant(np.full((CLASSES, 6), 1e30), "matrix", np.float32)
        )
    ),
    *CONVERSIONS,
    refused=False,
)
add(
    KIND,
    "names of 1 MB",
    _set(lambda m: setattr(m.graph.node[0], "name", "x" * 10**6)),
    EVALUATE,
    PROFILE,
    INT8,
    refused=False,
)
add(
    KIND,
    "the same name twice",
    _set(lambda m: m.graph.node.append(m.graph.node[1])),
    EVALUATE,
    FP16,
    INT8,
)
add(
    KIND,
    "a kernel of 10^6 pads",
    _set(
        lambda m: m.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("pads", [10**6] * 4))
    ),
    EVALUATE,
    PROFILE,
)
