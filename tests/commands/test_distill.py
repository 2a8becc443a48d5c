"""How `compress distill` ends, by what came of a run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from compress.commands import distill as command
from compress.errors import BudgetMissed, CompressError, Inconclusive, PrecisionLost, StudentRefused
from compress.tasks.task import Standing


def result(
    standing: Standing = Standing.BETTER,
    outcome: str | None = None,
    budget: str = "not judged",
    narrowed: str | None = None,
) -> dict[str, Any]:
    """As much of result.json as the end of the command reads."""
    latency = {"median": 1.0, "low": 0.9, "high": 1.1}
    network = {
        "name": "wrn-10-1",
        "accuracy": {"test": 0.5, "validation": 0.5},
        "latency_ms": latency,
        "size_bytes": 1000,
        "params": 10,
        "macs": 10,
    }
    chance = {"standing": standing.value, "text": f"{standing.value} than chance: it is a test."}
    parity = {"top1_agreement": 1.0, "images": 9, "max_abs_diff": 0.0}
    drop = {"value": 0.0123, "low": -0.001, "high": 0.02, "outcome": outcome, "reason": "so it is"}
    return {
        "teacher": network | {"file": "teacher.onnx"},
        "student": network | {"file": "student.onnx", "chance": chance, "parity": parity},
        "accuracy_drop": drop,
        "target": {
            "runtime": "r",
            "device": "cpu",
            "precision": "int8" if narrowed else "fp32",
            "threads": 1,
        },
        "budget": {
            "outcome": budget,
            "batch": 1,
            "latency_ms": None,
            "size_mb": 1.0,
            "speedup": None,
        },
        "speedup": {"value": 2.0, "low": 1.9, "high": 2.1},
        "data": {"n": {"train": 9, "validation": 9, "test": 9}},
        "recipe": "kd",
        "epochs": 1,
        "seed": 0,
        "warnings": [],
        "precisions": {"int8": {"outcome": narrowed, "why": "so it is"}} if narrowed else {},
    }


def said(found: dict[str, Any], out: Path) -> str:
    (out / "student.onnx").touch()
    console = Console(file=io.StringIO(), width=80)
    command.print_result(found, out, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("found", "error", "words"),
    [
        (result(), None, "the student, to ship"),
        (result(outcome="pass"), None, "the student, to ship"),
        (result(Standing.UNDECIDED), None, "the student, perhaps no better than chance"),
        (result(Standing.NO_BETTER), StudentRefused, "which is no better than chance"),
        (
            result(Standing.NO_BETTER, budget="missed"),
            StudentRefused,
            "which is no better than chance",
        ),
        (result(outcome="fail"), StudentRefused, "which loses more than is allowed"),
        (result(outcome="inconclusive"), Inconclusive, "the student, to ship"),
        (
            result(outcome="inconclusive", budget="missed"),
            BudgetMissed,
            "the student, to ship",
        ),
        (result(budget="kept"), None, "the student, to ship"),
        (result(budget="undecided"), Inconclusive, "the student, to ship"),
        (result(narrowed="kept"), None, "the student, to ship"),
        (result(narrowed="undecided"), Inconclusive, "the student, to ship"),
        # What fails says more than what is not decided.
        (
            result(narrowed="missed", budget="undecided"),
            PrecisionLost,
            "the student, to ship",
        ),
        (result(narrowed="undecided", budget="missed"), BudgetMissed, "the student, to ship"),
    ],
)
def test_only_a_student_that_can_ship_ends_with_0(
    found: dict[str, Any], error: type[CompressError] | None, words: str, tmp_path: Path
) -> None:
    text = said(found, tmp_path)
    assert f"student.onnx  {words}" in text or words in text
    assert ("to ship" in text) is (words == "the student, to ship")
    if error is None:
        command.judge(found, tmp_path)
        return
    with pytest.raises(error):
        command.judge(found, tmp_path)
    assert error.exit_code == (3 if error is Inconclusive else 1)


def test_the_interval_of_the_loss_is_in_the_table(tmp_path: Path) -> None:
    assert "-2.00 to +0.10" in said(result(), tmp_path)
    assert "Against the teacher: so it is: PASS." in said(result(outcome="pass"), tmp_path)


def test_the_words_for_standings_are_those_of_the_judge() -> None:
    """They stand in the command too, which must not import torch."""
    assert Standing.NO_BETTER.value == command.NO_BETTER
    assert Standing.UNDECIDED.value == command.UNDECIDED
