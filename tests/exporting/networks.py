"""Small exported networks of every family, with batch statistics that are not the usual ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from compress.exporting import onnx_from_torch
from compress.exporting.parity import Array
from compress.models.network import Network
from compress.models.registry import build, spec_of
from compress.spec import Normalization

Value = TypeVar("Value")

SHAPE, CLASSES = (3, 16, 16), 5
# A WRN, ResNets with both shortcuts, one with pre-activation and bottlenecks, an Inception.
FAMILIES = ("wrn-10-1", "resnet-8", "resnet-8-b", "preresnet-11", "inception-x0.125")


def network(name: str, seed: int = 3) -> Network:
    """Settled on random images, so that no activation is vanishing or huge."""
    torch.manual_seed(seed)
    built = build(spec_of(name, num_classes=CLASSES, input_shape=SHAPE))
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    built.train()
    with torch.no_grad():
        for _ in range(20):
            built(torch.randn(32, *SHAPE))
    built.eval()
    return built


def exported(name: str, folder: Path, seed: int = 3) -> Path:
    path = folder / f"{name}.onnx"
    model = network(name, seed)
    onnx_from_torch(
        model,
        path,
        spec=model.spec,
        normalization=Normalization((0.5,) * 3, (0.25,) * 3),
        classes=[f"class {number}" for number in range(CLASSES)],
        source={"run": "runs/x"},
    )
    return path


def images(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((count, *SHAPE), dtype=np.float32)


class Made(dict[str, Value]):
    """What is made of a network's name when it is first asked for."""

    def __init__(self, make: Callable[[str], Value]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, name: str) -> Value:
        self[name] = self._make(name)
        return self[name]
