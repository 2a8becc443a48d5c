"""Small classifiers whose graphs are built in unusual ways, each float32 and of one image input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE, CLASSES = (3, 12, 12), 5
FLOAT = TensorProto.FLOAT
WIDE = 48

Shape = tuple[int, int, int]


def weights(shape: Shape = SHAPE, classes: int = CLASSES) -> list[onnx.TensorProto]:
    """Of a convolution, a wide one, and the product that gives the logits."""
    rng = np.random.default_rng(5)
    made = {
        "first.weight": rng.standard_normal((16, shape[0], 3, 3)) / 4,
        "first.bias": rng.standard_normal(16) / 4,
        "wide.weight": rng.standard_normal((WIDE, 16, 3, 3)) / 12,
        "wide.bias": rng.standard_normal(WIDE) / 4,
        "last.weight": rng.standard_normal((classes, WIDE)),
        "last.bias": rng.standard_normal(classes),
    }
    return [numpy_helper.from_array(value.astype(np.float32), name) for name, value in made.items()]


def first() -> onnx.NodeProto:
    inputs = ["images", "first.weight", "first.bias"]
    return helper.make_node("Conv", inputs, ["first"], "first", pads=[1] * 4)


def wide(given: str = "active") -> list[onnx.NodeProto]:
    inputs = [given, "wide.weight", "wide.bias"]
    return [
        helper.make_node("Conv", inputs, ["wide"], "wide", pads=[1] * 4),
        helper.make_node("Relu", ["wide"], ["maps"], "relu2"),
    ]


def end(maps: str = "maps") -> list[onnx.NodeProto]:
    return [
        helper.make_node("GlobalAveragePool", [maps], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
        helper.make_node(
            "Gemm", ["flat", "last.weight", "last.bias"], ["logits"], "last", transB=1
        ),
    ]


def relu() -> onnx.NodeProto:
    return helper.make_node("Relu", ["first"], ["active"], "relu1")


def model(
    nodes: Sequence[onnx.NodeProto],
    *,
    shape: Shape = SHAPE,
    classes: int = CLASSES,
    more: Sequence[onnx.TensorProto] = (),
    without: Sequence[str] = (),
    opset: int = 17,
    ir_version: int = 8,
    batch: int | str = "batch",
) -> onnx.ModelProto:
    """A classifier of images [batch, channels, height, width]."""
    tensors = [each for each in weights(shape, classes) if each.name not in without]
    graph = helper.make_graph(
        list(nodes),
        "classifier",
        [helper.make_tensor_value_info("images", FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info("logits", FLOAT, [batch, classes])],
        [*tensors, *more],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def usual(shape: Shape = SHAPE, classes: int = CLASSES) -> onnx.ModelProto:
    """None of it: what the others are compared with."""
    return model([first(), relu(), *wide(), *end()], shape=shape, classes=classes)


def weights_among_inputs(
    made: onnx.ModelProto, *, before: bool = False, ir_version: int = 3
) -> onnx.ModelProto:
    """As ``keep_initializers_as_inputs=True`` and every file of ONNX before 1.5 has them."""
    graph = made.graph
    listed = [
        helper.make_tensor_value_info(each.name, each.data_type, list(each.dims))
        for each in graph.initializer
    ]
    images = list(graph.input)
    del graph.input[:]
    graph.input.extend([*listed, *images] if before else [*images, *listed])
    made.ir_version = ir_version
    return made


def kept_as_inputs(shape: Shape = SHAPE, classes: int = CLASSES) -> onnx.ModelProto:
    return weights_among_inputs(usual(shape, classes), ir_version=6)


def weights_first(shape: Shape = SHAPE, classes: int = CLASSES) -> onnx.ModelProto:
    return weights_among_inputs(usual(shape, classes), before=True, ir_version=6)


def of_opset(opset: int) -> Callable[..., onnx.ModelProto]:
    def old(shape: Shape = SHAPE, classes: int = CLASSES) -> onnx.ModelProto:
        """With a batch normalisation and a dropout, as such files have them."""
        norm = {"gamma": 1.5, "beta": 0.1, "running_mean": 0.2, "running_var": 0.8}
        more = [
            numpy_helper.from_array(np.full(16, value, np.float32), name)
            for name, value in norm.items()
        ]
        nodes = [
            first(),
            helper.make_node("BatchNormalization", ["first", *norm], ["norm"], "norm"),
            helper.make_node("Relu", ["norm"], ["active"], "relu1"),
            *wide(),
            helper.make_node("Dropout", ["maps"], ["kept"], "dropout", ratio=0.5),
            *end("kept"),
        ]
        made = model(nodes, shape=shape, classes=classes, more=more, opset=opset)
        return weights_among_inputs(made)

    return old


def bright(given: str, threshold: float) -> list[onnx.NodeProto]:
    """Whether an activation, which is 0.5 on average, is above a threshold."""
    return [
        helper.make_node("Constant", [], ["threshold"], value_float=threshold),
        helper.make_node("ReduceMean", [given], ["level"], keepdims=0),
        helper.make_node("Greater", ["level", "threshold"], ["bright"]),
    ]


def branches(
    shape: Shape = SHAPE, classes: int = CLASSES, threshold: float = 0.2
) -> onnx.ModelProto:
    """An If that the images decide, whose branches hold constants of the same name."""
    kernel = np.random.default_rng(6).standard_normal((16, 16, 3, 3)).astype(np.float32) / 12

    def branch(name: str, sign: float) -> onnx.GraphProto:
        weight = numpy_helper.from_array(sign * kernel)
        nodes = [
            helper.make_node("Constant", [], ["kernel"], value=weight),
            helper.make_node("Conv", ["active", "kernel"], ["inner"], f"{name}.conv", pads=[1] * 4),
            helper.make_node("Constant", [], ["scale"], value_float=sign),
            helper.make_node("Mul", ["inner", "scale"], [f"{name}.result"], f"{name}.mul"),
        ]
        given = [helper.make_tensor_value_info(f"{name}.result", FLOAT, None)]
        return helper.make_graph(nodes, name, [], given)

    choice = helper.make_node(
        "If",
        ["bright"],
        ["chosen"],
        "choice",
        then_branch=branch("then", 1.0),
        else_branch=branch("else", 0.5),
    )
    nodes = [first(), relu(), *bright("active", threshold), choice, *wide("chosen"), *end()]
    return model(nodes, shape=shape, classes=classes)


def constant_branches(shape: Shape = SHAPE, classes: int = CLASSES) -> onnx.ModelProto:
    """An If each of whose branches is one constant alone."""

    def branch(value: float) -> onnx.GraphProto:
        nodes = [helper.make_node("Constant", [], [f"{value}"], value_float=value)]
        given = [helper.make_tensor_value_info(f"{value}", FLOAT, [])]
        return helper.make_graph(nodes, f"branch {value}", [], given)

    choice = helper.make_node(
        "If", ["bright"], ["factor"], "choice", then_branch=branch(0.5), else_branch=branch(2.0)
    )
    scaled = helper.make_node("Mul", ["active", "factor"], ["scaled"], "scaled")
    nodes = [first(), relu(), *bright("active", 0.2), choice, scaled, *wide("scaled"), *end()]
    return model(nodes, shape=shape, classes=classes)


def loop(shape: Shape = SHAPE, classes: int = CLASSES) -> onnx.ModelProto:
    """A Loop that applies the same convolution three times."""
    kernel = np.random.default_rng(7).standard_normal((16, 16, 3, 3)).astype(np.float32) / 20
    inside = [
        helper.make_node("Conv", ["carried", "kernel"], ["convolved"], "step", pads=[1] * 4),
        helper.make_node("Add", ["carried", "convolved"], ["next"], "residual"),
        helper.make_node("Identity", ["going"], ["still"], "still"),
    ]
    body = helper.make_graph(
        inside,
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, None),
        ],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    nodes = [
        first(),
        relu(),
        helper.make_node("Constant", [], ["times"], value_int=3),
        helper.make_node("Loop", ["times", "", "active"], ["looped"], "loop", body=body),
        *wide("looped"),
        *end(),
    ]
    return model(nodes, shape=shape, classes=classes)


def scan(shape: Shape = SHAPE, classes: int = CLASSES) -> onnx.ModelProto:
    """A Scan along the height that adds the rows up."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["total", "row"], ["sum"], "add"),
            helper.make_node("Identity", ["sum"], ["seen"], "seen"),
        ],
        "body",
        [
            helper.make_tensor_value_info("total", FLOAT, None),
            helper.make_tensor_value_info("row", FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("sum", FLOAT, None),
            helper.make_tensor_value_info("seen", FLOAT, None),
        ],
    )
    nodes = [
        first(),
        relu(),
        helper.make_node("Constant", [], ["axis"], value_ints=[2]),
        helper.make_node("ReduceSum", ["active", "axis"], ["rows"], "rows", keepdims=0),
        helper.make_node("Constant", [], ["none"], value_float=0.0),
        helper.make_node("Mul", ["rows", "none"], ["zeros"], "zeros"),
        helper.make_node(
            "Scan",
            ["zeros", "active"],
            ["totals", "cumulated"],
            "scan",
            body=body,
            num_scan_inputs=1,
            scan_input_axes=[2],
            scan_output_axes=[2],
        ),
        *wide("cumulated"),
        *end(),
    ]
    return model(nodes, shape=shape, classes=classes)


def local_function(shape: Shape = SHAPE, classes: int = CLASSES) -> onnx.ModelProto:
    """Blocks that are calls of the file's own functions, one inside the other."""
    opsets = [helper.make_opsetid("", 17)]
    leaky = helper.make_function(
        "own",
        "Leaky",
        ["x"],
        ["y"],
        [
            helper.make_node("Constant", [], ["slope"], value_float=0.1),
            helper.make_node("Mul", ["x", "slope"], ["small"], "small"),
            helper.make_node("Max", ["x", "small"], ["y"], "max"),
        ],
        opsets,
    )
    block = helper.make_function(
        "own",
        "Block",
        ["x", "w", "b"],
        ["y"],
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1] * 4),
            helper.make_node("Leaky", ["c"], ["y"], "leaky", domain="own"),
        ],
        [*opsets, helper.make_opsetid("own", 1)],
    )
    nodes = [
        helper.make_node(
            "Block", ["images", "first.weight", "first.bias"], ["active"], "b1", domain="own"
        ),
        helper.make_node(
            "Block", ["active", "wide.weight", "wide.bias"], ["maps"], "b2", domain="own"
        ),
        *end(),
    ]
    made = model(nodes, shape=shape, classes=classes)
    made.functions.extend([leaky, block])
    made.opset_import.append(helper.make_opsetid("own", 1))
    return made


def constants(shape: Shape = SHAPE, classes: int = CLASSES) -> onnx.ModelProto:
    """All weights are Constant nodes, of every form that there is."""
    tensors = {each.name: numpy_helper.to_array(each) for each in weights(shape, classes)}
    kernel, bias = tensors["first.weight"].ravel(), tensors["first.bias"]
    nodes = [
        helper.make_node("Constant", [], ["first.flat"], value_floats=kernel),
        helper.make_node("Constant", [], ["first.shape"], value_ints=[16, shape[0], 3, 3]),
        helper.make_node("Reshape", ["first.flat", "first.shape"], ["first.weight"], "shaped"),
        helper.make_node("Constant", [], ["first.bias"], value_floats=bias),
        first(),
        helper.make_node("Constant", [], ["factor"], value_float=1.25),
        helper.make_node("Mul", ["first", "factor"], ["scaled"], "scaled"),
        helper.make_node("Relu", ["scaled"], ["active"], "relu1"),
    ]
    for name in ("wide.weight", "wide.bias", "last.weight"):
        value = numpy_helper.from_array(tensors[name])
        nodes.append(helper.make_node("Constant", [], [name], value=value))
    bias = tensors["last.bias"]
    places = np.array([1, 3], np.int64)
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(bias[places], "values"),
        numpy_helper.from_array(places, "places"),
        [classes],
    )
    nodes.append(helper.make_node("Constant", [], ["last.bias"], sparse_value=sparse))
    nodes += [*wide(), *end()]
    made = model(nodes, shape=shape, classes=classes, without=list(tensors))
    return made


def initializer_output(shape: Shape = SHAPE, classes: int = CLASSES) -> onnx.ModelProto:
    """A weight is given out beside the logits."""
    made = usual(shape, classes)
    made.graph.output.append(helper.make_tensor_value_info("last.weight", FLOAT, [classes, WIDE]))
    return made


def sparse_initializer(shape: Shape = SHAPE, classes: int = CLASSES) -> onnx.ModelProto:
    """A bias of which a few values are not zero."""
    made = usual(shape, classes)
    (bias,) = (each for each in made.graph.initializer if each.name == "wide.bias")
    values = numpy_helper.to_array(bias)[:5]
    made.graph.initializer.remove(bias)
    made.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            numpy_helper.from_array(values, "wide.bias"),
            numpy_helper.from_array(np.arange(5), "places"),
            [WIDE],
        )
    )
    return made


def long_domain(shape: Shape = SHAPE, classes: int = CLASSES) -> onnx.ModelProto:
    """ONNX's own operators by the other name of their domain."""
    made = constants(shape, classes)
    for entry in (*made.opset_import, *made.graph.node):
        entry.domain = "ai.onnx"
    return made


def two_inputs() -> onnx.ModelProto:
    made = usual()
    made.graph.node[-1].output[0] = "less"
    made.graph.node.append(helper.make_node("Add", ["less", "mask"], ["logits"], "masked"))
    made.graph.input.append(helper.make_tensor_value_info("mask", FLOAT, ["batch", CLASSES]))
    return made


def branches_with_max() -> onnx.ModelProto:
    """What ``onnxruntime.transformers.float16`` cannot convert: it leaves Max in float."""
    made = branches()
    (choice,) = (node for node in made.graph.node if node.op_type == "If")
    for attribute in choice.attribute:
        nodes = attribute.g.node
        result = nodes[-1].output[0]
        nodes[-1].output[0] = f"{result}.below"
        nodes.append(helper.make_node("Max", [f"{result}.below", "threshold"], [result], "max"))
    return made


def fixed_reshape(
    shape: Shape = SHAPE, classes: int = CLASSES, batch: int | str = "batch"
) -> onnx.ModelProto:
    """A Reshape to one image in a file that says it takes any number of them."""
    to = numpy_helper.from_array(np.array([1, WIDE], np.int64), "to")
    nodes = [
        first(),
        relu(),
        *wide(),
        helper.make_node("GlobalAveragePool", ["maps"], ["mean"], "mean"),
        helper.make_node("Reshape", ["mean", "to"], ["flat"], "flatten"),
        end()[-1],
    ]
    return model(nodes, shape=shape, classes=classes, more=[to], batch=batch)


# All that can be converted.
KINDS: dict[str, Callable[..., onnx.ModelProto]] = {
    "usual": usual,
    "kept as inputs": kept_as_inputs,
    "weights first": weights_first,
    "opset 7": of_opset(7),
    "opset 8": of_opset(8),
    "If": branches,
    "If, the other way": partial(branches, threshold=2.0),
    "If of constants": constant_branches,
    "Loop": loop,
    "Scan": scan,
    "function": local_function,
    "Constant nodes": constants,
    "initializer as output": initializer_output,
    "sparse initializer": sparse_initializer,
    "long domain": long_domain,
}


def saved(kind: str, folder: Path, shape: Shape = SHAPE, classes: int = CLASSES) -> Path:
    path = folder / f"{kind.replace(' ', '-').replace(',', '')}.onnx"
    onnx.save(KINDS[kind](shape, classes), path)
    return path


def images(count: int, shape: Shape = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, *shape), dtype=np.float32)
