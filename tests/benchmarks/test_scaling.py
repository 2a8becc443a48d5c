"""benchmarks/scaling.py: the points, how things grow, and a point of its own process."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from benchmarks.scaling import (
    AXES,
    Point,
    axes,
    exponent,
    high_water_bytes,
    in_fresh_process,
    markdown,
    points,
)

BASE = Point()


def line(point: Point, seconds: float) -> dict[str, Any]:
    return {
        "point": asdict(point),
        "read_s": 0.5,
        "seconds": seconds,
        "parts": {"forward": seconds / 2, "teacher's passes": seconds / 4, "rest": seconds / 4},
        "before_bytes": 100_000_000,
        "peak_bytes": 300_000_000,
        "gpu_bytes": None,
        "image_bytes": 3072 * point.images,
        "kept_bytes": 20 * point.images,
        "teacher_macs": 1000,
    }


@pytest.mark.parametrize(
    ("values", "power"), [([3, 6, 12], 1.0), ([5, 5, 5], 0.0), ([1, 4, 16], 2.0)]
)
def test_how_values_grow(values: list[float], power: float) -> None:
    assert exponent([10, 20, 40], values) == pytest.approx(power, abs=1e-9)


def test_of_one_size_nothing_grows() -> None:
    assert exponent([10, 10], [1, 2]) is None
    assert exponent([10, 20], [0, 2]) is None


def test_one_thing_is_varied_at_a_time_and_nothing_is_measured_twice() -> None:
    all_of_them = points(BASE, 1.0)
    assert len(all_of_them) == len(set(all_of_them))
    for name, varied in axes(BASE, 1.0):
        for one in varied[1:]:
            differs = [key for key, value in asdict(one).items() if asdict(varied[0])[key] != value]
            assert differs == [name.split(",")[0]]
    # The base is in every axis.
    assert sum(BASE in varied for _, varied in axes(BASE, 1.0)) == len(AXES)


def test_a_reused_view_is_one() -> None:
    # With as many views as epochs nothing would be reused.
    assert max(AXES["views"]) < BASE.epochs


def test_the_page_says_how_time_grows() -> None:
    found = [line(Point(images=images), images / 100) for images in (5000, 10_000, 20_000)]
    page = "\n".join(markdown(found, BASE, 1.0))
    row = "| 10000 | 0.5 | 100.0 | 25.0 | 50.0 | 25.0 | 200 MB | 30.7 MB | 200 kB |"
    assert row in page
    assert "Grows with the images to the power of: training by 1.00, the teacher's by 1.00" in page
    assert markdown([], BASE, 1.0)


def test_the_peak_of_this_process_grows() -> None:
    before = high_water_bytes()
    held = bytearray(b"x") * (before + 64_000_000)
    assert high_water_bytes() - before > 32_000_000
    assert len(held) > before


@pytest.mark.slow
def test_a_point_is_measured_in_a_process_of_its_own() -> None:
    point = Point(
        images=40, teacher="wrn-10-0.25", student="wrn-10-0.25", views=2, epochs=3, threads=1
    )
    found = in_fresh_process(point)
    assert found["image_bytes"] == 40 * 3072
    assert found["kept_bytes"] >= 2 * 40 * 10 * 2  # two views of ten logits of two bytes
    assert found["peak_bytes"] > found["before_bytes"] > 50e6
    assert sum(found["parts"].values()) == pytest.approx(found["seconds"], rel=0.1)
