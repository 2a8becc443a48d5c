"""The network of the pre-activation families: a stem, three stages of their blocks, BN and ReLU."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from compress.models.families.initialise import initialise
from compress.models.families.residual import MakeBlock, Residual, residual_stages
from compress.models.network import FIRST_STAGES, Network
from compress.spec import ModelSpec


class PreactivationNetwork(Network):
    """A network for images of any size, 1 or more channels, any number of classes.

    Args:
        spec: which network it is.
        own: its family's parameters.
        block: makes the family's blocks.
    """

    inner_taps = FIRST_STAGES

    def __init__(self, spec: ModelSpec, own: Residual, block: MakeBlock) -> None:
        super().__init__()
        self.spec = spec
        channels = own.stem_channels
        self.conv = nn.Conv2d(spec.input_shape[0], channels, 3, padding=1, bias=own.conv_bias)
        self.stages = residual_stages(own, block)
        channels = own.stage_channels[-1]
        self.bn = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, spec.num_classes)
        initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """The last convolutional feature map, [b, c, h / 4, w / 4], after BN and ReLU."""
        return functional.relu(self.bn(self.stages(self.conv(x))))
