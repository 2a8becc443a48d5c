from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from compress.profiling.costs import costs_of_onnx
from compress.profiling.inputs import make_input
from compress.profiling.peak import product_for, side_of
from compress.profiling.registry import runtime_named
from tests.profiling import tiny


@pytest.mark.parametrize("threads", [1, 2, 3, 16, 64])
def test_the_work_of_a_thread_does_not_become_less_with_more_of_them(threads: int) -> None:
    side = side_of("onnxruntime", threads)
    assert side % 64 == 0
    assert side**2 / threads >= side_of("onnxruntime", 1) ** 2
    assert side**2 / threads < 1.4 * side_of("onnxruntime", 1) ** 2


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "torch"])
def test_it_is_the_product_of_two_square_matrices(runtime: str, tmp_path: Path) -> None:
    product = product_for(runtime, "fp32", 1, tmp_path)
    assert product is not None
    side = side_of(runtime, 1)
    engine = runtime_named(runtime)
    left = make_input(engine, product, batch=side)
    assert left.shape == (side, side)
    session = engine.load(product, threads=1, images=left)
    found = tiny.answer(session, left)
    session.close()
    right = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    expected = left @ (right.T if runtime == "torch" else right)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2)
    if product.path is not None:
        assert costs_of_onnx(product.path).macs * side == side**3


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_int8_is_computed_in_int8(runtime: str, tmp_path: Path) -> None:
    product = product_for(runtime, "int8", 1, tmp_path)
    assert product is not None
    engine = runtime_named(runtime)
    assert engine.precision(product) == "int8"
    left = make_input(engine, product, batch=side_of(runtime, 1))
    assert left.dtype == np.uint8
    session = engine.load(product, threads=1, images=left)
    found = tiny.answer(session, left)
    session.close()
    assert product.path is not None
    weights = {
        each.name: onnx.numpy_helper.to_array(each)
        for each in onnx.load(product.path).graph.initializer
    }
    exact = ((left.astype(np.float64) - 128) * 0.025) @ (weights["right"] * 0.05)
    expected = np.clip(np.round(exact / weights["product_scale"]) + 128, 0, 255)
    assert np.abs(found.astype(np.float64) - expected).max() <= 1
    assert 10 < found.std() < 60  # the scale leaves values of every size


def test_there_is_no_product_in_other_precisions(tmp_path: Path) -> None:
    assert product_for("onnxruntime", "bf16", 1, tmp_path) is None
    assert product_for("torch", "int8", 1, tmp_path) is None
