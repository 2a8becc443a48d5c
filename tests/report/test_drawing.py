from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from compress.errors import UsageError
from compress.profiling.report import picture_of
from compress.report import drawing
from compress.report.document import Axis, Chart, Mark, Picture, Point, Rule, Series
from compress.results import Estimate
from tests.profiling.reports import model, report, run

BOTH = picture_of(
    report(
        model("student.onnx", run("onnxruntime", 0.001), run("openvino", 0.0012)),
        model("teacher.onnx", run("onnxruntime", 0.03), run("openvino", 0.04)),
        speedup=Estimate(30.0, 29.0, 31.0),
    )
)


def test_a_png_shows_every_model_and_is_the_same_each_time(tmp_path: Path) -> None:
    from matplotlib.image import imread

    first, again = tmp_path / "a.png", tmp_path / "b.png"
    drawing.draw(BOTH, first)
    drawing.draw(BOTH, again)
    assert first.read_bytes() == again.read_bytes()
    pixels = imread(first)[..., :3]
    for colour in drawing.COLOURS[:4]:
        wanted = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
        assert (np.abs(pixels - wanted).max(axis=-1) < 0.02).sum() > 50, colour


def test_an_svg_is_the_same_each_time(tmp_path: Path) -> None:
    first, again = tmp_path / "a.svg", tmp_path / "b.svg"
    drawing.draw(BOTH, first)
    drawing.draw(BOTH, again)
    assert first.read_text() == again.read_text()
    assert "<svg" in first.read_text()


def test_what_cannot_be_drawn_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        drawing.check(tmp_path / "a.jpg")
    drawing.check(tmp_path / "a.SVG")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name)
    )
    with pytest.raises(UsageError, match=r"compress-distill\[plots\]"):
        drawing.check(tmp_path / "a.png")


def test_names_are_no_formula_and_none_is_left_out_of_the_legend() -> None:
    series = tuple(
        Series(name, (Point(place, Estimate(1, 0, 2)),), mark, place)
        for place, (name, mark) in enumerate(
            zip(("$x$", "_hidden", "[b]", "a\nb", "band"), Mark, strict=True)
        )
    )
    chart = Chart(Axis("x", names=("$a", "b")), Axis("$y$"), series, (Rule("limit", x=1.0),), "$t$")
    figure = drawing.figure_of(Picture("it", (chart, chart), "$caption$ " * 40))
    figure.draw_without_rendering()
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(shown) == sorted(["\\$x\\$", " _hidden", "[b]", "a b", "band", "limit"])
    first, second = figure.axes
    assert first.get_title("left") == "\\$t\\$"
    assert first.get_ylabel() == "\\$y\\$"
    assert second.get_ylabel() == ""


def test_charts_with_the_same_axis_share_it() -> None:
    first = Chart(Axis("x"), Axis("y", from_zero=True), (Series("a", (Point(1, 5),)),))
    second = Chart(Axis("z"), Axis("y", from_zero=True), (Series("a", (Point(1, 9),)),))
    left, right = drawing.figure_of(Picture("it", (first, second), "")).axes
    assert left.get_ylim() == right.get_ylim()
    stacked = drawing.figure_of(Picture("it", (first, second), "", stacked=True))
    assert [axes.get_ylabel() for axes in stacked.axes] == ["y", "y"]
