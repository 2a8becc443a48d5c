"""Whether a classifier is as sure as it is right: the expected calibration error beside another's.

Images are put into bins by the probability of the class that is answered; in each bin the share
that is right is held against the mean of those probabilities. The expected calibration error is the
mean of the differences, each bin counting with its images (Guo et al., On Calibration of Modern
Neural Networks, 2017, equation 3, with 15 bins of equal width). Logits that are all multiplied by a
number answer the same classes and have another one.

    PASS   the upper bound of how much larger it is, is below what is allowed
    FAIL   its lower bound is above 0, and it is larger by more than what is allowed
    else   INCONCLUSIVE

The bounds are those of a bootstrap over images, both classifiers on the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compress.errors import UsageError
from compress.gate.verdict import Comparison, Figures, Outcome
from compress.profiling.estimates import Array
from compress.results import Estimate
from compress.units import format_percent

BINS = 15
RESAMPLES = 1000
# Rows of probabilities add up to one within this, in 16 bits, too.
SUM_TOLERANCE = 5e-3


@dataclass(frozen=True)
class CalibrationRule:
    """When a candidate is calibrated too much worse.

    Attributes:
        allowed: how much larger its error may be, as a fraction of 1.

    Raises:
        UsageError: it is no such fraction.
    """

    allowed: float

    def __post_init__(self) -> None:
        if not 0 < self.allowed < 1:
            raise UsageError(
                f"--max-calibration-drop is {100 * self.allowed:g}; it takes points above 0 and "
                "below 100, such as 1."
            )

    def decide(self, larger: Estimate) -> Outcome:
        """What the difference of two errors says."""
        if larger.high < self.allowed:
            return Outcome.PASS
        if larger.low > 0 and larger.value > self.allowed:
            return Outcome.FAIL
        return Outcome.INCONCLUSIVE


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """The expected calibration error, as a fraction of 1.

    Args:
        logits: float32 [n, C], or probabilities.
        labels: int64 [n].
    """
    return _error(*_binned(logits, labels), np.ones(len(labels)))


def compare_calibration(
    ours: Tensor, theirs: Tensor, labels: Tensor, rule: CalibrationRule
) -> Comparison:
    """The errors of two classifiers on the same images, judged.

    Args:
        ours: logits of the candidate [n, C].
        theirs: of the baseline [n, C].
        labels: of the images [n].
        rule: what is allowed.
    """
    binned = [_binned(logits, labels) for logits in (ours, theirs)]
    count = len(labels)
    here, there = (_error(*each, np.ones(count)) for each in binned)
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        weights = np.bincount(generator.integers(0, count, count), minlength=count).astype(float)
        drawn.append(_error(*binned[0], weights) - _error(*binned[1], weights))
    low, high = np.quantile(drawn, (0.025, 0.975))
    larger = Estimate(here - there, min(float(low), here - there), max(float(high), here - there))
    outcome = rule.decide(larger)
    reason = (
        f"expected calibration error {format_percent(here)} against {format_percent(there)} of the "
        f"baseline: {100 * larger.value:+.2f} points (95%: {100 * larger.low:+.2f} to "
        f"{100 * larger.high:+.2f}), {100 * rule.allowed:g} allowed; {count:,} images"
    )
    return Comparison(
        "calibration",
        outcome,
        reason,
        {
            "candidate": here,
            "baseline": there,
            "larger": larger.to_dict(),
            "allowed": rule.allowed,
            "n": count,
        },
        Figures(
            format_percent(there),
            format_percent(here),
            f"{100 * larger.value:+.2f} points",
            f"+{100 * rule.allowed:g} points",
        ),
    )


def told_calibration(ours: Tensor, theirs: Tensor | None, labels: Tensor) -> str:
    """The same where nothing is asked of it, for what is not judged."""
    here = f"expected calibration error {format_percent(calibration_error(ours, labels))}"
    if theirs is not None:
        there = format_percent(calibration_error(theirs, labels))
        here += f" against {there} of the baseline"
    return f"{here}, {len(labels):,} images (--max-calibration-drop judges it)"


def _binned(logits: Tensor, labels: Tensor) -> tuple[Array, Array, Array]:
    """Of each image: its bin, the probability of its class, and whether that is right [n]."""
    values = logits.double().cpu()
    sums = values.sum(dim=1)
    already = bool((values >= 0).all()) and bool(((sums - 1).abs() < SUM_TOLERANCE).all())
    probabilities = values if already else torch.softmax(values, dim=1)
    sure, answered = probabilities.max(dim=1)
    bins = (sure * BINS).ceil().clamp(1, BINS) - 1
    right = answered == labels.cpu()
    return bins.numpy().astype(np.intp), sure.numpy(), right.double().numpy()


def _error(bins: Array, sure: Array, right: Array, weights: Array) -> float:
    gap = np.bincount(bins.astype(np.intp), weights=weights * (right - sure), minlength=BINS)
    return float(np.abs(gap).sum() / weights.sum())
