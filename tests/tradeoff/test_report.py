from __future__ import annotations

import pytest

from compress.report.document import Marked, Table, Tone
from compress.spec import Budget
from compress.tradeoff.report import document_of, picture_of
from tests.report.rendered import assert_rendered
from tests.tradeoff.test_table import AUTOMATIC, TEACHER, auto_table, table


def test_the_whole_on_terminals_and_in_markdown() -> None:
    budget = Budget(latency_s=3e-3, headroom=0.1)
    assert_rendered(document_of(table(TEACHER).select(budget)), "choice")
    assert_rendered(document_of(auto_table().select(AUTOMATIC)), "choice-of-precision")


def test_the_chosen_one_is_marked_and_the_teacher_comes_first() -> None:
    choice = table(TEACHER).select(Budget(latency_s=3e-3))
    document = document_of(choice)
    found = document.parts[0]
    assert isinstance(found, Table)
    assert found.rows[0][-1] == "teacher"
    (chosen,) = [row for row in found.rows if isinstance(row[0], Marked)]
    assert chosen[:2] == (Marked(">", Tone.STRONG), Marked(choice.row.name, Tone.STRONG))
    assert document.keys[0].value.startswith(f"{choice.row.name}, ")


def test_the_picture_has_the_budget_and_every_timed_candidate() -> None:
    choice = table(TEACHER).select(Budget(latency_s=3e-3, headroom=0.1))
    (chart,) = picture_of(choice).charts
    others, chosen = chart.series
    assert len(others.points) + len(chosen.points) == sum(
        row.measured is not None for row in choice.rows
    )
    assert chosen.name == f"chosen: {choice.row.name}"
    assert chosen.points[0].y == pytest.approx(100 * choice.row.prediction.error)
    limit, teacher = chart.rules
    assert limit.x == pytest.approx(2.7)
    assert choice.teacher is not None
    assert teacher.x == pytest.approx(choice.teacher.latency.value * 1e3)
