"""Whether one model is slower than another, from rounds in which both were timed.

A round has two figures, each log(time(candidate) / time(other)) of the same calls.

The time of *fast calls* is the lower decile of those that were not disturbed. On a core that others
share too, medians scatter several times as much, for caches that somebody else has filled slow down
calls that nobody interrupts (benchmarks/fast_calls.py). So small slowdowns are found by this one.
It is blind to work that only some of the calls do: nine of ten may take ten times as long.

The time of *all calls* is their geometric mean, interruptions left out: the mean of log(time) is
compared, over the whole distribution, so that slow calls are seen that leave the median alone. A
share p that takes k times as long adds p log(k), 26% where one of ten takes ten times as long. A
busy machine makes calls of both models slower, in the same rounds and in random order, which moves
the ratio to neither side and widens its interval, to several times that of fast calls. Of a call
that was interrupted the CPU time counts where that is known to be its work; else the longer a call,
the more often an interruption would count as its own.

The ratio is the Hodges-Lehmann estimate over rounds, the median of all pairwise means, and its
bounds are those of Wilcoxon's signed-rank test inverted (Hollander, Wolfe and Chicken,
Nonparametric Statistical Methods, 3.2 and 3.3): exact for any number of rounds, where rounds are
independent and symmetric about their middle. In an A/A comparison they are, since either copy may
be the numerator. Of the same rounds they make more than a bootstrap of the median does, and six
rounds do not make them too narrow.

There are four looks, after 6, 12, 24 and 48 rounds. A 95% interval at each of them would be wrong
at one of them far more often than 5%. So a look may err by no more than ``error_of_a_look``, on
either side; that adds up to at most 2.5%, and the four intervals hold together with 95%. Bootstrap
intervals of 95% at each look pass a model that is slower by exactly what is allowed three times as
often (benchmarks/gate.py prints both).

Three limits make the rule. ``allowed`` (tau) is what a user calls too slow. ``noise`` (g) is what
is never called slower, however sure the interval is: two copies of one file may differ by so much
by where their memory came to lie. ``allowed_of_all`` is tau and 7% more, for on a core that others
use no number of rounds that somebody waits for shows the ratio of all calls to be below tau.

    PASS   the upper bound is below 1 + tau in fast calls and below 1 + tau + 7% in all
    FAIL   in fast calls the lower bound is above 1 + g, and the ratio itself above 1 + tau;
           or in all calls the lower bound is above 1 + tau
    else   another look, and after the last INCONCLUSIVE

What that promises: a model that is slower by tau in its fast calls, or by tau + 7% in all of them,
passes in at most 2.5% of checks, for that bound would have to err. An unchanged one fails in fewer:
its lower bound has to err by g in fast calls or by tau in all, the fast ones have to come out above
1 + tau, too, and all of it has to happen once more in a second process. On a quiet machine the
bounds of all calls are narrow, and what is slower by a little more than tau on average fails by
them; on a busy one it may pass up to 7% above.

A slowdown between g and tau is allowed: it passes once it is known to be below tau. One a little
above tau fails or stays inconclusive, for how long it takes to tell it from tau grows without end.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress import defaults
from compress.errors import UsageError
from compress.gate.verdict import Outcome
from compress.profiling.estimates import Array
from compress.profiling.protocol import LOOKS
from compress.results import Estimate

MAX_SLOWDOWN = defaults.MAX_SLOWDOWN / 100
# Nothing that is smaller is called a slowdown, whatever is allowed.
LARGEST_NOISE = 0.01
# All calls scatter more than fast ones: by 2 to 9% a round where a dozen processes share two cores.
MARGIN_OF_ALL = 0.07
# Less cannot be told by any number of rounds that somebody waits for.
SMALLEST_ALLOWED = 0.001

# The least that six rounds can err by is 1/64, when all of them lie on one side.
FIRST_LOOK_ERROR = 1 / 2 ** LOOKS[0]
NEXT_LOOK_ERROR = 0.003

# A ratio that was stored is known to within so many standard deviations of its runs.
STORED_DEVIATIONS = 5.0
STORED_RUNS = 5


@dataclass(frozen=True)
class LatencyRule:
    """When a candidate is too slow.

    Attributes:
        allowed: tau, as a fraction: 0.03 allows it to be 3% slower.

    Raises:
        UsageError: so little cannot be told by measuring, or it is no number.
    """

    allowed: float = MAX_SLOWDOWN

    def __post_init__(self) -> None:
        if not SMALLEST_ALLOWED <= self.allowed < math.inf:
            raise UsageError(
                f"--max-slowdown is {self.allowed:.3%}; it takes {SMALLEST_ALLOWED:.1%} or more, "
                "such as 3%. Smaller slowdowns cannot be measured."
            )

    @property
    def noise(self) -> float:
        """g: a third of tau, and never more than 1%, so that it lies well below tau."""
        return min(LARGEST_NOISE, self.allowed / 3)

    @property
    def allowed_of_all(self) -> float:
        """By how much all calls may be shown to be slower at most."""
        return self.allowed + MARGIN_OF_ALL

    def decide(self, fast: Estimate, whole: Estimate | None = None) -> Outcome:
        """What ratios time(candidate) / time(other) say; INCONCLUSIVE asks for more rounds.

        Args:
            fast: of fast calls.
            whole: of all calls; None: it is not judged.
        """
        fails = fast.low > 1 + self.noise and fast.value > 1 + self.allowed
        passes = fast.high < 1 + self.allowed
        if whole is not None:
            fails = fails or whole.low > 1 + self.allowed
            passes = passes and whole.high < 1 + self.allowed_of_all
        if fails:
            return Outcome.FAIL
        return Outcome.PASS if passes else Outcome.INCONCLUSIVE


def ratio_of(candidate_s: Sequence[float] | Array, other_s: Sequence[float] | Array) -> Estimate:
    """time(candidate) / time(other), with the bounds of the look that these rounds are.

    Args:
        candidate_s: what a call takes in each round, in seconds [rounds], six or more.
        other_s: of the same rounds [rounds].

    Raises:
        ValueError: fewer than six rounds.
    """
    logs = np.log(np.asarray(candidate_s) / np.asarray(other_s))
    if len(logs) < LOOKS[0]:
        raise ValueError(f"{len(logs)} rounds have no bounds; {LOOKS[0]} are the least.")
    first, second = _pairs(len(logs))
    means = np.sort((logs[first] + logs[second]) / 2)
    outside = _outside(len(logs), error_of_a_look(len(logs)))
    ends = float(np.median(means)), means[outside - 1], means[len(means) - outside]
    return Estimate(*(math.exp(end) for end in ends))


def error_of_a_look(rounds: int) -> float:
    """By how much a look at so many rounds may err, on each side."""
    return FIRST_LOOK_ERROR if rounds <= LOOKS[0] else NEXT_LOOK_ERROR


def combine(now: Estimate, stored: Sequence[float]) -> Estimate:
    """time(candidate) / time(baseline), where both were only ever timed beside a third model.

    Args:
        now: time(candidate) / time(teacher), here.
        stored: time(baseline) / time(teacher) of the runs that were stored, two or more. Their
            median is known to within ``STORED_DEVIATIONS`` of their standard deviations.
    """
    logs = np.log(np.asarray(stored))
    middle = math.exp(float(np.median(logs)))
    doubt = math.exp(STORED_DEVIATIONS * spread_of(stored))
    return Estimate(now.value / middle, now.low / (middle * doubt), now.high / middle * doubt)


def spread_of(ratios: Sequence[float]) -> float:
    """Standard deviation of the logarithms, two or more: 0.01 is one percent."""
    return float(np.std(np.log(np.asarray(ratios)), ddof=1))


def percent(ratio: float) -> str:
    """1.0523 -> '+5.2%'."""
    return f"{ratio - 1:+.1%}"


def in_percent(ratio: Estimate) -> str:
    """'+5.2% (95%: +4.1% to +6.3%)'."""
    return f"{percent(ratio.value)} (95%: {percent(ratio.low)} to {percent(ratio.high)})"


@functools.cache
def _pairs(rounds: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of all pairs of rounds, each with itself among them."""
    first, second = np.triu_indices(rounds)
    return first, second


@functools.cache
def _outside(rounds: int, error: float) -> int:
    """How many of the sorted pairwise means lie beyond the bound on one side, the bound included.

    The signed-rank statistic of n rounds is the sum of those of 1, ..., n that fall to a fair coin.
    The k-th smallest mean is a bound that errs with P(statistic < k).
    """
    ways = np.ones(1)
    for rank in range(1, rounds + 1):
        with_it = np.zeros(len(ways) + rank)
        with_it[: len(ways)] += ways / 2
        with_it[rank:] += ways / 2
        ways = with_it
    # Seven and eight rounds, where time was up, cannot err by as little; they are the last look.
    return max(1, int(np.sum(np.cumsum(ways) <= error * (1 + 1e-9))))
