"""benchmarks/budget_kept.py: what a right choice is, and what is done next."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import budget_kept
from benchmarks.budget_kept import (
    Selection,
    against,
    drawn_budgets,
    held,
    markdown,
    step,
    was_right,
)
from compress.models.registry import architecture
from compress.results import Estimate
from compress.spec import Budget, ModelSpec
from compress.tradeoff.search import Measurement

TIMED = {
    "good": Estimate(3.0, 2.9, 3.1),
    "fair": Estimate(2.0, 1.9, 2.1),
    "poor": Estimate(1.0, 0.9, 1.1),
}
ORDER = ("good", "fair", "poor")


@pytest.mark.parametrize(
    ("budget", "chosen", "right"),
    [
        (5.0, "good", True),
        (5.0, "fair", False),
        (2.5, "fair", True),
        (2.5, "good", False),
        (2.5, "poor", False),
        (2.5, None, False),
        # The budget lies in an interval: either way.
        (3.0, "good", True),
        (3.0, "fair", True),
        (3.0, "poor", False),
        (1.0, None, True),
        (1.0, "poor", True),
        (0.5, None, True),
    ],
)
def test_a_right_choice(budget: float, chosen: str | None, right: bool) -> None:
    assert was_right(Selection(budget, chosen, ORDER), TIMED) is right


def test_a_candidate_that_was_not_timed_is_too_slow() -> None:
    order = ("huge", *ORDER)
    assert was_right(Selection(5.0, "good", order), TIMED)
    assert not was_right(Selection(5.0, "huge", order), TIMED)


def test_what_straddled_the_budget_when_the_choice_was_made_counts_either_way() -> None:
    assert was_right(Selection(3.5, "fair", ORDER, straddled=("good",)), TIMED)
    assert not was_right(Selection(3.5, "poor", ORDER, straddled=("good",)), TIMED)
    assert not was_right(Selection(1.5, "fair", ORDER, straddled=("fair",)), TIMED)


def test_what_speaks_against_a_choice_has_to_say_so_again() -> None:
    slower, faster = Estimate(4.0, 3.9, 4.1), Estimate(2.0, 1.9, 2.1)
    assert not was_right(Selection(3.5, "fair", ORDER), TIMED)
    assert was_right(Selection(3.5, "fair", ORDER, at_once={"good": slower}), TIMED)
    assert not was_right(Selection(3.5, "fair", ORDER, at_once={"good": faster}), TIMED)
    # The chosen one was too slow when all were timed.
    assert not was_right(Selection(2.5, "good", ORDER), TIMED)
    assert was_right(Selection(2.5, "good", ORDER, at_once={"good": faster}), TIMED)
    assert not was_right(Selection(2.5, "good", ORDER, at_once={"good": slower}), TIMED)
    assert against(Selection(2.5, None, ()), TIMED) == ["poor"]
    assert was_right(Selection(2.5, None, (), at_once={"poor": slower}), TIMED)


def test_what_is_in_the_headroom_counts_either_way() -> None:
    # "good" takes up to 3.1 of 3.3, of which a tenth is left free.
    tight = Selection(3.3, "fair", ORDER, headroom=0.1)
    assert was_right(tight, TIMED)
    assert not was_right(replace(tight, headroom=0.0), TIMED)
    assert was_right(replace(tight, chosen="good"), TIMED)


def test_a_budget_is_kept_by_the_upper_bound() -> None:
    found = [held(TIMED["fair"], budget) for budget in (2.2, 2.0, 1.8)]
    assert found == ["yes", "within its interval", "NO"]


@pytest.fixture
def options(tmp_path: Path) -> Namespace:
    return Namespace(trials=tmp_path, threads=1, selections=3, slowest_ms=1.0, seed=0, headroom=0.1)


def test_budgets_are_the_same_every_time(options: Namespace) -> None:
    timed = {
        name: Estimate(*(end / 1e3 for end in vars(each).values())) for name, each in TIMED.items()
    }
    budgets = drawn_budgets(timed, options)
    assert budgets == drawn_budgets(timed, options)
    assert len(set(budgets)) == 3
    assert all(1e-3 / 1.2 <= each <= 1e-3 * 1.2 for each in budgets)


def test_everything_is_done_once_and_in_turn(
    options: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[str] = []

    def time_untrained(spec: ModelSpec, _budget: Budget, _limit: None) -> Measurement:
        timed.append(spec.name)
        # Half of them are beyond the slowest that counts.
        seconds = 0.4e-3 * architecture(spec).size[-1]
        return Measurement(Estimate(seconds, seconds, seconds), 1)

    def select(budget_s: float, headroom: float, _target: Any) -> dict[str, Any]:
        found = {"chosen": "wrn-10-1", "order": ["wrn-10-1"], "seconds": 1.0}
        return {"budget_s": budget_s, "headroom": headroom, **found}

    def time_again(selection: dict[str, Any], _options: Namespace) -> dict[str, Any]:
        again = {"value": 1e-4, "low": 1e-4, "high": 1e-4}
        return {"again_of": selection["budget_s"], "chosen": "wrn-10-1", "again_s": again}

    for function in (time_untrained, select, time_again):
        monkeypatch.setattr(budget_kept, function.__name__, function)
    done: list[dict[str, Any]] = []
    while (found := step(done, options)) is not None:
        done.append(found)
    # What is deeper or wider than something that was too slow is not timed.
    assert "wrn-10-3" in timed
    assert "wrn-16-3" not in timed
    assert "wrn-10-4" not in timed
    assert "wrn-40-2" in timed
    assert len([each for each in done if "order" in each]) == 3
    assert len([each for each in done if "again_s" in each]) == 3
    assert {each["headroom"] for each in done if "order" in each} == {0.1}
    page = "\n".join(markdown(done, 1, 0.1))
    assert "10% of each budget left free" in page
    assert "- kept by its upper bound: 3 of 3 (95%: 29% to 100%)" in page


def test_nothing_yet_is_a_page_too() -> None:
    assert "none yet" in "\n".join(markdown([], 1, 0.1))
