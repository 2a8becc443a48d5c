from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.export.to_onnx import onnx_for_timing
from compress.models.registry import build, count_parameters
from compress.profiling.costs import costs_of_module
from compress.spec import ModelSpec
from compress.tradeoff.candidates import dominates, grid
from compress.tradeoff.costs import costs_of
from compress.tradeoff.measure import untrained

NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("wrn-10-1", {}),
    ("wrn-16-1.5", {"num_classes": 7, "input_shape": (1, 28, 28)}),
    ("wrn-22-2", {"stride_conv": 2, "conv_bias": True, "stem_channels": 32}),
    ("resnet-20", {}),
    ("resnet-32-b", {"input_shape": (3, 33, 20)}),
    ("resnet-8x4", {"conv_bias": True}),
]


@pytest.mark.parametrize(("name", "fields"), NETWORKS, ids=[name for name, _ in NETWORKS])
def test_costs_are_those_of_the_network(name: str, fields: dict[str, Any]) -> None:
    spec = ModelSpec.parse(name, **fields)
    network, costs = build(spec), costs_of(spec)
    assert costs.params == count_parameters(network)
    assert costs.macs == costs_of_module(network, spec.input_shape).macs


@pytest.mark.parametrize("name", ["wrn-10-2", "resnet-20"])
def test_the_size_of_the_file_is_known_before_it_is_written(name: str, tmp_path: Path) -> None:
    spec = ModelSpec.parse(name)
    size = onnx_for_timing(untrained(spec), tmp_path / "model.onnx", spec=spec)
    assert costs_of(spec).file_bytes == pytest.approx(size, rel=0.01)


def test_the_grid_is_what_was_asked_for() -> None:
    candidates = grid(num_classes=100, input_shape=(1, 28, 28))
    names = [candidate.name for candidate in candidates]
    assert len(names) == len(set(names)) == 65
    assert {"wrn-10-1", "wrn-40-10", "resnet-20", "resnet-110"} <= set(names)
    assert {(c.spec.num_classes, c.spec.input_shape) for c in candidates} == {(100, (1, 28, 28))}


@pytest.mark.parametrize(
    ("larger", "smaller", "expected"),
    [
        ("wrn-16-2", "wrn-10-2", True),
        ("wrn-10-3", "wrn-10-2", True),
        ("wrn-40-10", "wrn-10-1", True),
        ("wrn-10-2", "wrn-10-2", False),
        ("wrn-16-2", "wrn-10-3", False),
        ("wrn-10-2", "wrn-16-2", False),
        ("wrn-40-10", "resnet-20", False),
        ("resnet-32", "resnet-20", True),
    ],
)
def test_dominates(larger: str, smaller: str, expected: bool) -> None:
    assert dominates(ModelSpec.parse(larger), ModelSpec.parse(smaller)) is expected
