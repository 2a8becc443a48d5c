"""benchmarks/step_speed.py: what an image takes of a whole training, and the two taking turns."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import step_speed
from benchmarks.step_speed import (
    KEPT,
    ON_THE_FLY,
    Condition,
    Rounds,
    image_s,
    markdown,
    of_peak,
    speed_up,
)

CONDITION = Condition("wrn-40-2", "wrn-16-2", KEPT, "cpu", 100, 1000, "off", 2, 2)


def line(**more: Any) -> dict[str, Any]:
    """0.5 s a step of 100 images, 10 s for what the teacher says of 1,000, 60 s to begin."""
    return {
        **vars(CONDITION),
        "machine": "m",
        "ours_s": 0.5,
        "plain_s": 3.0,
        "build_s": 10.0,
        "start_s": 60.0,
        "parts": {"forward": 0.2, "backward": 0.3},
        "macs": {"student": 1e8, "teacher": 4e8},
        "peak_macs_s": {"fp32": 1.2e11},
        **more,
    }


def test_what_is_done_once_is_spread_over_epochs_and_views() -> None:
    # A step 5 ms an image; a view 10 ms an image and epoch; the start 60 s of 600,000 images.
    assert image_s(line(), 1, 12) == pytest.approx(5e-3 + 10e-3 / 12 + 1e-4)
    assert image_s(line(), 4, 12) == pytest.approx(5e-3 + 40e-3 / 12 + 1e-4)
    assert image_s(line(), 1, 240) == pytest.approx(5e-3 + 10e-3 / 240 + 5e-6)


def test_on_the_fly_nothing_is_built() -> None:
    found = line(views=ON_THE_FLY)
    del found["build_s"]
    assert image_s(found, ON_THE_FLY, 12) == pytest.approx(5e-3 + 1e-4)


def test_a_speed_up_has_an_interval_from_six_rounds_on() -> None:
    rounds = [line(start_s=0.0, build_s=0.0, plain_s=value) for value in (2, 2.5, 3, 3, 3.5, 4)]
    assert speed_up(rounds[:5], 1, 12)[1] == "6.00"
    ours, ratio = speed_up(rounds, 1, 12)
    assert ours == "200"
    assert ratio.startswith("6.00 (")
    low, high = ratio.removesuffix(")").split("(")[1].split(" to ")
    assert 4.0 <= float(low) < 6.0 < float(high) <= 8.0


def test_the_share_of_the_peak_counts_the_teacher_where_it_runs() -> None:
    # 3 passes of 0.1 GMAC of 100 images in 0.5 s: 60 GMAC/s of 120.
    assert of_peak([line()]) == "50% (fp32)"
    # With 0.4 more: 140 of 280.
    assert of_peak([line(views=ON_THE_FLY, peak_macs_s={"fp32": 2.8e11})]) == "50% (fp32)"


def test_the_page_has_a_row_for_each_way() -> None:
    page = "\n".join(markdown([line(), line(views=ON_THE_FLY)]))
    assert "| kept, 1 view | 240 |" in page
    assert "| kept, 4 views | 12 |" in page
    assert "| on the fly | 60 |" in page
    assert "| kept | 500.0 | 0.0% | 0.0% | 40.0% | 0.0% | 60.0% |" in page
    assert "| 60.0 | 100 | 50% (fp32) |" in page
    assert markdown([])


@pytest.mark.parametrize("views", [KEPT, ON_THE_FLY])
def test_the_two_take_turns(views: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_speed, "SETTLE_S", 0.0)
    monkeypatch.setattr(step_speed, "PRODUCTS", 1)
    condition = Condition("wrn-10-0.25", "wrn-10-0.25", views, "cpu", 4, 10, "off", 1, 0)
    kept: list[dict[str, Any]] = []
    rounds = Rounds(condition, 2, kept.append)
    plain_steps = []
    run = rounds.plain.run

    def plain(steps: int) -> float:
        plain_steps.append(steps)
        return run(steps)

    monkeypatch.setattr(rounds.plain, "run", plain)
    rounds.run(2, float("inf"))
    assert len(kept) == 2
    assert plain_steps == [2, 2]
    for each in kept:
        assert ("build_s" in each) is (views == KEPT)
        assert sum(each["parts"].values()) == pytest.approx(each["ours_s"], rel=0.1, abs=2e-3)
        assert each["plain_s"] > 0
        assert each["macs"]["student"] == each["macs"]["teacher"]
