"""What a result says of the student beside its teacher."""

from __future__ import annotations

import pytest

from compress.pipelines.distill.result import AccuracyDrop
from compress.tasks.classification import Paired


def pair(lost: int, won: int, n: int = 1000) -> Paired:
    return Paired(n=n, lost=lost, won=won, right=n - lost)


def test_the_loss_stands_there_with_its_interval_whether_it_is_judged_or_not() -> None:
    drop = AccuracyDrop.of(pair(30, 10), None)
    assert drop.value == pytest.approx(0.02)
    assert drop.low < 0.02 < drop.high
    assert (drop.outcome, drop.reason, drop.allowed) == (None, None, None)


@pytest.mark.parametrize(
    ("lost", "allowed", "outcome"),
    [(60, 0.01, "fail"), (2, 0.02, "pass"), (12, 0.01, "inconclusive")],
)
def test_it_is_judged_as_check_judges(lost: int, allowed: float, outcome: str) -> None:
    found = AccuracyDrop.of(pair(lost, 2), allowed)
    assert found.outcome == outcome
    assert found.reason is not None
    assert "of the teacher" in found.reason
    if outcome == "inconclusive":
        assert "images would decide" in found.reason
