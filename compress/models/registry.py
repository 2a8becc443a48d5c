"""Architecture name -> builder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from compress.models.resnet import ResNet
from compress.models.wrn import WideResNet
from compress.spec import ModelSpec


class Classifier(Protocol):
    """What every network here offers beside being an ``nn.Module``."""

    spec: ModelSpec

    def features(self, x: Tensor) -> Tensor:
        """The last convolutional feature map of images [b, c, h, w]."""
        ...

    def classify(self, features: Tensor) -> Tensor:
        """Logits [b, classes] of that map."""
        ...


Network = WideResNet | ResNet

BUILDERS: dict[str, Callable[[ModelSpec], Network]] = {"wrn": WideResNet, "resnet": ResNet}


def build(spec: ModelSpec) -> Network:
    """An untrained network. Its weights come from torch's global generator."""
    return BUILDERS[spec.arch](spec)


def count_parameters(network: nn.Module) -> int:
    """Trainable parameters; running statistics do not count."""
    return sum(parameter.numel() for parameter in network.parameters())
