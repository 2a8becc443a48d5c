from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn
from torch.nn import functional

from compress.errors import UsageError
from compress.exporting import read_artifact
from compress.exporting.to_onnx import onnx_for_timing
from compress.models.registry import build, spec_of
from compress.onnx_file import fault_of, precision_of_file, size_of
from compress.profiling.costs import costs_of_module, costs_of_onnx
from tests.profiling import tiny

# Worked out by hand: the stem 3*3*3*16*32*32, stage by stage 3*3*c*c*h*w a convolution, 64*10.
KNOWN = {
    "resnet-20": (269_722, 40_551_040),
    "resnet-20-b": (272_474, 40_813_184),
}


@pytest.mark.parametrize("name", KNOWN)
def test_cifar_resnets_cost_what_hand_work_says(name: str) -> None:
    network = build(spec_of(name)).train()
    found = costs_of_module(network, (3, 32, 32))
    assert (found.params, found.macs) == KNOWN[name]
    assert found.warnings == ()
    assert found.not_counted["relu"] == 19
    assert network.training
    assert all(part.training for part in network.modules())


def test_the_onnx_file_has_the_same_macs_and_fewer_parameters(tmp_path: Path) -> None:
    spec = spec_of("resnet-8")
    network = build(spec).eval()
    trained = costs_of_module(network, (3, 32, 32))
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.bias)  # a bias of zeros is left out of the file
    path = tmp_path / "m.onnx"
    onnx_for_timing(network, path, spec=spec)
    found = costs_of_onnx(path)
    # 442,368 of the stem, 6 blocks' convolutions and 640 of the classifier.
    assert found.macs == trained.macs == 442_368 + 2 * 2_359_296 + 2 * (1_179_648 + 2_359_296) + 640
    # Three times 16, twice 32 and twice 64 channels: two vectors each become one; the classifier's
    # bias is zeros.
    assert found.params == trained.params - (3 * 16 + 2 * 32 + 2 * 64) - 10
    assert found.warnings == ()
    assert precision_of_file(path) == "fp32"
    assert size_of(path) == path.stat().st_size


def test_functional_calls_are_counted_too() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.ones(4, 1, 3, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            maps = functional.conv2d(x, self.kernel, padding=1, groups=2)  # [b, 4, 6, 6]
            rows = maps.flatten(2)
            return torch.einsum("bci,bdi->bcd", rows, rows).flatten(1)

    found = costs_of_module(Functional(), (2, 6, 6))
    assert found.params == 36
    assert found.macs == 4 * 36 * 9 + 4 * 4 * 36


def test_a_transposed_convolution_is_counted_by_its_input() -> None:
    found = costs_of_module(nn.ConvTranspose2d(2, 5, 3, stride=2), (2, 4, 4))
    assert found.macs == 2 * 4 * 4 * 5 * 9


def test_what_cannot_be_counted_is_said() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.scaled_dot_product_attention(x, x, x)

    found = costs_of_module(Attention(), (2, 8, 16))
    assert found.macs == 0 or not found.warnings  # decomposed into products on some devices
    if found.macs == 0:
        assert "attention" in found.warnings[0]


def test_an_image_of_another_shape_is_an_error() -> None:
    with pytest.raises(UsageError, match="images of 1,8,8"):
        costs_of_module(nn.Conv2d(3, 4, 3), (1, 8, 8))


def test_an_onnx_file_is_counted_for_one_image(tmp_path: Path) -> None:
    macs = 4 * 8 * 8 * 27 + 4 * 10
    params = 4 * 27 + 4 + 40
    for shape in (("batch", 3, 8, 8), (1, 3, 8, 8), (16, 3, 8, 8)):
        found = costs_of_onnx(tiny.convolution(tmp_path / "m.onnx", input_shape=shape))
        assert (found.macs, found.params) == (macs, params)
        assert found.not_counted == {"ReduceMean": 1, "Relu": 1}
        assert found.warnings == ()


def test_open_image_sizes_need_a_shape(tmp_path: Path) -> None:
    path = tiny.convolution(tmp_path / "m.onnx", input_shape=("n", 3, "h", "w"))
    with pytest.raises(UsageError, match="'h' is open"):
        costs_of_onnx(path)
    assert costs_of_onnx(path, shape=(3, 16, 8)).macs == 4 * 16 * 8 * 27 + 40


def test_groups_and_products_with_a_batch(tmp_path: Path) -> None:
    weights = {
        "kernel": np.ones((6, 2, 3, 3), dtype=np.float32),
        "matrix": np.ones((5, 7), dtype=np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["maps"], "c", group=2, strides=[2, 2]),
        helper.make_node("MatMul", ["maps", "matrix"], ["logits"], "m"),
    ]
    path = tiny.save(tmp_path / "m.onnx", nodes, weights, [("images", ("n", 4, 11, 11))])
    # [6, 5, 5] of kernels 2*3*3, then [6, 5, 5] x [5, 7].
    assert costs_of_onnx(path).macs == 6 * 25 * 18 + 6 * 5 * 7 * 5


def test_operations_that_hide_products_are_named(tmp_path: Path) -> None:
    kernel = {"kernel": np.ones((3, 2, 3, 3), dtype=np.float32)}
    node = helper.make_node("ConvTranspose", ["images", "kernel"], ["logits"], "up")
    path = tiny.save(tmp_path / "m.onnx", [node], kernel, [("images", ("n", 3, 4, 4))])
    found = costs_of_onnx(path)
    assert found.macs == 0
    assert found.not_counted == {"ConvTranspose": 1}
    assert "ConvTranspose 'up' is not counted in the MACs" in found.warnings[0]


def test_shapes_that_onnx_cannot_tell_are_a_warning(tmp_path: Path) -> None:
    matrices = {"left": np.ones((3, 4), np.float32), "right": np.ones((5, 6), np.float32)}
    nodes = [
        helper.make_node("MatMul", ["images", "left"], ["between"], "a"),
        helper.make_node("MatMul", ["between", "right"], ["logits"], "b"),
    ]
    path = tiny.save(tmp_path / "m.onnx", nodes, matrices, [("images", ("n", 3))])
    found = costs_of_onnx(path)
    assert "ONNX cannot infer all shapes in m.onnx" in found.warnings[0]
    assert found.macs == 12


def test_quantised_and_half_precision_files_are_told_apart(tmp_path: Path) -> None:
    half = {"matrix": np.ones((4, 2), dtype=np.float16)}
    nodes = [
        helper.make_node("Cast", ["images"], ["small"], to=onnx.TensorProto.FLOAT16),
        helper.make_node("MatMul", ["small", "matrix"], ["logits"], "m"),
    ]
    assert precision_of_file(
        tiny.save(tmp_path / "h.onnx", nodes, half, [("images", ("n", 4))])
    ) == ("fp16")
    quantised: dict[str, np.ndarray] = {
        "matrix": np.ones((4, 2), dtype=np.int8),
        "scale": np.array(0.1, dtype=np.float32),
        "zero": np.array(0, dtype=np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x"], "d"),
        helper.make_node("DequantizeLinear", ["matrix", "scale", "zero"], ["w"], "dw"),
        helper.make_node("MatMul", ["x", "w"], ["logits"], "m"),
    ]
    path = tiny.save(tmp_path / "q.onnx", nodes, quantised, [("images", ("n", 4))])
    assert precision_of_file(path) == "int8"
    found = costs_of_onnx(path)
    assert (found.macs, found.params) == (8, 8)


def test_external_data_belongs_to_the_size(tmp_path: Path) -> None:
    model = onnx.load(tiny.products(tmp_path / "whole.onnx", layers=1))
    path = tmp_path / "split.onnx"
    onnx.save(model, path, save_as_external_data=True, location="split.data", size_threshold=0)
    data = (tmp_path / "split.data").stat().st_size
    assert size_of(path) == path.stat().st_size + data
    assert costs_of_onnx(path).params == 96 * 96


def test_weights_in_constant_nodes_are_weights(tmp_path: Path) -> None:
    weights = np.ones((4, 2), dtype=np.float32)
    matrix = numpy_helper.from_array(weights)
    half = numpy_helper.from_array(np.array(0.5, np.float32))
    nodes = [
        helper.make_node("Constant", [], ["matrix"], value=matrix),
        helper.make_node("Constant", [], ["half"], value=half),
        helper.make_node("MatMul", ["images", "matrix"], ["y"], "m"),
        helper.make_node("Mul", ["y", "half"], ["logits"], "s"),
    ]
    path = tiny.save(tmp_path / "c.onnx", nodes, {}, [("images", ("n", 4))])
    assert costs_of_onnx(path).params == 8
    assert precision_of_file(path) == "fp32"
    model = onnx.load(path)
    split = tmp_path / "split.onnx"
    onnx.save_model(
        model,
        split,
        save_as_external_data=True,
        convert_attribute=True,
        location="split.data",
        size_threshold=0,
    )
    data = (tmp_path / "split.data").stat().st_size
    assert data >= weights.nbytes
    assert size_of(split) == split.stat().st_size + data
    assert read_artifact(split).size_bytes == size_of(split)
    (tmp_path / "split.data").unlink()
    assert "split.data" in fault_of(split)


def test_products_of_integers_are_int8_and_their_scales_no_weights(tmp_path: Path) -> None:
    constants: dict[str, np.ndarray] = {
        "matrix": np.ones((4, 2), dtype=np.int8),
        "zero": np.array(0, dtype=np.int8),
        "scale": np.array([0.1], dtype=np.float32),
    }
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["images"], ["q", "s", "z"], "q"),
        helper.make_node("MatMulInteger", ["q", "matrix", "z", "zero"], ["i"], "m"),
        helper.make_node("Cast", ["i"], ["f"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "scale"], ["both"]),
        helper.make_node("Mul", ["f", "both"], ["logits"]),
    ]
    path = tiny.save(tmp_path / "d.onnx", nodes, constants, [("images", ("n", 4))])
    assert precision_of_file(path) == "int8"
    assert costs_of_onnx(path).params == 8


def test_a_batch_of_none_is_an_open_one(tmp_path: Path) -> None:
    path = tiny.products(tmp_path / "zero.onnx", layers=1)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0
    onnx.save(model, path)
    assert costs_of_onnx(path).macs == 96 * 96
