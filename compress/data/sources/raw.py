"""What every reader gives: a data set as its source has it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.data.images import Images, part_length
from compress.spec import Normalization
from compress.tasks.task import Targets, Task

SMALLEST_SIDE = 8
# What a network is given of one image at most: 4096x4096.
LARGEST_INPUT_PIXELS = 2**24


@dataclass(frozen=True)
class RawData:
    """A data set as its source has it: training and test images, nothing chosen yet.

    Attributes:
        name: "cifar10", or what the file or folder is called.
        train_images: uint8 [n, c, h, w].
        train_targets: of them [n], as the task has them; labels from 0, of a classification.
        test_images: uint8 [m, c, h, w].
        test_targets: of these [m].
        task: what the images ask of a network.
        normalization: the data set's own, or that of the training images.
        flip: whether a mirrored image still has its target. Known data sets say it; of others
            colour images are taken to be, and grey ones, which may show letters, not to be.
        source: what the images were read from, for people: a file's or folder's name, no path.
    """

    name: str
    train_images: Images
    train_targets: Targets
    test_images: Images
    test_targets: Targets
    task: Task
    normalization: Normalization
    flip: bool
    source: str


def measure_normalization(images: Images) -> Normalization:
    """Mean and standard deviation of each channel of uint8 [n, c, h, w], scaled to [0, 1].

    They are worked out from the 256 counts, so that neither the order of the images nor the
    number of threads changes them. A channel of one colour gets the deviation of one grey level.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    channels = range(images.shape[1])
    all_counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for part in images.split(part_length(images)):
        for channel in channels:
            all_counts[channel] += torch.bincount(part[:, channel].flatten(), minlength=256)
    means, deviations = [], []
    for channel in channels:
        counts = all_counts[channel].double()
        share = counts / counts.sum()
        mean = float((share * levels).sum())
        variance = float((share * (levels - mean) ** 2).sum())
        means.append(round(mean, 6))
        deviations.append(round(max(math.sqrt(variance), 1 / 255), 6))
    return Normalization(tuple(means), tuple(deviations))


def mirrors(images: Images) -> bool:
    """Whether images [n, c, h, w] that nobody has said anything of are mirrored in training."""
    return images.shape[1] > 1


def nchw(images: NDArray[np.uint8]) -> Tensor:
    """uint8 [n, h, w, c] -> a tensor [n, c, h, w] with memory of its own."""
    return torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C"))
