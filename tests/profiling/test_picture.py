from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from compress.errors import UsageError
from compress.profiling import picture
from compress.results import Estimate
from tests.profiling.reports import model, report, run

BOTH = report(
    model("student.onnx", run("onnxruntime", 0.001), run("openvino", 0.0012)),
    model("teacher.onnx", run("onnxruntime", 0.03), run("openvino", 0.04)),
    speedup=Estimate(30.0, 29.0, 31.0),
)


def test_a_png_shows_every_model_and_is_the_same_each_time(tmp_path: Path) -> None:
    from matplotlib.image import imread

    first, again = tmp_path / "a.png", tmp_path / "b.png"
    picture.draw(BOTH, first)
    picture.draw(BOTH, again)
    assert first.read_bytes() == again.read_bytes()
    pixels = imread(first)[..., :3]
    for colour in picture.COLOURS[:4]:
        wanted = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
        assert (np.abs(pixels - wanted).max(axis=-1) < 0.02).sum() > 50, colour


def test_an_svg_is_the_same_each_time(tmp_path: Path) -> None:
    first, again = tmp_path / "a.svg", tmp_path / "b.svg"
    picture.draw(BOTH, first)
    picture.draw(BOTH, again)
    assert first.read_text() == again.read_text()
    assert "<svg" in first.read_text()


def test_what_cannot_be_drawn_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        picture.check(tmp_path / "a.jpg")
    picture.check(tmp_path / "a.SVG")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name)
    )
    with pytest.raises(UsageError, match=r"compress-distill\[plots\]"):
        picture.check(tmp_path / "a.png")
