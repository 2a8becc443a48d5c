from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.errors import NothingMeasured, UsageError
from compress.exporting.to_onnx import onnx_for_timing
from compress.models.registry import spec_of
from compress.profiling.costs import Operation, costs_of_onnx, operations_of_onnx
from compress.profiling.layers import (
    Event,
    match,
    profile_layers,
    read_onnxruntime_profile,
)
from compress.profiling.runtime import Subject
from compress.tradeoff.measure import untrained
from tests.profiling import tiny


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pre-activation, so that runtimes fuse and rename; as exported."""
    path = tmp_path_factory.mktemp("layers") / "wrn-10-1.onnx"
    spec = spec_of("wrn-10-1")
    onnx_for_timing(untrained(spec), path, spec=spec)
    return path


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_layers_macs_are_the_models_at_any_batch(
    runtime: str, network: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.json"
    found = profile_layers(
        Subject("m", path=network), runtime=runtime, batch=2, trace=trace, threads=1
    )
    assert found.unmatched == {}
    assert sum(layer.macs for layer in found.layers) == found.macs
    assert found.macs == 2 * costs_of_onnx(network).macs
    assert sum(layer.macs > 0 for layer in found.layers) == 10  # 9 convolutions, the classifier
    assert 0 < found.total_s < 2 * found.call_s
    assert found.slowdown.low <= found.slowdown.value <= found.slowdown.high
    events = [each for each in json.loads(trace.read_text())["traceEvents"] if each["ph"] == "X"]
    assert sum(each["name"] == "call" for each in events) == 10
    assert len(events) == 10 * (1 + len(found.layers))
    assert all(each["dur"] >= 0 for each in events)


def test_a_quantised_file_is_matched_too(tmp_path: Path) -> None:
    from compress.profiling.peak import product_for

    product = product_for("onnxruntime", "int8", 1, tmp_path)
    assert product is not None
    for runtime in ("onnxruntime", "openvino"):
        found = profile_layers(product, runtime=runtime, batch=4)
        assert found.unmatched == {}
        assert found.macs == 4 * 512 * 512


def test_it_is_told_who_tells(network: Path) -> None:
    with pytest.raises(UsageError, match=r"torch does not report.* Use onnxruntime or openvino"):
        profile_layers(Subject("m", path=network), runtime="torch")


def operation(name: str, kind: str, inputs: str, output: str, macs: int | None) -> Operation:
    return Operation(name, kind, tuple(inputs.split()), (output,), macs)


CHAIN = (
    operation("n1", "Conv", "images w1", "a", 100),
    operation("n2", "Relu", "a", "b", None),
    operation("n3", "Conv", "b w2", "c", 200),
    operation("n4", "Add", "c a", "d", None),
    operation("", "Relu", "d", "e", None),
    operation("n6", "Gemm", "e w3", "logits", 30),
)


def layer(name: str, kind: str) -> Event:
    return Event(name, kind, 0.0, 1e-5)


@pytest.mark.parametrize(
    ("names", "macs", "left"),
    [
        # By the name of the operation, of its output, or of what was fused behind it.
        (["n1 Conv", "n3_token_7 QLinearConv", "n6 Gemm"], [100, 200, 30], {}),
        (["b_nchwc Conv", "e_nchwc Conv", "logits FullyConnected"], [100, 200, 30], {}),
        (["fused n1 FusedConv", "d Conv", "n6/MatMulAddFusion/ Gemm"], [100, 200, 30], {}),
        # Once each, and never to what does not multiply.
        (["b_nchwc Conv", "a_nchwc Conv", "n2 Relu"], [100, 0, 0], {"n3": 200, "n6": 30}),
        # Batch normalisation that became a convolution of its own has none.
        (["a_bn_nchwc Conv"], [0], {"n1": 100, "n3": 200, "n6": 30}),
    ],
)
def test_macs_go_to_the_layer_that_does_them(
    names: list[str], macs: list[int], left: dict[str, int]
) -> None:
    events = [layer(*name.rsplit(" ", 1)) for name in names]
    assert match(events, {}, CHAIN) == (macs, left)


def test_a_layer_can_have_several_operations() -> None:
    events = [layer("fused", "Convolution brgconv")]
    assert match(events, {"fused": ("n1", "n2", "n3/WithoutBiases", "n4")}, CHAIN)[0] == [300]


def test_the_operations_of_a_file_have_the_macs_of_one_image(tmp_path: Path) -> None:
    for shape in (("batch", 3, 8, 8), (16, 3, 8, 8)):
        found = operations_of_onnx(tiny.convolution(tmp_path / "m.onnx", input_shape=shape))
        assert [each.macs for each in found] == [4 * 64 * 27, None, None, 40]
        assert found[1] == Operation("r", "Relu", ("maps",), ("active",), None)


def events_of(calls: list[list[str]]) -> list[dict[str, Any]]:
    """As ONNX Runtime writes them: kernels, then the run that they belong to."""
    written: list[dict[str, Any]] = [
        {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 900}
    ]
    now = 1000
    for kernels in calls:
        for name in kernels:
            now += 10
            written += [
                {"cat": "Node", "name": f"{name}_fence_before", "ts": now, "dur": 0, "args": {}},
                {
                    "cat": "Node",
                    "name": f"{name}_kernel_time",
                    "ts": now,
                    "dur": 7,
                    "args": {"op_name": "Conv"},
                },
            ]
        written.append({"cat": "Session", "name": "model_run", "ts": now - 20, "dur": 40})
    return written


def test_a_profile_of_onnxruntime_is_read_call_by_call() -> None:
    found = read_onnxruntime_profile(events_of([["x"], ["a", "b"], ["a", "b"]]), 2)
    assert [[event.name for event in call.layers] for call in found.calls] == [["a", "b"]] * 2
    assert found.calls[0].layers[0] == Event("a", "Conv", 1020e-6, 7e-6)
    np.testing.assert_allclose([call.time_s for call in found.calls], 40e-6)


@pytest.mark.parametrize("calls", [[["a"]], [["a", "b"], ["a"]]])
def test_calls_that_are_missing_or_differ_say_nothing_of_layers(calls: list[list[str]]) -> None:
    with pytest.raises(NothingMeasured):
        read_onnxruntime_profile(events_of(calls), 2)
