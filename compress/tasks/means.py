"""For tasks whose score is a mean over images: what each adds to it, and two models' beside.

The differences of n images, d_i = theirs_i - ours_i, have the mean that is the drop. Its bounds
are those of the normal distribution with the standard error of that mean, and equal models drop so
far with its one-sided probability. Both hold for large samples: of fewer than about 30 images, or
of very skewed differences, they err more often than they say.

A score that is no mean over images (average precision, say) keeps in an ``Evidence`` of its own
what it needs of each image, and takes its bounds from ``bootstrap``, which draws the same images
for both models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.errors import DataError, UsageError
from compress.results import Estimate
from compress.tasks.deciding import DEVIATIONS, images_to_decide
from compress.tasks.task import Metric, Sum, alone

RESAMPLES = 1000


def bootstrap(
    count: int, statistic: Callable[[NDArray[np.float64]], float], value: float
) -> Estimate:
    """A statistic of images with its 95% percentile bootstrap interval; always the same draws.

    Args:
        count: images.
        statistic: how often each image was drawn [count] -> its value.
        value: of all images once.
    """
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        weights = np.bincount(generator.integers(0, count, count), minlength=count).astype(float)
        drawn.append(statistic(weights))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(value, min(float(low), value), max(float(high), value))


class Mean:
    """A ``Tally`` of what each image adds: ``of`` makes it of a batch's outputs and targets."""

    def __init__(self, of: Callable[[Any, Tensor], Tensor], device: torch.device) -> None:
        self._of = of
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        self._seen = 0

    def add(self, outputs: Mapping[str, Tensor], targets: Tensor) -> None:
        """See ``Tally``."""
        self._sum += self._of(outputs, targets).double().sum()
        self._seen += len(targets)

    def value(self, total: Sum = alone) -> float:
        """See ``Tally``.

        Raises:
            DataError: there were no images.
        """
        seen = torch.full_like(self._sum, self._seen)
        found, count = total(torch.stack([self._sum, seen])).tolist()
        if not count:
            raise DataError("A score needs at least one image; this split is empty.")
        return float(found / count)


@dataclass(frozen=True)
class PerImage:
    """See ``Evidence``: what each image adds to a mean.

    Attributes:
        metric: that is the mean.
        values: of the images, in their order.
    """

    metric: Metric
    values: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def value(self) -> float:
        """The mean."""
        return math.fsum(self.values) / len(self.values)

    @property
    def details(self) -> str:
        """See ``Evidence``: how many there are."""
        return f"{len(self.values):,}"

    def take(self, index: Tensor) -> PerImage:
        """See ``Evidence``."""
        return PerImage(self.metric, tuple(self.values[place] for place in index.tolist()))

    def differing(self, other: PerImage) -> int:
        """See ``Evidence``; in the last bits another machine computes otherwise."""
        pairs = zip(self.values, other.values, strict=True)
        return sum(not math.isclose(one, two, rel_tol=1e-3, abs_tol=1e-6) for one, two in pairs)

    def against(self, other: PerImage) -> PairedMeans:
        """See ``Evidence``."""
        return PairedMeans.of(self, other)

    def to_dict(self) -> dict[str, Any]:
        """See ``Evidence``."""
        return {"values": list(self.values)}


@dataclass(frozen=True)
class PairedMeans:
    """See ``Pair``: two models whose scores are means over the same images.

    Attributes:
        metric: of both.
        n: images, one or more.
        score: the candidate's.
        drop: mean of the differences.
        variance: of the differences.
    """

    metric: Metric
    n: int
    score: float
    drop: float
    variance: float

    @classmethod
    def of(cls, candidate: PerImage, baseline: PerImage) -> PairedMeans:
        """From what each image adds to both.

        Raises:
            UsageError: no images, or not the same number.
        """
        check_same(len(candidate), len(baseline), candidate.metric.name)
        differences = np.subtract(baseline.values, candidate.values)
        return cls(
            candidate.metric,
            len(candidate),
            candidate.value,
            float(differences.mean()),
            float(differences.var()),
        )

    @property
    def _error(self) -> float:
        """Standard error of the drop; one image says nothing of it."""
        return math.sqrt(self.variance / (self.n - 1)) if self.n > 1 else math.inf

    def interval(self) -> Estimate:
        """See ``Pair``."""
        far = DEVIATIONS * self._error
        return Estimate(self.drop, self.drop - far, self.drop + far)

    def deviations(self) -> float:
        """See ``Pair``."""
        if self._error == 0:
            return math.copysign(math.inf, self.drop) if self.drop else 0.0
        return self.drop / self._error

    def false_alarm(self) -> float:
        """See ``Pair``."""
        return 0.5 * math.erfc(self.deviations() / math.sqrt(2))

    def images_needed(self, allowed: float) -> int | None:
        """See ``Pair``."""
        needed = images_to_decide(self.drop, self.variance, allowed)
        return None if needed is None else max(self.n + 1, math.ceil(needed))

    @property
    def details(self) -> str:
        """See ``Pair``."""
        return f"{self.n:,} images, one-sided p {self.false_alarm():.2g}"

    def to_dict(self) -> dict[str, Any]:
        """See ``Pair``."""
        return {key: value for key, value in asdict(self).items() if key != "metric"}

    def figures(self) -> dict[str, float]:
        """See ``Pair``."""
        return {"false_alarm_p": self.false_alarm()}


def check_same(candidate: int, baseline: int, score: str) -> None:
    """Only answers to the same images can be compared.

    Args:
        candidate: images that it was scored on.
        baseline: the same.
        score: what is compared, in the singular.

    Raises:
        UsageError: they are not as many, or none.
    """
    if candidate != baseline:
        raise UsageError(
            f"The candidate was scored on {candidate:,} images and the baseline on {baseline:,}; "
            "both need the same images."
        )
    if not candidate:
        raise UsageError(f"There are no images to compare the {score} on.")
