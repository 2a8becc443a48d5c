"""benchmarks/openvino_ways.py: what is told of the ways, and that they compute the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino")

from benchmarks.openvino_ways import CHOSEN, markdown, other_answers, over_all, row, spread_of
from tests.test_readme import ROOT

WAY = "through ONNX Runtime"


def trial(way_s: float, model: str = "a.onnx") -> dict[str, Any]:
    return {
        "model": model,
        "batch": 8,
        "threads": 2,
        "rounds": 6,
        "provider": "Through ONNX Runtime: the provider 1.",
        "round_medians_s": {CHOSEN: [1e-3] * 6, WAY: [way_s] * 6},
    }


def test_a_way_is_told_beside_the_chosen_one() -> None:
    medians = trial(1.5e-3)["round_medians_s"]
    assert row(WAY, medians) == f"{WAY} | 1.500 | 1.500 (1.500 to 1.500) | 0.0%"
    assert row(CHOSEN, medians) == f"{CHOSEN} | 1.000 |  | 0.0%"


def test_the_spread_is_that_of_the_middle_half() -> None:
    assert spread_of(np.array([1.0, 9.0, 10.0, 11.0, 90.0])) == pytest.approx(0.2)


def test_all_comparisons_together() -> None:
    lines = over_all([trial(2e-3), trial(0.5e-3, "b.onnx"), trial(2e-3, "c.onnx")])
    assert lines[0].startswith(f"- {CHOSEN}: 1.000 times")
    assert lines[1].startswith(f"- {WAY}: 1.260 times '{CHOSEN}' (geometric mean of 3)")


def test_the_page() -> None:
    page = "\n".join(markdown([trial(1.5e-3)]))
    assert f"| a.onnx | 8 | 2 | {WAY} | 1.500 |" in page
    assert page.count("the provider 1.") == 1


def test_bfloat16_is_told_from_float32() -> None:
    expected = np.array([[1.0, -8.0, 0.25]], np.float32)
    rounded = (expected.view(np.uint32) & 0xFFFF0000).view(np.float32)
    assert other_answers({CHOSEN: expected, WAY: rounded}) == []  # these have few digits
    answers = {
        CHOSEN: expected * np.float32(1.1),
        "float32": expected * np.float32(1.1) + np.float32(1e-5),
        "bfloat16": ((expected * np.float32(1.1)).view(np.uint32) & 0xFFFF0000).view(np.float32),
        "nothing": np.full_like(expected, np.nan),
    }
    assert other_answers(answers) == ["bfloat16", "nothing"]


@pytest.mark.slow
def test_the_ways_run_in_float32(tmp_path: Path) -> None:
    """In a process of its own: ONNX Runtime's description of the processor is changed."""
    pytest.importorskip("onnxruntime_ep_openvino")
    command = [sys.executable, "-m", "benchmarks.openvino_ways", "wrn-10-1", "--any-vendor"]
    options = ["--trials", str(tmp_path), "--output", str(tmp_path / "page.md")]
    few = ["--threads", "1", "--batch", "1", "--rounds", "6"]
    for _ in range(2):
        done = subprocess.run(
            [*command, *options, *few],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "| through ONNX Runtime, one shape |" in (tmp_path / "page.md").read_text()
    # The second time there was nothing to do.
    assert len((tmp_path / "openvino_ways.jsonl").read_text().splitlines()) == 1
