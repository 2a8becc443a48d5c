"""Whether a classifier is as sure as it is right: the expected calibration error.

Images are put into bins by the probability of the class that is answered; in each bin the share
that is right is held against the mean of those probabilities. The expected calibration error is the
mean of the differences, each bin counting with its images (Guo et al., On Calibration of Modern
Neural Networks, 2017, equation 3, with 15 bins of equal width). Logits that are all multiplied by a
number answer the same classes and have another one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.tasks.rows import Rows

BINS = 15
# Rows of probabilities add up to one within this, in 16 bits, too.
SUM_TOLERANCE = 5e-3


@dataclass(frozen=True)
class Calibration:
    """See ``Confidence``.

    Attributes:
        bins: that each image is in [n].
        sure: the probability of the class that is answered [n].
        right: whether that is the label's, 0 or 1 [n].
    """

    bins: NDArray[np.intp]
    sure: Rows
    right: Rows

    def error(self, weights: Rows | None = None) -> float:
        """The expected calibration error, as a fraction of 1."""
        if weights is None:
            weights = np.ones(len(self.bins))
        gaps = weights * (self.right - self.sure)
        gap = np.bincount(self.bins, weights=gaps, minlength=BINS)
        return float(np.abs(gap).sum() / weights.sum())


def calibration(logits: Tensor, labels: Tensor) -> Calibration:
    """How sure a classifier is of each image, and whether it is right.

    Args:
        logits: float32 [n, C], or probabilities.
        labels: int64 [n].
    """
    values = logits.double().cpu()
    sums = values.sum(dim=1)
    already = bool((values >= 0).all()) and bool(((sums - 1).abs() < SUM_TOLERANCE).all())
    probabilities = values if already else torch.softmax(values, dim=1)
    sure, answered = probabilities.max(dim=1)
    bins = (sure * BINS).ceil().clamp(1, BINS) - 1
    right = answered == labels.cpu()
    return Calibration(bins.numpy().astype(np.intp), sure.numpy(), right.double().numpy())
