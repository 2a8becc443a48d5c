"""Images of nothing, and networks that know nothing: enough for what takes how long."""

from __future__ import annotations

import torch

from compress.data.dataset import Dataset, Split
from compress.data.normalization import KNOWN
from compress.data.seeds import generator
from compress.models.network import Network
from compress.models.registry import build
from compress.spec import ModelSpec
from compress.tasks.classification import Classification

CLASSES = 10
SHAPE = (3, 32, 32)
# The images that an untrained network's batch norms get their statistics of.
SETTLED_WITH = 64


def images_of_nothing(
    train: int,
    *,
    validation: int = 0,
    classes: int = CLASSES,
    shape: tuple[int, int, int] = SHAPE,
    device: torch.device | None = None,
) -> Dataset:
    """Random pixels of CIFAR's shape, in memory, labelled in turn; no test images."""
    rng = generator(0, "images of nothing")

    def split(count: int) -> Split:
        images = torch.randint(0, 256, (count, *shape), generator=rng, dtype=torch.uint8)
        return Split(images.to(device), (torch.arange(count) % classes).to(device))

    return Dataset(
        name="nothing",
        train=split(train),
        validation=split(validation),
        test=split(0),
        task=Classification.of_width(classes),
        normalization=KNOWN["cifar10"],
        flip=True,
        sha256="0" * 64,
        train_sha256="0" * 64,
        source="random numbers",
    )


def untaught(spec: ModelSpec, device: torch.device) -> Network:
    """A network in evaluation mode that learns nothing, as a teacher is.

    Its batch norms have the statistics of random images: with those that a network begins with,
    a deep one's outputs are beyond what 16 bits hold, which no trained one's are.
    """
    network = build(spec).to(device).train()
    norms = [each for each in network.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    momentum = [each.momentum for each in norms]
    for each in norms:
        each.momentum = 1.0
    with torch.no_grad():
        network(torch.randn(SETTLED_WITH, *spec.input_shape, device=device))
    for each, before in zip(norms, momentum, strict=True):
        each.momentum = before
    return network.eval().requires_grad_(False)
