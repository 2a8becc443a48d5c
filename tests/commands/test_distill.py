"""How `compress distill` ends, by what came of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.commands import distill as command
from compress.errors import BudgetMissed, CompressError, Inconclusive, PrecisionLost, StudentRefused
from compress.pipelines.distill import DistillResult
from compress.pipelines.distill.report import document_of
from compress.report import terminal
from compress.tasks.task import Standing
from tests.pipelines.results import document


def result(
    standing: Standing = Standing.BETTER,
    outcome: str | None = None,
    budget: str = "not judged",
    reduced: str | None = None,
) -> DistillResult:
    """A result of which only its outcomes matter."""
    return DistillResult.from_dict(
        document(
            standing=standing.value, outcome=outcome, budget=budget, reduced=reduced, size_mb=1.0
        )
    )


def said(found: DistillResult, out: Path) -> str:
    (out / "student.onnx").touch()
    return terminal.text_of(document_of(found, out.iterdir()))


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
        (result(reduced="kept"), None, "the student, to ship"),
        (result(reduced="undecided"), Inconclusive, "the student, to ship"),
        # What fails says more than what is not decided.
        (
            result(reduced="missed", budget="undecided"),
            PrecisionLost,
            "the student, to ship",
        ),
        (result(reduced="undecided", budget="missed"), BudgetMissed, "the student, to ship"),
    ],
)
def test_only_a_student_that_can_ship_ends_with_0(
    found: DistillResult, error: type[CompressError] | None, words: str, tmp_path: Path
) -> None:
    text = said(found, tmp_path)
    assert f"student.onnx  {words}" in text or words in text
    assert ("to ship" in text) is (words == "the student, to ship")
    if error is None:
        command.judge(found)
        return
    with pytest.raises(error):
        command.judge(found)
    assert error.exit_code == (3 if error is Inconclusive else 1)


def test_the_interval_of_the_loss_is_in_the_table(tmp_path: Path) -> None:
    assert "-2.00 to +0.10" in said(result(), tmp_path)
    assert "against the teacher: PASS, so it is" in said(result(outcome="pass"), tmp_path)
