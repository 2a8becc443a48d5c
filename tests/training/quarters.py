"""Images that a small network learns in a second, and such a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.data.dataset import Dataset, Split
from compress.data.normalization import KNOWN, normalize
from compress.models.network import Network
from compress.models.registry import build, spec_of
from compress.spec import ModelSpec, Normalization
from compress.tasks.classification import Classification

CPU = torch.device("cpu")
CLASSES = 4
SIZE = 16


def toy_images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy images whose class is the quarter that is brighter, uint8 [n, 3, 16, 16]."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (count,), generator=rng)
    images = torch.randint(40, 140, (count, 3, SIZE, SIZE), generator=rng)
    half = SIZE // 2
    for index, label in enumerate(labels.tolist()):
        top, left = half * (label // 2), half * (label % 2)
        images[index, label % 3, top : top + half, left : left + half] += 60
    return images.to(torch.uint8), labels


def train(spec: ModelSpec, normalization: Normalization) -> Network:
    """A network that knows the toy images, in a second or two."""
    torch.manual_seed(0)
    network = build(spec).train()
    images, labels = toy_images(512, 1)
    inputs = normalize(images, normalization)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(12):
        for start in range(0, 512, 64):
            loss = nn.functional.cross_entropy(
                network(inputs[start : start + 64]), labels[start : start + 64]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


SPEC = spec_of("resnet-8x0.5", num_classes=CLASSES, input_shape=(3, SIZE, SIZE), shortcut="pad")


def dataset(images: Tensor, labels: Tensor, num_classes: int = CLASSES) -> Dataset:
    """Whose validation images are these."""
    split, task = Split(images, labels), Classification.of_width(num_classes)
    own = KNOWN["cifar10"] if images.shape[1] == 3 else KNOWN["fashion-mnist"]
    return Dataset("toy", split, split, split, task, own, False, "0" * 64, "1" * 64, "here")
