"""Whether a network is better than one that does not look at the images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compress.tasks.deciding import REJECTING_DEVIATIONS
from compress.tasks.task import Chance, Standing
from compress.units import format_percent

# The probability with which a network that only guesses counts as better than chance.
SIGNIFICANCE = 1e-3
# So many standard deviations above the mean of a normal distribution is as unlikely.
DECIDING_DEVIATIONS = 3.09
# Accuracy that goes less than this share of the way from chance to 1 is next to chance.
NEXT_TO_CHANCE = 0.1
# Keeps a deviation of 0 from being divided by.
EPSILON = 1e-5


def compare_with_chance(
    predicted: Tensor, labels: Tensor, classes: int, *, tried: int = 1
) -> Chance:
    """Judges answers [n] to images with these labels [n], of so many classes.

    Chance is the better of two: a uniform guess, and what the network's own answers would score
    if they were dealt out to the images at random (an answer that is always the commonest class
    scores no more than that; Cohen's kappa rests on the same). The network is better where its
    hits would be less likely than SIGNIFICANCE under either, the first by the binomial
    distribution, the second by a normal one with the mean and variance of hits under random
    permutations. It is no better where it has no more hits than chance, or where the images are
    enough to show that it is next to chance. In between it is undecided.

    Of the best of several that were tried, the probability may be so many times smaller
    (Bonferroni's correction).
    """
    labels = labels.cpu()
    count = len(labels)
    hits = int((predicted == labels).sum())
    answers = torch.bincount(predicted, minlength=classes).double() / count
    shares = torch.bincount(labels, minlength=classes).double() / count
    blind = float((answers * shares).sum())
    chance = max(1 / classes, blind)
    share = hits / count
    both = answers * shares
    variance = (both * (1 - answers - shares)).sum() + both.sum() ** 2
    deviations = (share - blind) / math.sqrt(max(float(variance), EPSILON**2) / max(count - 1, 1))
    by_deal = 0.5 * math.erfc(deviations / math.sqrt(2))
    found = (
        f"it is right on {format_percent(share, 1)} of {count} images; a guess is right on "
        f"{format_percent(1 / classes, 1)}, the most common class on "
        f"{format_percent(float(shares.max()), 1)}, and its own answers in random order on "
        f"{format_percent(blind, 1)}."
    )
    if max(binomial_tail(hits, count, 1 / classes), by_deal) <= SIGNIFICANCE / tried:
        return Chance(Standing.BETTER, found)
    above = share - chance > EPSILON / count
    highest = share + REJECTING_DEVIATIONS * math.sqrt(share * (1 - share) / count)
    next_to = chance + NEXT_TO_CHANCE * (1 - chance)
    # One that has nothing wrong cannot be refused, however few the images.
    if hits < count and not (above and highest >= next_to):
        return Chance(Standing.NO_BETTER, found, _cause(predicted, labels, classes, share))
    enough = "images of more classes"
    if above:
        needed = DECIDING_DEVIATIONS**2 * chance * (1 - chance) / (share - chance) ** 2
        enough = f"about {max(math.ceil(needed), count + 1):,} of its kind"
    return Chance(
        Standing.UNDECIDED,
        f"{found} {count} images are too few to decide; {enough} would be enough.",
    )


def _cause(predicted: Tensor, labels: Tensor, classes: int, share: float) -> str:
    """Why answers [n] may be no better; with a hint where renumbering them would help."""
    # The best that renumbering the classes could do.
    table = torch.zeros(classes, classes, dtype=torch.long)
    table.index_put_((predicted, labels), torch.ones_like(labels), accumulate=True)
    renumbered = float(table.max(dim=1).values.sum()) / len(labels)
    commonest = float(torch.bincount(labels).max()) / len(labels)
    hint = ""
    if renumbered > 2 * max(share, commonest) and renumbered > 0.5:
        hint = (
            " (likely: with other class numbers it would be right on "
            f"{format_percent(renumbered, 1)})"
        )
    return f"its classes are others or in another order{hint}"


def binomial_tail(successes: int, trials: int, chance: float) -> float:
    """P(X >= successes) of X ~ Binomial(trials, chance), exactly."""
    if successes <= 0:
        return 1.0
    total = 0.0
    for count in range(successes, trials + 1):
        log_ways = math.lgamma(trials + 1) - math.lgamma(count + 1)
        log_ways -= math.lgamma(trials - count + 1)
        total += math.exp(
            log_ways + count * math.log(chance) + (trials - count) * math.log1p(-chance)
        )
    return min(total, 1.0)
