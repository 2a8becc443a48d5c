from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.errors import ExportError, ModelFileError
from compress.exporting.conversion import normalised
from compress.exporting.graphs import (
    called,
    control_flow,
    listed,
    normalise,
    pass_by_identity,
    products,
    sort_nodes,
)
from compress.exporting.parity import predictor_of
from compress.onnx_file import graphs_within, nodes_of, without_weight_inputs
from compress.tasks.classification import LOGITS
from tests.exporting import graphs


def normal(model: onnx.ModelProto) -> onnx.ModelProto:
    without_weight_inputs(model)
    normalise(model)
    return model


@pytest.mark.parametrize("kind", graphs.KINDS)
def test_every_constant_is_an_initializer_of_the_outermost_graph(kind: str, tmp_path: Path) -> None:
    source, path = graphs.saved(kind, tmp_path), tmp_path / "normal.onnx"
    model = normal(onnx.load(source))
    onnx.checker.check_model(model, full_check=True)
    assert not model.functions
    assert "Constant" not in {node.op_type for node in nodes_of(model.graph)}
    names = [tensor.name for tensor in model.graph.initializer]
    assert len(names) == len(set(names))
    assert [entry.name for entry in model.graph.input] == ["images"]
    assert not {output.name for output in model.graph.output} & set(names)
    onnx.save(model, path)
    images = graphs.images(6)
    np.testing.assert_allclose(
        predictor_of(path)(images)[LOGITS],
        predictor_of(source)(images)[LOGITS],
        rtol=1e-5,
        atol=1e-5,
    )
    if kind != "Scan":
        wanted = {"first", "wide", "last"} if kind != "function" else {"last"}
        assert {node.name for node, _ in products(model)} >= wanted
    again = onnx.ModelProto()
    again.CopyFrom(model)
    normalise(again)
    assert again == model


def test_constants_of_two_branches_keep_apart() -> None:
    model = normal(graphs.branches())
    found = {node.name: weights for node, weights in products(model)}
    (there,), (here,) = found["then.conv"], found["else.conv"]
    assert there.name != here.name
    np.testing.assert_array_equal(2 * numpy_helper.to_array(here), numpy_helper.to_array(there))
    assert control_flow(model) == ["If 'choice'"]


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ({"value_float": 0.5}, np.array(0.5, np.float32)),
        ({"value_floats": [0.5, 1.5]}, np.array([0.5, 1.5], np.float32)),
        ({"value_int": 3}, np.array(3, np.int64)),
        ({"value_ints": [3, 4]}, np.array([3, 4], np.int64)),
        ({"value_string": "a"}, np.array("a", object)),
        ({"value_strings": ["a", "b"]}, np.array(["a", "b"], object)),
        ({"value": numpy_helper.from_array(np.eye(2))}, np.eye(2)),
        (
            {
                "sparse_value": helper.make_sparse_tensor(
                    numpy_helper.from_array(np.array([7.0, 8.0]), "v"),
                    numpy_helper.from_array(np.array([[0, 1], [1, 0]]), "i"),
                    [2, 2],
                )
            },
            np.array([[0.0, 7.0], [8.0, 0.0]]),
        ),
    ],
)
def test_a_constant_of_any_form_is_the_tensor_that_it_says(
    attribute: dict[str, Any], expected: np.ndarray
) -> None:
    model = graphs.usual()
    model.graph.node.append(helper.make_node("Constant", [], ["it"], **attribute))
    normalise(model)
    found = numpy_helper.to_array(model.graph.initializer[-1])
    assert (model.graph.initializer[-1].name, found.shape) == ("it", expected.shape)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def doubling(depth: int) -> onnx.ModelProto:
    """Functions each of which calls the one before it twice."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model = graphs.usual()
    for level in range(depth):
        inner = helper.make_node("Relu", ["x"], ["y"])
        nodes = [inner]
        if level:
            nodes = [
                helper.make_node(f"F{level - 1}", ["x"], ["m"], domain="own"),
                helper.make_node(f"F{level - 1}", ["m"], ["y"], domain="own"),
            ]
        model.functions.append(
            helper.make_function("own", f"F{level}", ["x"], ["y"], nodes, opsets)
        )
    model.opset_import.append(opsets[1])
    model.graph.node.append(helper.make_node(f"F{depth - 1}", ["logits"], ["more"], domain="own"))
    return model


def test_functions_without_end_are_refused_before_they_are_written_out(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(doubling(4), path)
    normalised(path)
    onnx.save(doubling(40), path)
    with pytest.raises(ModelFileError, match="more than 8 deep"):
        normalised(path)
    model = doubling(4)
    model.functions[0].node.append(helper.make_node("F3", ["x"], ["z"], domain="own"))
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match=r"The function F\d in .* calls itself"):
        normalised(path)


def test_a_sparse_tensor_of_any_size_is_refused_before_it_is_made() -> None:
    model = graphs.sparse_initializer()
    model.graph.sparse_initializer[0].dims[:] = [10**6, 10**6]
    with pytest.raises(ExportError, match=r"'wide\.bias' has 1000000x1000000 values"):
        normalise(model)


def test_what_is_made_of_weights_has_them() -> None:
    """A weight that is transposed, and one that is reshaped first."""
    model = graphs.constants()
    normalise(model)
    found = {node.name: [tensor.name for tensor in weights] for node, weights in products(model)}
    assert "first.flat" in found["first"]
    assert found["wide"] == ["wide.weight"]
    kinds = {tensor.data_type for _, weights in products(model) for tensor in weights}
    assert TensorProto.FLOAT in kinds


def test_nodes_come_after_what_they_and_the_graphs_within_them_need() -> None:
    model = normal(graphs.branches())
    usual = [node.name for node in model.graph.node]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    sort_nodes(model)
    assert [node.name for node in model.graph.node] == usual
    del model.graph.node[:]
    # The If needs what is within its branches alone, besides its condition.
    model.graph.node.extend(nodes[::-1])
    sort_nodes(model)
    onnx.checker.check_model(model, full_check=True)
    names = [node.name for node in model.graph.node]
    assert names.index("relu1") < names.index("choice") < names.index("wide")
    model.graph.node[0].input[0] = "logits"
    with pytest.raises(ValueError, match=r"^\w+ '\w+' depends on its own result$"):
        sort_nodes(model)


def test_graphs_within_read_what_is_outside_through_an_identity() -> None:
    model = normal(graphs.branches())
    pass_by_identity(model)
    onnx.checker.check_model(model, full_check=True)
    (identity,) = (node for node in model.graph.node if node.op_type == "Identity")
    assert list(identity.input) == ["active"]
    (choice,) = (node for node in model.graph.node if node.op_type == "If")
    for branch in graphs_within(choice):
        read = {name for node in branch.node for name in node.input}
        assert identity.output[0] in read
        assert "active" not in read


def test_names_in_messages() -> None:
    assert called(helper.make_node("Loop", ["a"], ["b"], "turns")) == "Loop 'turns'"
    assert called(helper.make_node("Loop", ["a"], ["b"])) == "Loop 'b'"
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdefgh")) == "a, b, c, d, e and 3 more"
