"""What a result says of the student beside its teacher."""

from __future__ import annotations

from typing import Any

import pytest

from compress.pipelines.distill.result import drop_of, judged
from compress.tasks.classification import Paired


def result(lost: int, won: int, n: int = 1000) -> dict[str, Any]:
    return {"accuracy_drop": drop_of(Paired(n=n, lost=lost, won=won, right=n - lost))}


def test_the_loss_stands_there_with_its_interval_whether_it_is_judged_or_not() -> None:
    drop = judged(result(30, 10), None)["accuracy_drop"]
    assert drop["value"] == pytest.approx(0.02)
    assert drop["low"] < 0.02 < drop["high"]
    assert drop["outcome"] is drop["reason"] is drop["allowed"] is None


@pytest.mark.parametrize(
    ("lost", "allowed", "outcome"),
    [(60, 0.01, "fail"), (2, 0.02, "pass"), (12, 0.01, "inconclusive")],
)
def test_it_is_judged_as_check_judges(lost: int, allowed: float, outcome: str) -> None:
    found = judged(result(lost, 2), allowed)["accuracy_drop"]
    assert found["outcome"] == outcome
    assert "of the teacher" in found["reason"]
    if outcome == "inconclusive":
        assert "images would decide" in found["reason"]
    # A finished run can be judged by another allowance.
    assert judged({"accuracy_drop": found}, 0.2)["accuracy_drop"]["outcome"] == "pass"
