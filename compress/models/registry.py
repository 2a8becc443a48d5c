"""Architecture name -> builder."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from compress.models.inception import Inception
from compress.models.network import Network
from compress.models.preresnet import PreResNet
from compress.models.resnet import ResNet
from compress.models.wrn import WideResNet
from compress.spec import ModelSpec

BUILDERS: dict[str, Callable[[ModelSpec], Network]] = {
    "wrn": WideResNet,
    "resnet": ResNet,
    "preresnet": PreResNet,
    "inception": Inception,
}


def build(spec: ModelSpec) -> Network:
    """An untrained network. Its weights come from torch's global generator."""
    return BUILDERS[spec.arch](spec)


def count_parameters(network: nn.Module) -> int:
    """Trainable parameters; running statistics do not count."""
    return sum(parameter.numel() for parameter in network.parameters())
