"""benchmarks/precision.py: one small model from conversion to the page, and again for nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import precision
from benchmarks.trials import read
from compress.profiling import profile_model
from compress.spec import PRECISIONS
from tests.profiling import tiny


@pytest.mark.slow
def test_the_page_of_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(profile_model, "MAX_S", 1.0)
    monkeypatch.setattr(precision, "MAX_S", 1.0)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (60, 8, 8, 3), np.uint8), np.arange(60) % 10
    np.savez(tmp_path / "d.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    source = tiny.convolution(tmp_path / "tiny.onnx")
    arguments = ["precision", str(source), "--data", str(tmp_path / "d.npz")]
    arguments += ["--trials", str(tmp_path / "t"), "--output", str(tmp_path / "page.md")]
    arguments += ["--runtimes", "onnxruntime", "--images", "20"]
    monkeypatch.setattr(sys, "argv", arguments)
    precision.main()
    lines = read(tmp_path / "t" / precision.TRIALS)
    assert [each["precision"] for each in lines if each["kind"] == "accuracy"] == list(PRECISIONS)
    timed = {each["precision"]: each for each in lines if each["kind"] == "latency"}
    assert timed["int8"]["kernels"] == {"QLinearConv int8": 1}
    assert timed["int8"]["share"] == {"int8": [1.0, 1.0]}
    assert timed["fp16"]["share"] == {"fp32": [1.0, 1.0]}
    assert timed["int8"]["speedup"]["low"] > 0
    assert timed["fp32"]["speedup"] is None
    assert "failed" in timed["bf16"]
    page = (tmp_path / "page.md").read_text()
    assert "| onnxruntime | 1, 1 | bf16 |  |  |  |  | not run: " in page
    assert "1 QLinearConv int8 |" in page
    assert "Test images of d, " in page
    precision.main()
    assert read(tmp_path / "t" / precision.TRIALS) == lines
    capsys.readouterr()
