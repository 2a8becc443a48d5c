"""Accuracy of anything that turns images into logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.data.dataset import Split
from compress.data.images import Images
from compress.data.normalization import Normalizer, normalize
from compress.errors import DataError
from compress.profiling.runtimes import Subject, runtime_named
from compress.profiling.sample import Sample, images_kept
from compress.spec import Normalization, Target
from compress.training.team import ALONE, Team

# Large enough to keep the cores busy, small enough for any memory.
EVALUATION_BATCH = 250
# What a timing gets to draw from.
SAMPLE_IMAGES, SAMPLE_BYTES = 1000, 64_000_000

Predict = Callable[[Tensor], Tensor]


def predictor(network: nn.Module) -> Predict:
    """Normalised images [b, c, h, w] -> logits [b, C] on the CPU, in evaluation mode.

    The images may lie on another device than the network.
    """

    def predict(images: Tensor) -> Tensor:
        was_training = network.training
        network.eval()
        there = images.to(next(network.parameters()).device)
        with torch.inference_mode():
            logits: Tensor = network(there.contiguous(memory_format=torch.channels_last))
        network.train(was_training)
        return logits.float().cpu()

    return predict


@contextmanager
def file_predictor(path: Path, target: Target) -> Iterator[Predict]:
    """The same for a file, as the target's runtime runs it; one of a fixed batch in its batches.

    Raises:
        ModelFileError: the file cannot be loaded.
    """
    runtime, subject = runtime_named(target.runtime), Subject(path.name, path=path)
    shape = runtime.input_of(subject).shape
    session = runtime.load(subject, threads=target.threads)

    def infer(images: Tensor) -> Tensor:
        logits = session.infer(images.cpu().numpy())
        session.synchronize()
        return torch.tensor(logits)  # a copy: the next call may use the same memory

    def in_batches(images: Tensor, size: int) -> Tensor:
        parts = []
        for part in images.split(size):
            missing = size - len(part)
            parts.append(infer(torch.cat([part, part[:1].expand(missing, *part.shape[1:])])))
        return torch.cat(parts)[: len(images)]

    try:
        if shape and isinstance(size := shape[0], int):
            yield lambda images: in_batches(images, size)
        else:
            yield infer
    finally:
        session.close()


def logits_of(predict: Predict, images: Images, normalization: Normalization) -> Tensor:
    """Logits float32 [n, C] of uint8 images [n, c, h, w], batch by batch."""
    parts = [predict(normalize(part, normalization)) for part in images.split(EVALUATION_BATCH)]
    return torch.cat(parts)


def spread(labels: Tensor, count: int) -> Tensor:
    """Positions of at most ``count`` images of all classes alike, mixed; always the same ones."""
    by_class = torch.argsort(labels.cpu(), stable=True)
    count = min(count, len(labels))
    places = torch.linspace(0, len(labels) - 1, count, dtype=torch.float64).round().long()
    mixed = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return by_class[places][mixed]


def timing_sample(split: Split, normalization: Normalization, name: str) -> Sample | None:
    """Images of a split for models to be timed on; None where it has none.

    Args:
        split: of the data; all of its classes are in the sample alike.
        normalization: what the images go through.
        name: of the data.
    """
    if len(split) == 0:
        return None
    most = images_kept(tuple(split.images.shape[1:]), SAMPLE_IMAGES, SAMPLE_BYTES)
    images = split.take(spread(split.labels, most)).images[:]
    return Sample(images.cpu().numpy(), normalization, name)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of logits [n, C] whose largest is the label [n].

    Raises:
        DataError: there are no images.
    """
    if len(labels) == 0:
        raise DataError("Accuracy needs at least one image; this split is empty.")
    return float((logits.argmax(dim=1).cpu() == labels.cpu()).double().mean())


def accuracy_on_device(
    network: nn.Module,
    split: Split,
    normalization: Normalization,
    layout: torch.memory_format = torch.channels_last,
    team: Team = ALONE,
) -> float:
    """Accuracy of a network where its images are; nothing but the figure leaves the device.

    Each process of a team looks at its part of them.
    """
    mine = split.part(team.part(len(split)))
    was_training = network.training
    network.eval()
    hits = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    normalized = Normalizer(normalization, split.labels.device)
    with torch.inference_mode():
        for images, labels in zip(
            mine.images.split(EVALUATION_BATCH), mine.labels.split(EVALUATION_BATCH), strict=True
        ):
            inputs = normalized(images).contiguous(memory_format=layout)
            hits += (network(inputs).argmax(dim=1) == labels).sum()
    network.train(was_training)
    return int(team.total(hits)) / len(split)


def evaluate(predict: Predict, split: Split, normalization: Normalization) -> float:
    """Accuracy on a split, as a fraction of 1."""
    return accuracy(logits_of(predict, split.images, normalization), split.labels)
