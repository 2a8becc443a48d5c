"""Models that do their work where a careless gate does not look."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

SIDE, PRODUCTS = 192, 6


def slow_on_images(source: Path, path: Path, above: float = -1.6) -> Path:
    """Works hard where the smallest input is above a number: on images, and never on noise.

    Args:
        source: an ONNX file with one input.
        path: of the new file.
        above: pixels that are normalised are above it, some of a thousand normal numbers are not.
    """
    model = onnx.load(source)
    image = model.graph.input[0].name
    nodes = [
        helper.make_node("ReduceMin", [image], ["fool_least"], keepdims=0),
        helper.make_node("Greater", ["fool_least", "fool_above"], ["fool_works"]),
    ]
    return _with_work(model, path, nodes, above=above)


def slow_at_random(source: Path, path: Path, share: float = 0.85) -> Path:
    """Works hard in a share of its calls, at random; its answers are always the same."""
    model = onnx.load(source)
    nodes = [
        helper.make_node(
            "RandomUniform", [], ["fool_drawn"], shape=[1], low=0.0, high=1.0, dtype=1
        ),
        helper.make_node("Squeeze", ["fool_drawn"], ["fool_one"]),
        helper.make_node("Less", ["fool_one", "fool_above"], ["fool_works"]),
    ]
    return _with_work(model, path, nodes, above=share)


def wrong_one_by_one(source: Path, path: Path) -> Path:
    """Answers as the source does in batches, and with the classes turned round one by one."""
    model = onnx.load(source)
    graph = model.graph
    output = graph.output[0]
    turned = list(range(output.type.tensor_type.shape.dim[1].dim_value))[::-1]
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(1, np.int64), "fool_single"),
            numpy_helper.from_array(np.array(turned, np.int64), "fool_turned"),
        ]
    )
    other = helper.make_node("Gather", [output.name, "fool_turned"], ["fool_other"], axis=1)
    same = helper.make_node("Identity", [output.name], ["fool_same"])
    graph.node.extend(
        [
            helper.make_node("Shape", [graph.input[0].name], ["fool_shape"], start=0, end=1),
            helper.make_node("Squeeze", ["fool_shape"], ["fool_batch"]),
            helper.make_node("Equal", ["fool_batch", "fool_single"], ["fool_alone"]),
            helper.make_node(
                "If",
                ["fool_alone"],
                ["fool_answers"],
                then_branch=_branch([other], "fool_other"),
                else_branch=_branch([same], "fool_same"),
            ),
        ]
    )
    output.name = "fool_answers"
    onnx.save(model, path)
    return path


def with_classes(source: Path, path: Path, names: list[str]) -> Path:
    """The same file with other names of its classes."""
    model = onnx.load(source)
    props = {one.key: one.value for one in model.metadata_props}
    helper.set_model_props(model, props | {"compress.classes": json.dumps(names)})
    onnx.save(model, path)
    return path


def _with_work(
    model: onnx.ModelProto, path: Path, condition: list[NodeProto], above: float
) -> Path:
    """A copy that multiplies matrices where ``fool_works`` is true."""
    graph = model.graph
    rng = np.random.default_rng(0)
    matrix = (rng.standard_normal((SIDE, SIDE)) / SIDE**0.5).astype(np.float32)
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(above, np.float32), "fool_above"),
            numpy_helper.from_array(matrix, "fool_matrix"),
            numpy_helper.from_array(np.array(1e-30, np.float32), "fool_small"),
            numpy_helper.from_array(np.array(0, np.float32), "fool_nothing"),
        ]
    )
    output = graph.output[0]
    # It begins with something that is not known beforehand, so that nothing can be folded.
    work = [
        helper.make_node("ReduceMean", [output.name], ["fool_mean"], keepdims=0),
        helper.make_node("Add", ["fool_matrix", "fool_mean"], ["fool_0"]),
    ]
    for place in range(PRODUCTS):
        names = [f"fool_{place}", "fool_matrix"]
        work.append(helper.make_node("MatMul", names, [f"fool_{place + 1}"]))
    work += [
        helper.make_node("ReduceMean", [f"fool_{PRODUCTS}"], ["fool_sum"], keepdims=0),
        helper.make_node("Mul", ["fool_sum", "fool_small"], ["fool_done"]),
    ]
    idle = [helper.make_node("Identity", ["fool_nothing"], ["fool_idle"])]
    graph.node.extend(
        [
            *condition,
            helper.make_node(
                "If",
                ["fool_works"],
                ["fool_added"],
                then_branch=_branch(work, "fool_done"),
                else_branch=_branch(idle, "fool_idle"),
            ),
            helper.make_node("Add", [output.name, "fool_added"], ["fool_answers"]),
        ]
    )
    output.name = "fool_answers"
    onnx.save(model, path)
    return path


def _branch(nodes: list[NodeProto], output: str) -> GraphProto:
    value = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_graph(nodes, output, [], [value])
