"""CIFAR residual networks, ResNet-d with d = 6n+2.

He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385, section 4.2:

    conv3x3, 16 filters, BN, ReLU
    three stages of n blocks, 16, 32, 64 filters, the second and third halve the resolution
    block:  conv3x3, BN, ReLU, conv3x3, BN, plus the shortcut, ReLU
    global average pooling, linear

Where the shape changes, the shortcut takes every second pixel and pads the new channels with
zeros (option A), or is a 1x1 convolution with BN (option B; in every block it is option C). Some
networks average over windows of the last map, and their classifier reads the averages of all.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from compress.models.initialise import initialise
from compress.models.network import FIRST_STAGES, Network
from compress.models.stages import residual_stages
from compress.spec import ModelSpec


class PadShortcut(nn.Module):
    """Option A: every second pixel, new channels filled with zeros at the end or at both ends."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, both_ends: bool) -> None:
        super().__init__()
        before = (outputs - inputs) // 2 if both_ends else 0
        self.padding = (0, 0, 0, 0, before, outputs - inputs - before)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs, ceil(h / stride), ceil(w / stride)]."""
        return functional.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


class BasicBlock(nn.Module):
    """conv3x3, BN, ReLU, conv3x3, BN, plus the shortcut, ReLU."""

    def __init__(
        self, spec: ModelSpec, inputs: int, outputs: int, stride: int, *, shortcut: bool = False
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if spec.stride_conv == 1 else (1, stride)
        bias = spec.conv_bias
        self.conv1 = nn.Conv2d(inputs, outputs, 3, first, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, second, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        everywhere = spec.shortcut == "conv-all"
        if shortcut or everywhere or stride != 1 or inputs != outputs:
            if spec.shortcut in ("conv", "conv-all"):
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=bias), nn.BatchNorm2d(outputs)
                )
            else:
                both = spec.shortcut == "pad-both"
                self.shortcut = PadShortcut(inputs, outputs, stride, both_ends=both)

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs, h / stride, w / stride]."""
        residual = functional.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        return functional.relu(residual + self.shortcut(x))


class ResNet(Network):
    """ResNet-d for images of any size, 1 or more channels, any number of classes."""

    inner_taps = FIRST_STAGES

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        channels = spec.stem_channels
        self.conv = nn.Conv2d(spec.input_shape[0], channels, 3, padding=1, bias=spec.conv_bias)
        self.bn = nn.BatchNorm2d(channels)
        self.stages = residual_stages(spec, BasicBlock)
        self.linear = nn.Linear(spec.classifier_inputs, spec.num_classes)
        initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """The last convolutional feature map, [b, 64m, h / 4, w / 4], after ReLU."""
        features: Tensor = self.stages(functional.relu(self.bn(self.conv(x))))
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Logits [b, classes] of a feature map [b, 64m, h, w]."""
        if self.spec.pool:
            pooled = functional.avg_pool2d(features, self.spec.pool).flatten(1)
        else:
            pooled = features.mean(dim=(2, 3))
        logits: Tensor = self.linear(pooled)
        return logits
