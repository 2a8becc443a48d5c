"""How fast this machine multiplies: a square matrix product, through the runtime that is measured.

No network is expected to be faster, so its share of this says how much there is left to gain. It
can still come out above 1: a runtime may compute a convolution with fewer multiplications than it
has by definition (Winograd's way), and a small network may stay in caches that a product leaves.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.profiling.registry import RUNTIMES
from compress.profiling.runtime import Subject

if TYPE_CHECKING:
    from torch import nn

# On one thread: three matrices of float32 fit into what a core has for itself, and a product
# takes some milliseconds. A GPU is not busy with less than the other.
CPU_SIDE, CUDA_SIDE = 512, 4096

OPSET, IR_VERSION = 20, 9


def side_of(runtime: str, threads: int) -> int:
    """Rows and columns of the matrices; the work of a thread is the same for any number of them."""
    if RUNTIMES[runtime].device == "cuda":
        return CUDA_SIDE
    return 64 * math.ceil(CPU_SIDE * math.sqrt(threads) / 64)


def product_for(runtime: str, precision: str, threads: int, folder: Path) -> Subject | None:
    """A model of one product, [side, side] x [side, side], to be called with a batch of ``side``.

    Args:
        runtime: that will run it.
        precision: that it is to compute in.
        threads: that will.
        folder: where its file may lie.

    Returns:
        None where there is no such product in that precision.
    """
    side = side_of(runtime, threads)
    name = f"product of {side}x{side} matrices"
    if RUNTIMES[runtime].takes == "torch":
        if precision != "fp32":
            return None
        return Subject(name, module=partial(_network, side), input_shape=(side,))
    path = folder / f"product-{side}-{precision}.onnx"
    if precision == "int8":
        onnx.save(_quantised(side), path)
    elif precision in ("fp32", "fp16"):
        onnx.save(_floating(side, "float32" if precision == "fp32" else "float16"), path)
    else:
        return None
    return Subject(name, path=path)


def _network(side: int) -> nn.Module:
    import torch

    network = torch.nn.Linear(side, side, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.from_numpy(_matrix(side)))
    return network


def _matrix(side: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)


def _floating(side: int, dtype: str) -> onnx.ModelProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = helper.make_node("MatMul", ["left", "right"], ["product"], "product")
    return _model([node], kind, side, {"right": _matrix(side).astype(dtype)})


def _quantised(side: int) -> onnx.ModelProto:
    """As an int8 network is stored: float nodes between Q and DQ, which runtimes make one of.

    The weights have 7 bits: with 8, processors without VNNI saturate, and it would be no product.
    """
    values = np.clip(np.round(_matrix(side) * 20), -63, 63).astype(np.int8)
    constants = {
        "right": values,
        "right_scale": np.float32(0.05),
        "right_zero": np.int8(0),
        "left_scale": np.float32(0.025),
        "left_zero": np.uint8(128),
        "product_scale": np.float32(side**0.5 / 10),
        "product_zero": np.uint8(128),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["left", "left_scale", "left_zero"], ["l"], "l"),
        helper.make_node("DequantizeLinear", ["right", "right_scale", "right_zero"], ["r"], "r"),
        helper.make_node("MatMul", ["l", "r"], ["p"], "product"),
        helper.make_node(
            "QuantizeLinear", ["p", "product_scale", "product_zero"], ["product"], "q"
        ),
    ]
    return _model(nodes, TensorProto.UINT8, side, constants)


def _model(
    nodes: list[onnx.NodeProto], kind: int, side: int, constants: dict[str, Any]
) -> onnx.ModelProto:
    left, product = (
        helper.make_tensor_value_info(name, kind, ["rows", side]) for name in ("left", "product")
    )
    weights = [
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    ]
    graph = helper.make_graph(nodes, "product", [left], [product], weights)
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
