"""benchmarks/precision_auto.py: what it runs, and the page of what came of it."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.precision_auto import folder, markdown, run


def result(precision: str, test: float) -> dict[str, Any]:
    judged = {"why": "92.0% against 92.5%"}
    tuning = {"epochs": 2, "taken": True, "before": {"why": "90.0%"}, "after": judged}
    narrow = {} if precision == "fp32" else {precision: judged | {"fine_tuning": tuning}}
    return {
        "student": {
            "name": "wrn-10-2",
            "precision": precision,
            "accuracy": {"validation": 0.92, "test": test},
            "latency_ms": {"median": 0.4, "low": 0.39, "high": 0.41},
            "size_bytes": 300_000,
        },
        "budget": {"outcome": "kept"},
        "precisions": narrow,
    }


def ended(trials: Path, budget_ms: float, asked: str, found: dict[str, Any]) -> None:
    out = folder(trials, budget_ms, asked)
    out.mkdir()
    (out / "result.json").write_text(json.dumps(found))
    rows = [{"status": "fits"}, {"status": "chosen", "predicted_error": 0.075}]
    (out / "choice.json").write_text(json.dumps({"candidates": rows}))


def test_the_page_has_both_at_each_budget(tmp_path: Path) -> None:
    ended(tmp_path, 0.5, "auto", result("int8", 0.925))
    ended(tmp_path, 0.5, "fp32", result("fp32", 0.910))
    ended(tmp_path, 1.0, "auto", result("int8", 0.930))
    log = folder(tmp_path, 0.1, "fp32").with_name("0.1ms-fp32.log")
    log.write_text("Timing wrn-10-1.\nerror: No candidate keeps 100 us.\n")
    page = "\n".join(markdown(tmp_path, [0.1, 0.5, 1.0], ["--epochs", "20"]))
    assert "| 0.1 | auto | not ended |" in page
    assert "| 0.1 | fp32 | No candidate keeps 100 us. |" in page
    assert (
        "| 0.5 | auto | wrn-10-2, int8 | 92.50% | 92.00% | 92.50% | 0.400 (0.390 to 0.410) | "
    ) in page
    assert "| 0.5 | fp32 | wrn-10-2, fp32 | 92.50% | 92.00% | 91.00% |" in page
    assert "| 1 | fp32 | not ended |" in page
    # Of the one budget that has both.
    assert "gained at the same budget: +1.50." in page
    assert "Fine-tuned for 2 epochs, taken: before, 90.0%; after, 92.0% against 92.5%." in page


def test_what_has_ended_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], *, env: dict[str, str], **_: Any) -> None:
            told.append([*command, env["COMPRESS_CACHE"]])

        def wait(self, timeout: float | None) -> None:
            assert timeout is None

    monkeypatch.setattr("benchmarks.precision_auto.subprocess.Popen", Process)
    ended(tmp_path, 0.5, "auto", result("int8", 0.925))
    for asked in ("auto", "fp32"):
        run(tmp_path, 0.5, asked, ["--epochs", "20"], math.inf)
    assert len(told) == 1
    assert told[0][3:8] == ["distill", "--epochs", "20", "--out", str(tmp_path / "0.5ms-fp32")]
    assert told[0][8:12] == ["--budget-ms", "0.5", "--precision", "fp32"]
    assert told[0][-1] == str(tmp_path / "0.5ms-fp32-cache")


def test_a_run_is_told_to_stop_when_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    did: list[str] = []

    class Process:
        def __init__(self, *_: Any, **__: Any) -> None:
            did.append("began")

        def wait(self, timeout: float) -> None:
            did.append("waited")
            if len(did) == 2:
                raise subprocess.TimeoutExpired("compress", timeout)

        def terminate(self) -> None:
            did.append("stopped")

    monkeypatch.setattr("benchmarks.precision_auto.subprocess.Popen", Process)
    monkeypatch.setattr("benchmarks.precision_auto.time.monotonic", lambda: 100.0)
    run(tmp_path, 0.5, "auto", [], 160.0)
    assert did == ["began", "waited", "stopped", "waited"]
    run(tmp_path, 0.5, "auto", [], 100.0)
    assert did == ["began", "waited", "stopped", "waited"]
