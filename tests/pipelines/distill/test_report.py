from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.pipelines.distill import DistillResult
from compress.pipelines.distill.report import document_of
from compress.report.document import Tone
from tests.pipelines.results import document, precision
from tests.report.rendered import assert_rendered

FILES = tuple(Path("runs/demo", name) for name in ("student.onnx", "teacher.onnx", "other.txt"))


def result(**asked: Any) -> DistillResult:
    return DistillResult.from_dict(document(**asked))


def test_the_whole_on_terminals_and_in_markdown() -> None:
    assert_rendered(document_of(result(size_mb=1.0), FILES), "distillation")
    tuning = {
        "epochs": 2,
        "lr": 0.001,
        "before": precision("missed"),
        "after": precision("kept"),
        "taken": True,
    }
    reduced = result(outcome="pass", reduced="kept", fine_tuning=tuning, budget="missed")
    assert_rendered(document_of(reduced, FILES), "distillation-in-int8")


def test_the_budget_is_a_key_figure_where_there_is_one() -> None:
    keys = {key.name: key for key in document_of(result(size_mb=1.0)).keys}
    assert keys["budget"].tone is Tone.GOOD
    assert keys["budget"].text == "budget: kept, at most 1.00 MB"
    assert "against the teacher" not in keys
    missed = document_of(result(budget="missed", size_mb=1.0)).keys
    assert missed[-1].tone is Tone.BAD
    assert "budget" not in {key.name for key in document_of(result()).keys}
