from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.profiling import estimates

F64 = np.float64
Array = NDArray[np.float64]


@pytest.mark.parametrize(("percentile", "calls"), [(90, 64), (99, 473), (95, 93), (10, 64)])
def test_from_how_many_calls_on_a_percentile_is_known(percentile: float, calls: int) -> None:
    assert estimates.calls_needed(percentile) == calls
    ordered = np.arange(1, calls + 1, dtype=F64)
    assert estimates.percentile_of_rounds([ordered[:-1]], percentile) is None
    assert estimates.percentile_of_rounds([ordered], percentile) is not None


@pytest.mark.parametrize(
    ("calls", "percentile", "low", "high"),
    [
        # P(Binomial(100, 1/2) <= 60) = 0.9824 and P(<= 59) = 0.9716: the 61st call is the bound,
        # and by symmetry the 40th from below.
        (100, 50, 40, 61),
        # P(Binomial(473, 0.99) <= 472) = 1 - 0.99^473 = 0.9914, and 0.9502 without the last term.
        (473, 99, 464, 473),
        # Sums of exact fractions.
        (64, 90, 53, 63),
        (200, 90, 171, 189),
        (1000, 99, 983, 997),
    ],
)
def test_bounds_of_a_percentile_are_order_statistics(
    calls: int, percentile: float, low: int, high: int
) -> None:
    ordered = np.random.default_rng(0).permutation(np.arange(1, calls + 1, dtype=F64))
    found = estimates.percentile_of_rounds([ordered], percentile)
    assert found is not None
    assert (found.low, found.high) == (low, high)
    assert found.low <= found.value <= found.high


def test_the_upper_bound_of_p90_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    truth = -np.log(0.1)
    covered = 0
    for _ in range(400):
        found = estimates.percentile_of_rounds([rng.exponential(size=100)], 90)
        assert found is not None
        covered += found.high >= truth
    assert covered / 400 > 0.95


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.2])
def test_calls_of_a_round_that_are_alike_count_for_fewer(spread: float) -> None:
    rng = np.random.default_rng(4)

    def drawn(rounds: int) -> Array:
        whole = spread * rng.standard_normal((rounds, 1))
        return np.exp(whole + 0.05 * rng.standard_normal((rounds, 60)))

    truth = np.quantile(drawn(20000), 0.9)
    found = [estimates.percentile_of_rounds(list(drawn(12)), 90) for _ in range(300)]
    # What is not known is no bound that is too low.
    assert sum(one is None or one.high >= truth for one in found) / 300 > 0.95
    if spread == 0:
        assert all(one is not None and one.high < 1.1 * truth for one in found)


def test_the_value_of_a_round_is_of_undisturbed_calls_then_of_cpu_time_then_of_all() -> None:
    calls = np.array([4.0, 4.0, 4.0, 4.0, 1.0, 1.0, 1.0, 1.0, 1.0, 4.0, 4.0, 4.0])
    cpu = np.full(12, 2.0)
    disturbed = calls > 3
    assert estimates.median_of_round(calls, disturbed, cpu) == (1.0, estimates.UNDISTURBED)
    assert estimates.median_of_round(calls, None, cpu) == (4.0, estimates.UNDISTURBED)
    disturbed[4] = True  # four are left undisturbed
    assert estimates.median_of_round(calls, disturbed, cpu) == (2.0, estimates.CPU_TIME)
    assert estimates.median_of_round(calls, disturbed, None) == (4.0, estimates.DISTURBED)


def test_five_rounds_give_no_interval_and_six_do() -> None:
    assert estimates.median_of_rounds(np.arange(1.0, 6.0)) is None
    found = estimates.median_of_rounds(np.arange(1.0, 7.0))
    assert found is not None
    assert found.value == 3.5
    assert 1.0 <= found.low < 3.5 < found.high <= 6.0


def test_the_bootstrap_covers_the_median_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(300):
        found = estimates.median_of_rounds(rng.lognormal(size=12), seed=seed)
        assert found is not None
        covered += found.low <= 1.0 <= found.high
    assert 0.9 < covered / 300 <= 1.0


def test_equal_rounds_leave_no_doubt_and_equal_seeds_give_equal_bounds() -> None:
    same = estimates.median_of_rounds(np.full(8, 2.5))
    assert same is not None
    assert (same.value, same.low, same.high) == (2.5, 2.5, 2.5)
    rounds = np.random.default_rng(2).lognormal(size=9)
    assert estimates.median_of_rounds(rounds, seed=4) == estimates.median_of_rounds(rounds, seed=4)


def test_a_ratio_does_not_see_what_slows_both() -> None:
    drift = np.array([1.0, 1.7, 0.9, 3.0, 1.1, 2.2, 1.0])
    found = estimates.ratio_of_rounds(4.0 * drift, 2.0 * drift)
    assert found is not None
    assert found.value == pytest.approx(2.0)
    assert found.low == pytest.approx(2.0)
    assert found.high == pytest.approx(2.0)


def test_the_clean_median_leaves_preempted_calls_out_while_enough_are_clean() -> None:
    calls = np.array([1.0, 1.0, 9.0, 9.0])
    half = np.array([False, False, True, True])
    assert estimates.clean_median(calls, half) == (1.0, True)
    most = np.array([False, True, True, True])
    assert estimates.clean_median(calls, most) == (5.0, False)
    assert estimates.clean_median(calls, None) == (5.0, True)
    calls = np.array([1.0] * 5 + [9.0] * 20)
    assert estimates.clean_median(calls, calls > 1) == (1.0, True)
    assert estimates.clean_median(calls[1:], calls[1:] > 1) == (9.0, False)


def test_outliers_are_calls_far_above_the_others() -> None:
    calls = np.concatenate([np.linspace(0.95, 1.05, 40), [2.0, 5.0]])
    assert estimates.outliers(calls) == 2
    assert estimates.outliers(np.linspace(0.95, 1.05, 40)) == 0
    assert estimates.outliers(np.array([1.0, 9.0])) == 0
