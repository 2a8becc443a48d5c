"""Wide residual networks, WRN-d-m with d = 6n+4.

Zagoruyko and Komodakis, "Wide Residual Networks", arXiv 1605.07146; Table 1 of "Learning Loss
for Knowledge Distillation with Conditional Adversarial Networks", arXiv 1709.00513:

    conv3x3, 16 filters
    three stages of n blocks, 16m, 32m, 64m filters, the second and third halve the resolution
    block:  BN, ReLU, conv3x3, BN, ReLU, dropout, conv3x3, plus the shortcut
    BN, ReLU, global average pooling, linear
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from compress.models.initialise import initialise
from compress.models.network import FIRST_STAGES, Network
from compress.models.stages import residual_stages
from compress.spec import ModelSpec


class PreactivationBlock(nn.Module):
    """BN, ReLU, conv3x3, BN, ReLU, dropout, conv3x3, plus the shortcut.

    The shortcut is the input itself, or a 1x1 convolution where the shape changes. That
    convolution reads the activated input ("preactivation") or the raw one ("input").
    """

    def __init__(
        self, spec: ModelSpec, inputs: int, outputs: int, stride: int, *, shortcut: bool = False
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if spec.stride_conv == 1 else (1, stride)
        bias = spec.conv_bias
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, first, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(spec.dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, second, padding=1, bias=bias)
        self.shortcut: nn.Module | None = None
        if shortcut or stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=bias)
        self.shortcut_reads_activation = spec.shortcut == "preactivation"

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs, h / stride, w / stride]."""
        activated = functional.relu(self.bn1(x))
        residual: Tensor = self.conv1(activated)
        residual = self.conv2(self.dropout(functional.relu(self.bn2(residual))))
        bypass: Tensor = x
        if self.shortcut is not None:
            bypass = self.shortcut(activated if self.shortcut_reads_activation else x)
        return residual + bypass


class WideResNet(Network):
    """WRN-d-m for images of any size, 1 or more channels, any number of classes."""

    inner_taps = FIRST_STAGES

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        channels = spec.stem_channels
        self.conv = nn.Conv2d(spec.input_shape[0], channels, 3, padding=1, bias=spec.conv_bias)
        self.stages = residual_stages(spec, PreactivationBlock)
        channels = spec.stage_channels[-1]
        self.bn = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, spec.num_classes)
        initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """The last convolutional feature map, [b, 64m, h / 4, w / 4], after BN and ReLU."""
        return functional.relu(self.bn(self.stages(self.conv(x))))
