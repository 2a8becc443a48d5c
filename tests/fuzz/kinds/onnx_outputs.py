"""ONNX files whose outputs are not [n, classes] of floats."""

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
    COPY,
    EVALUATE,
    FP16,
    INT8,
    PROFILE,
    UPDATE,
    add,
    words,
)
from tests.fuzz.stock import CLASSES, classifier

KIND = Kind("onnx output")
ALL = (EVALUATE, UPDATE, FP16, INT8)
SHAPES = (
    (),
    (0,),
    (1,),
    (-1,),
    (-1, 1),
    (1, -1),
    (-1, CLASSES, 1),
    (-1, 1, CLASSES),
    (2, -1),
    (-1, 2),
)


def _tail(
    *nodes: tuple[str, dict[str, Any]], constants: dict[str, Any] | None = None, kind: int = 1
) -> Callable[[onnx.ModelProto], None]:
    """Nodes behind the logits, each with the constants as further inputs of the first."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        graph.node[-1].output[0] = "t0"
        for name, value in (constants or {}).items():
            graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        for place, (operator, attributes) in enumerate(nodes):
            more = list(constants or ()) if place == 0 else []
            last = place == len(nodes) - 1
            output = "logits" if last else f"t{place + 1}"
            graph.node.append(
                helper.make_node(operator, [f"t{place}", *more], [output], **attributes)
            )
        graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", kind, None))

    return change


@KIND.damaged
def damage(bench: Bench) -> Sequence[str]:
    """Another type and rank; sometimes a second output."""
    rng = bench.rng
    model = classifier()
    kind = rng.choice((1, 1, 1, 10, 11, 6, 7, 9, 8, 2, 16))
    shape = rng.choice(SHAPES)
    nodes: list[tuple[str, dict[str, Any]]] = [("Reshape", {}), ("Cast", {"to": kind})]
    _tail(*nodes, constants={"shape": np.array(shape, dtype=np.int64)}, kind=kind)(model)
    if rng.random() < 0.3:
        name = rng.choice(("t0", "flat", "images", "matrix"))
        model.graph.output.insert(rng.randrange(2), helper.make_tensor_value_info(name, 1, None))
    if rng.random() < 0.3:
        dims = [rng.choice(("n", 1, CLASSES, 10**12, -1)) for _ in range(rng.randrange(4))]
        model.graph.output[0].CopyFrom(
            helper.make_tensor_value_info(model.graph.output[0].name, rng.choice((1, kind)), dims)
        )
    bench.write("own.onnx", model.SerializeToString())
    return words(bench, rng.choice((*ALL, EVALUATE, EVALUATE, BF16, COPY, CHECK, PROFILE)))


def _label(model: onnx.ModelProto) -> None:
    _tail(("ArgMax", {"axis": 1, "keepdims": 0}), kind=TensorProto.INT64)(model)


def _label_and_probabilities(model: onnx.ModelProto) -> None:
    graph = model.graph
    graph.node.append(helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0))
    graph.output.insert(0, helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))


def _zip_map(model: onnx.ModelProto) -> None:
    _label_and_probabilities(model)
    graph = model.graph
    graph.node.append(
        helper.make_node(
            "ZipMap",
            ["logits"],
            ["zipped"],
            domain="ai.onnx.ml",
            classlabels_int64s=list(range(CLASSES)),
        )
    )
    table = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(1, []))
    del graph.output[1]
    graph.output.append(helper.make_value_info("zipped", helper.make_sequence_type_proto(table)))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))


def _two(model: onnx.ModelProto) -> None:
    graph = model.graph
    graph.node.append(helper.make_node("Neg", ["logits"], ["auxiliary"]))
    graph.output.insert(0, helper.make_tensor_value_info("auxiliary", 1, ["n", CLASSES]))


def _sequence(model: onnx.ModelProto) -> None:
    graph = model.graph
    graph.node[-1].output[0] = "t"
    graph.node.append(helper.make_node("SequenceConstruct", ["t"], ["logits"]))
    inner = helper.make_tensor_type_proto(1, None)
    graph.output[0].CopyFrom(
        helper.make_value_info("logits", helper.make_sequence_type_proto(inner))
    )


def _optional(model: onnx.ModelProto) -> None:
    graph = model.graph
    graph.node[-1].output[0] = "t"
    graph.node.append(helper.make_node("Optional", ["t"], ["logits"]))
    inner = helper.make_tensor_type_proto(1, None)
    graph.output[0].CopyFrom(
        helper.make_value_info("logits", helper.make_optional_type_proto(inner))
    )


def _shaped(*shape: int) -> Callable[[onnx.ModelProto], None]:
    return _tail(("Reshape", {}), constants={"shape": np.array(shape, dtype=np.int64)})


def _cast(kind: int) -> Callable[[onnx.ModelProto], None]:
    return _tail(("Cast", {"to": kind}), kind=kind)


for _name, _change, _refused in (
    ("a label", _label, True),
    ("a label and probabilities", _label_and_probabilities, False),
    ("a ZipMap", _zip_map, True),
    ("two of the same shape", _two, False),
    ("a sequence", _sequence, True),
    ("an optional", _optional, False),
    ("[n, classes, 1, 1]", _shaped(-1, CLASSES, 1, 1), False),
    ("[n, 1, classes]", _shaped(-1, 1, CLASSES), False),
    (
        "[n, classes, 2]",
        _tail(("Tile", {}), ("Reshape", {}), constants={"times": np.array([1, 2])}),
        True,
    ),
    ("bool", _cast(9), True),
    ("string", _cast(8), True),
    ("int64", _cast(7), False),
    ("double", _cast(11), False),
    ("half", _cast(10), False),
    ("bfloat16", _cast(16), False),
    ("complex", _cast(14), True),
    ("a scalar", _tail(("ReduceMax", {"keepdims": 0})), True),
    ("one row for all", _tail(("ReduceMean", {"axes": [0], "keepdims": 1})), True),
    ("one class", _tail(("ReduceMean", {"axes": [1], "keepdims": 1})), True),
    ("not a number", _tail(("Sqrt", {}), ("Neg", {}), ("Log", {})), False),
    ("[classes, n]", _tail(("Transpose", {})), True),
    ("no rows", _tail(("Compress", {"axis": 0}), constants={"none": np.array([False])}), True),
    ("probabilities", _tail(("Softmax", {"axis": 1})), False),
):
    if _name == "[n, classes, 2]":
        _change = _tail(("Unsqueeze", {}), constants={"axes": np.array([2])})

        def _twice(model: onnx.ModelProto) -> None:
            _tail(("Unsqueeze", {}), constants={"axes": np.array([2])})(model)
            model.graph.node[-1].output[0] = "u"
            model.graph.node.append(helper.make_node("Concat", ["u", "u"], ["logits"], axis=2))

        _change = _twice
    add(KIND, _name, _change, *ALL, refused=_refused)
add(KIND, "two of the same shape", _two, CHECK, AUTO, PROFILE, refused=False)
add(
    KIND, "a label and probabilities", _label_and_probabilities, AUTO, PROFILE, CHECK, refused=False
)
add(KIND, "a ZipMap", _zip_map, PROFILE, refused=False)
add(KIND, "no outputs", lambda m: m.graph.ClearField("output"), *ALL, PROFILE)
add(
    KIND,
    "an output that is not there",
    lambda m: setattr(m.graph.output[0], "name", "x"),
    *ALL,
    PROFILE,
)
add(
    KIND,
    "an output without a type",
    lambda m: m.graph.output[0].ClearField("type"),
    *ALL,
    refused=False,
)
add(
    KIND,
    "an output that says 10^12 classes",
    lambda m: m.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", 1, ["n", 10**12])),
    *ALL,
    refused=False,
)
