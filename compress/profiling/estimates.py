"""From timed calls to a value and how far it can be trusted. No clock, no runtime in here.

Two kinds of interval are used, and they answer different questions.

The median of a model, and the ratio of two models, come from rounds. Calls within a round share
what the machine was doing at the time, so they are no independent evidence of it; rounds are
resampled, calls never (a bootstrap over calls gives intervals that are several times too narrow).

A percentile of single calls, such as p90, comes from all calls, bounded by order statistics: the
number of calls that exceed the true percentile is binomial, whatever the distribution, as long as
calls are independent. Those of a round are not, so calls count for as many as they are worth: their
number divided by the design effect of a cluster sample (Kish, Survey Sampling, 1965), the variance
over rounds of the share of calls above the percentile beside what it would be of independent ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compress.results import Estimate

Array = NDArray[np.float64]

CONFIDENCE = 0.95

# Fewer rounds give no 95% interval: six rounds all lie on one side of the true median with a
# probability of 2 / 2**6 = 3%, five with 6%.
MINIMUM_ROUNDS = 6

# Below this many calls no percentile but the median is given, whatever the binomial bound says.
MINIMUM_CALLS = 64

# So many undisturbed calls of a round have a median worth more than that of all calls.
CLEAN_CALLS = 5

# What the value of a round is of.
UNDISTURBED, CPU_TIME, DISTURBED = "undisturbed", "cpu time", "disturbed"

RESAMPLES = 2000


def clean_median(calls_s: Array, preempted: NDArray[np.bool_] | None) -> tuple[float, bool]:
    """Median of the calls that ran undisturbed, if half of them or five did; else of all.

    On a core that another process shares, a call that outlasts the scheduler's slice is disturbed
    more often than not, and then takes two or three times as long; the few that were not are the
    ones to believe.

    Args:
        calls_s: seconds of each call [n], n >= 1.
        preempted: which calls lost the CPU to another process [n]; None where unknown.

    Returns:
        the median, and whether it is one of undisturbed calls (True where unknown).
    """
    if preempted is None:
        return float(np.median(calls_s)), True
    clean = calls_s[~preempted]
    if len(clean) >= min(CLEAN_CALLS, len(calls_s) / 2):
        return float(np.median(clean)), True
    return float(np.median(calls_s)), False


def median_of_round(
    calls_s: Array, preempted: NDArray[np.bool_] | None, cpu_s: Array | None
) -> tuple[float, str]:
    """The value of a round: by undisturbed calls, else by CPU time, else by all calls.

    On a core that another process shares, a call that outlasts the scheduler's slices by much is
    never undisturbed, and then takes as many times as long as there are processes. The CPU time
    of a thread that never waits leaves out exactly what it was kept from running; each time it
    comes back it finds caches that others have emptied, which costs it some tenths of a
    millisecond more than it would have taken.

    Args:
        calls_s: seconds of each call [n], n >= 1.
        preempted: which calls lost the CPU to another process [n]; None where unknown.
        cpu_s: the calls' CPU time [n]; None where it cannot stand for the wall clock.

    Returns:
        the median in seconds, and what it is of: UNDISTURBED, CPU_TIME or DISTURBED.
    """
    median, clean = clean_median(calls_s, preempted)
    if clean:
        return median, UNDISTURBED
    if cpu_s is not None:
        return float(np.median(cpu_s)), CPU_TIME
    return median, DISTURBED


def median_of_rounds(rounds: Array, *, seed: int = 0) -> Estimate | None:
    """Median over rounds with a bootstrap 95% interval; None below six rounds."""
    if len(rounds) < MINIMUM_ROUNDS:
        return None
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, len(rounds), size=(RESAMPLES, len(rounds)))
    medians = np.median(rounds[picks], axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians, (tail, 1 - tail))
    return Estimate(float(np.median(rounds)), float(low), float(high))


def ratio_of_rounds(numerator: Array, denominator: Array, *, seed: int = 0) -> Estimate | None:
    """Median over rounds of log(numerator / denominator), as a ratio; None below six rounds.

    Args:
        numerator: one value a round [rounds].
        denominator: of the same rounds, in the same order [rounds].
        seed: of the resampling.
    """
    logs = median_of_rounds(np.log(numerator / denominator), seed=seed)
    if logs is None:
        return None
    return Estimate(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high))


def percentile_of_rounds(rounds: Sequence[Array], percentile: float) -> Estimate | None:
    """A percentile of the calls of all rounds with a 95% interval.

    The upper bound is the smallest order statistic x_(k), of n independent calls in ascending
    order, with P(Binomial(n, p) <= k - 1) >= 97.5%: the true percentile lies at or below it with
    that confidence. The lower bound is its mirror image.

    Args:
        rounds: seconds of the calls of each [calls].
        percentile: 0 to 100.

    Returns:
        None where the calls are too few (see ``calls_needed``), or worth too few independent
        ones: it is not known.
    """
    calls_s = np.concatenate(rounds)
    if len(calls_s) < calls_needed(percentile):
        return None
    n, p = len(calls_s), percentile / 100
    value = float(np.quantile(calls_s, p))
    above = np.array([np.mean(one > value) for one in rounds])
    share = float(np.mean(above))
    effect = 1.0
    if len(rounds) > 1 and 0 < share < 1:
        independent = np.mean([share * (1 - share) / len(one) for one in rounds])
        effect = max(1.0, float(np.var(above, ddof=1) / independent))
    worth = int(n / effect)
    upper = _upper_rank(worth, p)
    if upper > worth:
        return None
    lower = max(1, worth + 1 - _upper_rank(worth, 1 - p))
    ordered = np.sort(calls_s)
    low = float(ordered[max(1, math.floor(lower * n / worth)) - 1])
    high = float(ordered[min(n, math.ceil(upper * n / worth)) - 1])
    return Estimate(value, min(low, value), max(high, value))


def why_unknown(calls: int, needed: int) -> str:
    """Why a percentile is not known from so many calls, for the middle of a sentence."""
    return f"it takes {needed}" if calls < needed else "their rounds differ too much"


def calls_needed(percentile: float) -> int:
    """From how many calls on a percentile is given: 64 for p90, 473 for p99.

    The bound must not rest on the single slowest call, which is whatever accident happened: the
    second slowest has to be a bound already, P(at most one of n calls exceeds the percentile)
    <= 5%. That asks for 473 calls at p99 and 46 at p90, and for less than 64 nothing is said (64
    is what the p90 rule of MLPerf's early stopping asks for, at 99% confidence).
    """
    tail = min(percentile, 100 - percentile) / 100
    n = 2
    while (1 - tail) ** n + n * tail * (1 - tail) ** (n - 1) > 1 - CONFIDENCE:
        n += 1
    return max(n, MINIMUM_CALLS)


def outliers(relative: Array) -> int:
    """How many calls lie far out: more than three interquartile ranges above the third quartile.

    Args:
        relative: calls divided by the median of their round [n], so that a slow round is none.
    """
    if len(relative) < 4:
        return 0
    first, third = np.quantile(relative, (0.25, 0.75))
    return int(np.sum(relative > third + 3 * (third - first)))


def _upper_rank(n: int, p: float) -> int:
    """Smallest k with P(Binomial(n, p) <= k - 1) >= 97.5%; n + 1 where there is none."""
    total = 0.0
    for k in range(1, n + 1):
        successes = k - 1
        log_term = (
            math.lgamma(n + 1)
            - math.lgamma(successes + 1)
            - math.lgamma(n - successes + 1)
            + successes * math.log(p)
            + (n - successes) * math.log1p(-p)
        )
        total += math.exp(log_term)
        if total >= (1 + CONFIDENCE) / 2:
            return k
    return n + 1
