from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.exporting.to_onnx import onnx_for_timing
from compress.models.registry import build, count_parameters, spec_of
from compress.profiling.costs import costs_of_module
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
    ("wrn-10-1", {"first_shortcut": True}),
    ("preresnet-20", {}),
    ("preresnet-11x1.5", {"num_classes": 7, "input_shape": (1, 33, 20), "stride_conv": 2}),
    ("preresnet-20", {"conv_bias": True, "stem_channels": 64, "first_shortcut": True}),
    ("inception", {}),
    ("inception-x0.5", {"num_classes": 7, "input_shape": (1, 33, 20), "conv_bias": True}),
    ("inception", {"input_shape": (3, 33, 28), "shortcut": "unpadded"}),
]


@pytest.mark.parametrize(("name", "fields"), NETWORKS, ids=[name for name, _ in NETWORKS])
def test_costs_are_those_of_the_network(name: str, fields: dict[str, Any]) -> None:
    spec = spec_of(name, **fields)
    network, costs = build(spec), costs_of(spec)
    assert costs.params == count_parameters(network)
    assert costs.macs == costs_of_module(network, spec.input_shape).macs


# Worked out from the papers' tables, for 10 classes and 32x32 colour images.
@pytest.mark.parametrize(
    ("name", "macs"),
    [
        # The stem 27 * 16 * 1024 = 442,368 and the classifier 2,560. A block of middle width w at
        # p pixels that keeps its shape has w * 4w + 9w^2 + 4w * w = 17w^2 a pixel, which is 4,352
        # * 1024 = 17,408 * 256 = 69,632 * 64 = 4,456,448 in each stage. The first one reads i
        # channels, i * w + 13w^2 + 4 * i * w = 13w^2 + 5iw: (3,328 + 1,280) * 1024,
        # (13,312 + 10,240) * 256 and (53,248 + 40,960) * 64, together 16,777,216. Its stride is
        # in the first convolution, so that all of its layers work at the smaller size.
        ("preresnet-11", 442_368 + 2_560 + 16_777_216),
        ("preresnet-20", 442_368 + 2_560 + 16_777_216 + 3 * 4_456_448),
        # A module (a, b) of c channels has ac + 9bc a pixel.
        # 1024 pixels: 2,592 + 30,720 + 29,696 = 63,008
        # 256 pixels: 57,600 + 87,040 + 107,520 + 128,000 + 145,920 = 526,080
        # 64 pixels: 124,416 + 387,840 + 542,976 = 1,055,232
        ("inception", 63_008 * 1024 + 526_080 * 256 + 1_055_232 * 64 + 3_360),
    ],
)
def test_macs_are_those_worked_out_by_hand(name: str, macs: int) -> None:
    assert costs_of(spec_of(name)).macs == macs


@pytest.mark.parametrize("name", ["wrn-10-2", "resnet-20", "preresnet-20", "inception"])
def test_the_size_of_the_file_is_known_before_it_is_written(name: str, tmp_path: Path) -> None:
    spec = spec_of(name)
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
    assert dominates(spec_of(larger), spec_of(smaller)) is expected
