"""compress.limits: kept, missed, or undecided."""

from __future__ import annotations

import pytest

from compress.limits import Judgement, judge, worst
from compress.results import Estimate

MISSED, UNDECIDED, KEPT = Judgement


@pytest.mark.parametrize(
    ("limit", "at_most", "at_least"),
    [
        (0.8, MISSED, KEPT),
        (0.9, UNDECIDED, KEPT),
        (1.0, UNDECIDED, UNDECIDED),
        (1.2, KEPT, UNDECIDED),
        (1.3, KEPT, MISSED),
    ],
)
def test_an_interval_that_holds_the_limit_is_undecided(
    limit: float, at_most: Judgement, at_least: Judgement
) -> None:
    interval = Estimate(1.0, 0.9, 1.2)
    assert judge(interval, limit) is at_most
    assert judge(interval, limit, at_least=True) is at_least


def test_a_limit_that_only_undisturbed_calls_keep_is_undecided() -> None:
    interval = Estimate(1.0, 0.9, 1.2)
    assert judge(interval, 1.3, all_calls=1.3) is KEPT
    assert judge(interval, 1.3, all_calls=1.31) is UNDECIDED
    # What is missed without them is missed with them.
    assert judge(interval, 0.8, all_calls=2.0) is MISSED


def test_the_worst_of_several_counts() -> None:
    assert worst([]) is KEPT
    assert worst([KEPT, UNDECIDED]) is UNDECIDED
    assert worst([KEPT, UNDECIDED, MISSED]) is MISSED
