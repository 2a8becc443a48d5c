from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from compress.errors import UsageError
from compress.gate.latency import (
    FIRST_LOOK_ERROR,
    LatencyRule,
    _outside,
    combine,
    error_of_a_look,
    in_percent,
    ratio_of,
    spread_of,
)
from compress.gate.verdict import Outcome
from compress.profiling.protocol import LOOKS
from compress.results import Estimate


@pytest.mark.parametrize(
    ("rounds", "error", "table"),
    # One-sided critical values of the signed-rank statistic, as any table has them.
    [(12, 0.005, 7), (20, 0.025, 52), (24, 0.005, 61), (25, 0.01, 76)],
)
def test_as_many_means_lie_outside_as_the_table_says(rounds: int, error: float, table: int) -> None:
    assert _outside(rounds, error) == table + 1


def test_the_bounds_of_six_rounds_are_the_extremes() -> None:
    other = np.full(6, 2.0)
    candidate = other * [1.01, 1.05, 1.02, 1.03, 1.04, 1.06]
    found = ratio_of(candidate, other)
    assert found.low == pytest.approx(1.01)
    assert found.high == pytest.approx(1.06)
    logs = np.log([1.01, 1.05, 1.02, 1.03, 1.04, 1.06])
    means = [(logs[i] + logs[j]) / 2 for i in range(6) for j in range(i, 6)]
    assert found.value == pytest.approx(math.exp(np.median(means)))


def test_a_ratio_and_its_inverse_have_the_same_bounds() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(1, 2, 24), rng.uniform(1, 2, 24)
    there, back = ratio_of(a, b), ratio_of(b, a)
    assert there.low == pytest.approx(1 / back.high)
    assert there.value == pytest.approx(1 / back.value)


def test_one_round_gone_wrong_moves_little() -> None:
    other = np.ones(12)
    candidate = np.linspace(1.0, 1.02, 12)
    before = ratio_of(candidate, other)
    candidate[3] = 50.0
    after = ratio_of(candidate, other)
    assert after.value == pytest.approx(before.value, abs=0.005)
    assert after.low == pytest.approx(before.low, abs=0.005)


def test_fewer_than_six_rounds_say_nothing() -> None:
    with pytest.raises(ValueError, match="6 are the least"):
        ratio_of([1.0] * 5, [1.0] * 5)


@pytest.mark.parametrize("rounds", [7, 8, 9, 13, 47])
def test_rounds_that_end_between_looks_have_bounds_too(rounds: int) -> None:
    found = ratio_of(np.linspace(1, 1.1, rounds), np.ones(rounds))
    assert 1 <= found.low < found.value < found.high <= 1.1


def test_the_errors_of_four_looks_add_up_to_two_and_a_half_percent() -> None:
    assert FIRST_LOOK_ERROR == 1 / 64
    assert sum(map(error_of_a_look, LOOKS)) <= 0.025
    # Time may be up after seven or eight rounds, which cannot err by less than this.
    assert error_of_a_look(6) + 1 / 2**7 <= 0.025


def ever_below(logs: np.ndarray, bound: float, looks: dict[int, float]) -> bool:
    """Whether at any look the upper bound is below, at the error that the look may have."""
    for rounds, error in looks.items():
        first, second = np.triu_indices(rounds)
        means = np.sort((logs[first] + logs[second]) / 2)
        if means[-_outside(rounds, error)] < bound:
            return True
    return False


def test_a_model_that_is_slower_by_what_is_allowed_seldom_passes() -> None:
    rng = np.random.default_rng(0)
    ours = {look: error_of_a_look(look) for look in LOOKS}
    # What 95% at each look would be: several chances to be lucky.
    naive = dict.fromkeys(LOOKS, 0.025)
    draws = [0.03 * rng.standard_normal(48) for _ in range(2000)]
    assert np.mean([ever_below(logs, 0.0, ours) for logs in draws]) <= 0.03
    assert np.mean([ever_below(logs, 0.0, naive) for logs in draws]) > 0.05


@pytest.mark.parametrize(
    ("low", "value", "high", "outcome"),
    [
        (0.99, 1.00, 1.01, Outcome.PASS),
        (0.80, 0.81, 0.82, Outcome.PASS),
        (1.04, 1.05, 1.06, Outcome.FAIL),
        (1.011, 1.05, 1.09, Outcome.FAIL),
        # Surely slower, and surely by less than is allowed.
        (1.015, 1.02, 1.025, Outcome.PASS),
        # Surely slower, and perhaps by more than is allowed: another look.
        (1.015, 1.02, 1.04, Outcome.INCONCLUSIVE),
        # Slower by more than is allowed, or by nothing that counts.
        (1.005, 1.05, 1.09, Outcome.INCONCLUSIVE),
        (0.9, 1.0, 1.1, Outcome.INCONCLUSIVE),
        (0.99, 1.0, 1.03, Outcome.INCONCLUSIVE),
    ],
)
def test_the_rule(low: float, value: float, high: float, outcome: Outcome) -> None:
    assert LatencyRule().decide(Estimate(value, low, high)) is outcome


def test_what_is_allowed_moves_both_limits() -> None:
    found = Estimate(1.05, 1.04, 1.06)
    assert LatencyRule(0.10).decide(found) is Outcome.PASS
    assert LatencyRule(0.03).decide(found) is Outcome.FAIL
    small = Estimate(1.008, 1.006, 1.012)
    assert LatencyRule(0.005).decide(small) is Outcome.FAIL
    assert LatencyRule(0.03).decide(small) is Outcome.PASS


def test_what_is_noise_lies_below_what_is_allowed() -> None:
    rules = [LatencyRule(allowed) for allowed in (0.001, 0.005, 0.01, 0.03, 0.1, 1.0)]
    assert all(0 < rule.noise < rule.allowed for rule in rules)
    assert [rule.noise for rule in rules[-3:]] == [0.01, 0.01, 0.01]
    assert all(a.noise <= b.noise for a, b in pairwise(rules))


@pytest.mark.parametrize("allowed", [0.0, -0.03, 0.0003, math.nan, math.inf])
def test_what_cannot_be_told_cannot_be_asked(allowed: float) -> None:
    with pytest.raises(UsageError, match="--max-slowdown"):
        LatencyRule(allowed)


def test_a_stored_ratio_is_doubted_by_five_times_its_spread() -> None:
    stored = (0.50, 0.505, 0.495, 0.50, 0.50)
    spread = spread_of(stored)
    assert spread == pytest.approx(np.std(np.log(stored), ddof=1))
    found = combine(Estimate(0.55, 0.54, 0.56), stored)
    assert found.value == pytest.approx(1.1)
    assert found.low == pytest.approx(0.54 / 0.5 * math.exp(-5 * spread))
    assert found.high == pytest.approx(0.56 / 0.5 * math.exp(5 * spread))


def test_ratios_are_told_as_changes() -> None:
    assert in_percent(Estimate(1.0523, 0.99, 1.1)) == "+5.2% (95%: -1.0% to +10.0%)"


@pytest.mark.parametrize(
    ("fast", "whole", "outcome"),
    [
        ((0.99, 1.02), (0.95, 1.09), Outcome.PASS),
        # Not shown to be below 1.1, and neither to be above 1.03.
        ((0.99, 1.02), (0.95, 1.11), Outcome.INCONCLUSIVE),
        ((0.99, 1.04), (0.95, 1.05), Outcome.INCONCLUSIVE),
        # A model that is slow in some of its calls.
        ((0.99, 1.02), (1.04, 1.06), Outcome.FAIL),
        ((0.99, 1.02), (2.00, 3.00), Outcome.FAIL),
        ((1.02, 1.06), (0.95, 1.05), Outcome.FAIL),
        # A busy machine that leaves all calls unknown.
        ((0.99, 1.02), (0.80, 1.30), Outcome.INCONCLUSIVE),
    ],
)
def test_fast_calls_and_all_calls_are_judged(
    fast: tuple[float, float], whole: tuple[float, float], outcome: Outcome
) -> None:
    ratios = [Estimate(sum(ends) / 2, *ends) for ends in (fast, whole)]
    assert LatencyRule().decide(*ratios) is outcome
