"""Whether one classifier is worse than another, from what both said of the same images.

Of n images the candidate loses b that the baseline has right and wins c that it has wrong. All
others say nothing of the difference: with q = (b + c) / n the drop (b - c) / n has a standard
deviation of about sqrt(q / n), which a comparison of two accuracies overlooks.

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
from dataclasses import asdict, dataclass
from typing import Any

from compress.results import Estimate
from compress.tasks.deciding import DEVIATIONS, images_to_decide
from compress.tasks.means import check_same
from compress.tasks.task import Metric
from compress.units import format_percent

ACCURACY = Metric("accuracy", format_percent, unit="points", scale=100)
BISECTIONS = 60


@dataclass(frozen=True)
class Paired:
    """See ``Pair``: two classifiers on the same images.

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
        check_same(len(candidate), len(baseline), ACCURACY.name)
        pairs = list(zip(candidate, baseline, strict=True))
        return cls(
            n=len(pairs),
            lost=sum(theirs and not ours for ours, theirs in pairs),
            won=sum(ours and not theirs for ours, theirs in pairs),
            right=sum(map(bool, candidate)),
        )

    @property
    def metric(self) -> Metric:
        """See ``Pair``."""
        return ACCURACY

    @property
    def score(self) -> float:
        """Accuracy of the candidate, as a fraction of 1."""
        return self.right / self.n

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

    def deviations(self) -> float:
        """See ``Pair``; of McNemar's test by the normal distribution."""
        differing = self.lost + self.won
        return (self.lost - self.won) / math.sqrt(differing) if differing else 0.0

    def images_needed(self, allowed: float) -> int | None:
        """How many images would decide, if they went as these; None where no number would.

        They have to tell the drop from what is allowed where it is below that, and from none
        where it is above.
        """
        needed = images_to_decide(self.drop, self.discordant - self.drop**2, allowed)
        if needed is None:
            return None
        if self.drop <= allowed:
            # The bound of n images on which no answer differs is z^2 / (n + z^2).
            needed = max(needed, DEVIATIONS**2 * (1 / (allowed - self.drop) - 1))
        return max(self.n + 1, math.ceil(needed))

    @property
    def details(self) -> str:
        """See ``Pair``."""
        return (
            f"{self.lost} lost and {self.won} won of {self.n:,} images, exact McNemar p "
            f"{_probability(self.mcnemar())}"
        )

    def to_dict(self) -> dict[str, Any]:
        """See ``Pair``."""
        return asdict(self)

    def figures(self) -> dict[str, float]:
        """See ``Pair``."""
        return {"discordant": self.discordant, "mcnemar_p": self.mcnemar()}

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
                if self._excess(middle) > deviations:
                    low = middle
                else:
                    high = middle
            return (low + high) / 2

        drop = self.drop
        return Estimate(drop, bound(DEVIATIONS, -1.0, drop), bound(-DEVIATIONS, drop, 1.0))

    def _excess(self, drop: float) -> float:
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


def _probability(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.2g}"
