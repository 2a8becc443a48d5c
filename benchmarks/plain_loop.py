"""Distillation as the public repositories write it, to compare with.

Images lie in memory as an array; a DataLoader's workers make PIL images of them one by one, crop,
mirror and normalise those; the teacher runs in every step; weights and activations are float32 with
torch's defaults, the fastest convolutions are searched for; the loss and the accuracy are read in
every step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, RandomSampler
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from compress.data.dataset import Dataset

PREFETCHED = 2  # batches a worker has ready, torch's default
TEMPERATURE = 4.0
SOFT, HARD = 0.9, 0.1


class PilImages(TorchDataset[tuple[Tensor, int]]):
    """Images [n, h, w, 3] of bytes, each turned and normalised when it is asked for."""

    def __init__(self, data: Dataset) -> None:
        self.images = np.ascontiguousarray(data.train.images[:].cpu().permute(0, 2, 3, 1).numpy())
        self.labels = data.train.targets.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(data.input_shape[1], padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(data.normalization.mean, data.normalization.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class Meter:
    """A running mean."""

    def __init__(self) -> None:
        self.sum, self.count = 0.0, 0

    def update(self, value: float, count: int) -> None:
        """Takes up the mean of so many."""
        self.sum += value * count
        self.count += count


class PlainLoop:
    """The loop, to be run some steps at a time.

    Args:
        teacher: in evaluation mode, on the device.
        student: on the device.
        data: its images and labels.
        batch_size: of a step.
        workers: of the DataLoader.
        device: that trains.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        data: Dataset,
        *,
        batch_size: int,
        workers: int,
        device: torch.device,
    ) -> None:
        self.teacher = teacher
        self.student = student
        self.device = device
        self.workers = workers
        images = PilImages(data)
        # Without an end: workers that are started anew for each epoch would count against it.
        sampler = RandomSampler(images, replacement=True, num_samples=2**31)
        self.batches = iter(
            DataLoader(images, batch_size=batch_size, sampler=sampler, num_workers=workers)
        )
        self.optimizer = torch.optim.SGD(
            student.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4
        )
        self.losses, self.accuracies = Meter(), Meter()
        self._defaults = _read_defaults()

    def run(self, steps: int) -> float:
        """Seconds that so many steps take, after as many as the workers have ready."""
        self.student.train()
        with _defaults(self._defaults, self.device):
            for _ in range(PREFETCHED * self.workers + 1):
                self._step()
            began_s = time.perf_counter()
            for _ in range(steps):
                self._step()
            wait(self.device)
            return time.perf_counter() - began_s

    def _step(self) -> None:
        images, labels = next(self.batches)
        images, labels = images.to(self.device), labels.to(self.device)
        logits = self.student(images)
        with torch.no_grad():
            said = self.teacher(images)
        soft = functional.kl_div(
            functional.log_softmax(logits / TEMPERATURE, dim=1),
            functional.softmax(said / TEMPERATURE, dim=1),
            reduction="batchmean",
        )
        hard = functional.cross_entropy(logits, labels)
        loss = HARD * hard + SOFT * TEMPERATURE**2 * soft
        right = (logits.argmax(dim=1) == labels).float().mean()
        self.losses.update(loss.item(), len(labels))
        self.accuracies.update(right.item(), len(labels))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _read_defaults() -> tuple[str, str, bool]:
    cudnn: Any = torch.backends.cudnn
    return (
        torch.backends.cuda.matmul.fp32_precision,
        cudnn.conv.fp32_precision,
        torch.are_deterministic_algorithms_enabled(),
    )


@contextmanager
def _defaults(values: tuple[str, str, bool], device: torch.device) -> Iterator[None]:
    """What torch begins with, and the search for the fastest convolutions."""
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    matmul, conv = torch.backends.cuda.matmul, cudnn.conv
    before, benchmark = _read_defaults(), cudnn.benchmark
    matmul.fp32_precision, conv.fp32_precision, deterministic = values
    torch.use_deterministic_algorithms(deterministic)
    cudnn.benchmark = True
    try:
        yield
    finally:
        matmul.fp32_precision, conv.fp32_precision, deterministic = before
        torch.use_deterministic_algorithms(deterministic)
        cudnn.benchmark = benchmark
