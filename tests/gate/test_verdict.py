from __future__ import annotations

import pytest

from compress.gate.verdict import Comparison, Outcome, Verdict


def verdict(*outcomes: Outcome) -> Verdict:
    return Verdict(tuple(Comparison("size", each, "because") for each in outcomes))


@pytest.mark.parametrize(
    ("outcomes", "worst", "exit_code"),
    [
        ([Outcome.PASS, Outcome.PASS], Outcome.PASS, 0),
        ([Outcome.PASS, Outcome.INCONCLUSIVE], Outcome.INCONCLUSIVE, 3),
        ([Outcome.INCONCLUSIVE, Outcome.NOT_MEASURED], Outcome.NOT_MEASURED, 4),
        ([Outcome.NOT_MEASURED, Outcome.FAIL, Outcome.PASS], Outcome.FAIL, 1),
        ([], Outcome.NOT_MEASURED, 4),
    ],
)
def test_the_worst_one_counts(outcomes: list[Outcome], worst: Outcome, exit_code: int) -> None:
    found = verdict(*outcomes)
    assert found.outcome is worst
    assert found.exit_code() == exit_code


def test_only_what_is_not_decided_may_be_let_through() -> None:
    passes = {each: verdict(each).exit_code(inconclusive_passes=True) == 0 for each in Outcome}
    assert passes == {
        Outcome.FAIL: False,
        Outcome.NOT_MEASURED: False,
        Outcome.INCONCLUSIVE: True,
        Outcome.PASS: True,
    }


def test_plain_values() -> None:
    found = Verdict(
        (Comparison("size", Outcome.PASS, "small", {"size_bytes": 3}),),
        ("busy",),
        {"schema_version": 1},
        ("loading takes 12 ms",),
    )
    assert found.to_dict() == {
        "schema_version": 1,
        "outcome": "pass",
        "comparisons": [
            {"name": "size", "outcome": "pass", "reason": "small", "evidence": {"size_bytes": 3}}
        ],
        "warnings": ["busy"],
        "not_judged": ["loading takes 12 ms"],
    }
