"""Whether one classifier is worse than another, from what both said of the same images.

Of n images the candidate loses b that the baseline has right and wins c that it has wrong. All
others say nothing of the difference: with q = (b + c) / n the drop (b - c) / n has a standard
deviation of about sqrt(q / n), which a comparison of two accuracies overlooks.

    PASS   the upper bound of the drop is below what is allowed
    FAIL   its lower bound is above 0, the drop is above what is allowed, and equal classifiers
           would drop so far in no more than 1 of 100 evaluations (McNemar's exact test)
    else   INCONCLUSIVE, with the number of images that would decide

The bounds are Tango's (Statistics in Medicine 17, 1998, 891-908): the drops that a score test of
95% does not reject. Fagerland, Lydersen and Laake (Statistics in Medicine 33, 2014, 2850-2875)
recommend them for paired proportions. Their upper end, which PASS rests on, errs in 2.6% at most
for 200 to 10,000 images and drops of 0.5 to 2 points (tests/gate/test_accuracy.py adds up the
probabilities); Wald's errs in up to 37%, Newcombe's in 3.8%. The lower end errs in up to 5% where
few images differ, and a 95% bound lets one of 40 equal models look worse besides; that is what the
exact test is for, which cannot err more often than it says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from compress.errors import UsageError
from compress.gate.verdict import Comparison, Figures, Outcome
from compress.results import Estimate
from compress.units import format_percent

MAX_DROP = 0.005

# Of the normal distribution, for two-sided 95%.
DEVIATIONS = 1.959964
# How often equal classifiers may fail, and the one-sided deviations of that.
FALSE_ALARMS = 0.01
ALARM_DEVIATIONS = 2.326348

BISECTIONS = 60


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same images.

    Attributes:
        n: images, one or more.
        lost: that the baseline has right and the candidate wrong (b).
        won: that the candidate has right and the baseline wrong (c).
        right: that the candidate has right.
    """

    n: int
    lost: int
    won: int
    right: int

    @classmethod
    def of(cls, candidate: Sequence[bool], baseline: Sequence[bool]) -> Paired:
        """From what each has right [n].

        Raises:
            UsageError: no images, or not the same number.
        """
        if len(candidate) != len(baseline):
            raise UsageError(
                f"The candidate was scored on {len(candidate):,} images and the baseline on "
                f"{len(baseline):,}; both need the same images."
            )
        if not candidate:
            raise UsageError("There are no images to compare accuracies on.")
        pairs = list(zip(candidate, baseline, strict=True))
        return cls(
            n=len(pairs),
            lost=sum(theirs and not ours for ours, theirs in pairs),
            won=sum(ours and not theirs for ours, theirs in pairs),
            right=sum(map(bool, candidate)),
        )

    @property
    def drop(self) -> float:
        """Accuracy of the baseline less that of the candidate, as a fraction of 1."""
        return (self.lost - self.won) / self.n

    @property
    def discordant(self) -> float:
        """q: share of images that one of them alone has right."""
        return (self.lost + self.won) / self.n

    def mcnemar(self) -> float:
        """Exact two-sided p: how often equal classifiers differ by as many images or more."""
        return min(1.0, 2 * self._tail(max(self.lost, self.won)))

    def false_alarm(self) -> float:
        """The same on one side: how often equal classifiers drop as far or further."""
        return self._tail(self.lost)

    def _tail(self, least: int) -> float:
        """P(Binomial(lost + won, 1/2) >= least)."""
        trials = self.lost + self.won
        ways = total = math.comb(trials, least)
        for count in range(least, trials):
            ways = ways * (trials - count) // (count + 1)
            total += ways
        return total / (1 << trials)

    def interval(self) -> Estimate:
        """The drop with Tango's 95% bounds."""

        def bound(deviations: float, low: float, high: float) -> float:
            for _ in range(BISECTIONS):
                middle = (low + high) / 2
                if self._score(middle) > deviations:
                    low = middle
                else:
                    high = middle
            return (low + high) / 2

        drop = self.drop
        return Estimate(drop, bound(DEVIATIONS, -1.0, drop), bound(-DEVIATIONS, drop, 1.0))

    def _score(self, drop: float) -> float:
        """How many standard deviations the counts lie above a drop, which sets that deviation.

        The share of images that only the candidate has right is the likeliest one under that drop
        (Tango's equation 3).
        """
        n, lost, won = self.n, self.lost, self.won
        b = -lost - won + (2 * n - lost + won) * drop
        c = -won * drop * (1 - drop)
        share = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        variance = n * (2 * share + drop * (1 - drop))
        excess = lost - won - n * drop
        if variance <= 0:
            return math.copysign(math.inf, excess) if excess else 0.0
        return excess / math.sqrt(variance)


@dataclass(frozen=True)
class AccuracyRule:
    """When a candidate is too much worse.

    Attributes:
        allowed: by how much its accuracy may drop, as a fraction of 1.

    Raises:
        UsageError: it is no such fraction.
    """

    allowed: float = MAX_DROP

    def __post_init__(self) -> None:
        if not 0 <= self.allowed < 1:
            raise UsageError(
                f"--max-accuracy-drop is {100 * self.allowed:g}; it takes points from 0 to 100, "
                "such as 0.5."
            )

    def decide(self, pair: Paired) -> Outcome:
        """What the answers to the same images say."""
        drop = pair.interval()
        if drop.high < self.allowed:
            return Outcome.PASS
        if drop.low > 0 and drop.value > self.allowed and pair.false_alarm() <= FALSE_ALARMS:
            return Outcome.FAIL
        return Outcome.INCONCLUSIVE

    def images_needed(self, pair: Paired) -> int | None:
        """How many images would decide, if they went as these; None where no number would.

        They have to tell the drop from what is allowed where it is below that, and from none
        where it is above.
        """
        passes = pair.drop <= self.allowed
        distance = self.allowed - pair.drop if passes else pair.drop
        if distance <= 0:
            return None
        variance = pair.discordant - pair.drop**2
        needed = (DEVIATIONS if passes else ALARM_DEVIATIONS) ** 2 * variance / distance**2
        if passes:
            # The bound of n images on which no answer differs is z^2 / (n + z^2).
            needed = max(needed, DEVIATIONS**2 * (1 / distance - 1))
        return max(pair.n + 1, math.ceil(needed))


def compare_accuracy(pair: Paired, rule: AccuracyRule, what: str = "the baseline") -> Comparison:
    """The rule's answer in words.

    Args:
        pair: the answers.
        rule: what is allowed.
        what: the other one is called.
    """
    outcome, drop = rule.decide(pair), pair.interval()
    needed = rule.images_needed(pair) if outcome is Outcome.INCONCLUSIVE else None
    theirs = pair.right / pair.n + pair.drop
    reason = (
        f"{format_percent(pair.right / pair.n)} against {format_percent(theirs)} of {what}: "
        f"{_points(drop.value)} points (95%: {_points(drop.high)} to {_points(drop.low)}), a "
        f"drop of {100 * rule.allowed:g} is allowed; {pair.lost} lost and {pair.won} won of "
        f"{pair.n:,} images, exact McNemar p {_probability(pair.mcnemar())}"
    )
    if needed is not None:
        reason += f"; about {rounded(needed):,} images would decide"
    elif outcome is Outcome.INCONCLUSIVE:
        reason += "; it is exactly at the limit, so no number of images would decide"
    return Comparison(
        "accuracy",
        outcome,
        reason,
        {
            "candidate": pair.right / pair.n,
            "baseline": theirs,
            "n": pair.n,
            "drop": drop.to_dict(),
            "allowed": rule.allowed,
            "lost": pair.lost,
            "won": pair.won,
            "discordant": pair.discordant,
            "mcnemar_p": pair.mcnemar(),
            "images_needed": needed,
        },
        Figures(
            format_percent(theirs),
            format_percent(pair.right / pair.n),
            f"{_points(drop.value)} points",
            f"{-100 * rule.allowed:g} points",
        ),
    )


def _points(drop: float) -> str:
    """A drop of 0.002 -> '-0.20', the change that it is."""
    return f"{-100 * drop + 0.0:+.2f}"


def _probability(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.2g}"


def rounded(count: int) -> int:
    """Two significant digits, upwards: an estimate is no more exact than that."""
    step = int("1" + "0" * max(0, len(str(count)) - 2))
    return math.ceil(count / step) * step
