"""A second task, for the tests: how bright is the image? One number an image, no label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from compress.data.sources import RawData
from compress.errors import UsageError
from compress.onnx_file import Value
from compress.spec import Normalization
from compress.tasks.means import Mean, PairedMeans, PerImage
from compress.tasks.rows import RowReading, agreement_of_rows, reading_of_rows
from compress.tasks.task import (
    Agreement,
    Arrays,
    Chance,
    Metric,
    Outputs,
    Standing,
    Stored,
    Targets,
)

VALUE = "brightness"
SIZE = 8


def as_text(value: float, digits: int = 2, /) -> str:
    return f"{value:.{digits + 1}f}"


# Less what it is off by on average: more is better, and 0 is the best.
METRIC = Metric("negative_error", as_text)


@dataclass(frozen=True)
class StoredErrors:
    values: tuple[float, ...]

    @property
    def evidence(self) -> PerImage:
        return PerImage(METRIC, self.values)


def scores(outputs: Outputs, targets: Targets) -> Tensor:
    """What each image adds to the score [n]."""
    return -(outputs[VALUE][:, 0] - targets).abs()


@dataclass(frozen=True)
class Brightness:
    name: ClassVar[str] = "regression"
    metric: ClassVar[Metric] = METRIC
    output: ClassVar[str] = VALUE
    noun: ClassVar[str] = "numbers"
    number: ClassVar[str] = "number"
    answer: ClassVar[str] = "number"
    stored: ClassVar[type[Stored]] = StoredErrors
    width: ClassVar[int] = 1
    classes: ClassVar[tuple[str, ...]] = ()

    def width_of(self, outputs: Outputs) -> int:
        return outputs[VALUE].shape[1]

    def targets(self, targets: Targets, smoothing: float = 0.0) -> Targets:
        if smoothing:
            raise UsageError("There are no labels to smooth.")
        return targets

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        return functional.mse_loss(outputs[VALUE][:, 0], targets)

    def strata(self, targets: Targets) -> Tensor:
        return (targets > 0.5).long()

    def tally(self, device: torch.device) -> Mean:
        return Mean(scores, device)

    def evidence(self, outputs: Outputs, targets: Targets) -> PerImage:
        return PerImage(METRIC, tuple(scores(outputs, targets.cpu()).tolist()))

    def pair_of(self, counts: Mapping[str, Any]) -> PairedMeans:
        return PairedMeans(METRIC, **counts)

    def chance(self, outputs: Outputs, targets: Targets, *, tried: int = 1) -> Chance:
        """Beside what always answers with the mean."""
        ours = self.evidence(outputs, targets)
        blind = self.evidence({VALUE: targets.cpu().mean().expand(len(targets), 1)}, targets)
        better = -ours.against(blind).deviations() > 3
        standing = Standing.BETTER if better else Standing.NO_BETTER
        found = f"it is off by {-ours.value:.3f}, and the mean by {-blind.value:.3f}."
        return Chance(standing, found, "its numbers are in another unit")

    def confidence(self, outputs: Outputs, targets: Targets) -> None:
        return None

    def reading(
        self,
        outputs: Sequence[Value],
        file: str,
        wanted: str | None = None,
        *,
        images: int | None = None,
    ) -> RowReading:
        return reading_of_rows(outputs, file, wanted, name=VALUE, images=images)

    def agreement(self, expected: Arrays, found: Arrays) -> Agreement:
        count = len(expected[VALUE])
        return agreement_of_rows(
            expected[VALUE],
            found[VALUE],
            other=np.zeros(count, np.bool_),
            margin=np.zeros(count),
            centred=False,
        )

    def parting(self, expected: Arrays, found: Arrays) -> str:
        return f"the model gives {expected[VALUE].item():.6g}, the file {found[VALUE].item():.6g}"

    def permuted(self, outputs: Outputs, order: Sequence[int]) -> Outputs:
        return outputs

    def with_classes(self, classes: Sequence[str]) -> Brightness:
        return self

    def renumbered(self, targets: Targets, order: Sequence[int]) -> Targets:
        return targets


def grey_images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy grey images of all brightnesses, and how bright each is."""
    rng = torch.Generator().manual_seed(seed)
    level = torch.rand(count, 1, 1, 1, generator=rng)
    noise = 0.1 * torch.randn(count, 1, SIZE, SIZE, generator=rng)
    images = (255 * (level + noise).clamp(0, 1)).round().to(torch.uint8)
    return images, images.float().mean(dim=(1, 2, 3)).div(255)


def read_grey(name: str, **_: object) -> RawData:
    """A source of data, in the place of ``read_source``."""
    own = Normalization((0.5,), (0.3,))
    train, test = grey_images(240, 0), grey_images(120, 1)
    return RawData(name, *train, *test, Brightness(), own, flip=True, source="made here")
