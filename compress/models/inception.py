"""A small Inception with batch normalisation, for CIFAR.

Zhang et al., "Understanding deep learning requires rethinking generalization", arXiv 1611.03530,
appendix A and Figure 3; the modules are simplified from Szegedy et al., arXiv 1512.00567:

    conv3x3, 96 filters
    modules (32, 32), (32, 48)
    downsampling, 80 filters
    modules (112, 48), (96, 64), (80, 80), (48, 96)
    downsampling, 96 filters
    modules (176, 160), (176, 160)
    global average pooling, linear

    module (a, b):  conv1x1 with a filters beside conv3x3 with b filters, concatenated
    downsampling:   conv3x3 of stride 2 beside 3x3 max pooling of stride 2, concatenated

Every convolution is followed by BN and ReLU. The depth counts what an image goes through one after
the other: the stem, eight modules, two downsamplings and the linear layer are 12.

The paper gives 1,649,402 parameters for 10 classes. That is the convolutions' 1,644,320 without
biases, the linear layer's 3,370, and one more for each of 1,712 filters. So batch normalisation
learns a shift and no scale, as is usual before a ReLU, where the next layer can do the scaling (it
is the default of TensorFlow's slim). Here the scale is a buffer of ones: it is not trained, is not
counted as a parameter, and keeps what a checkpoint of a network with learned scales has.

The paper does not say how maps are padded. Padded by one pixel on every side ("padded"), its 28x28
crops give maps of 14 and of the 7x7 that it pools over; without ("unpadded"), whole 32x32 images
do, by way of 15.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.models.initialise import initialise
from compress.models.network import FIRST_STAGES, Network
from compress.spec import ModelSpec


def shifting_norm(channels: int) -> nn.BatchNorm2d:
    """A batch norm that learns its shift alone; its scale is a buffer, ones."""
    norm = nn.BatchNorm2d(channels)
    del norm.weight
    norm.register_buffer("weight", torch.ones(channels))
    return norm


class ConvModule(nn.Module):
    """Convolution, BN, ReLU; the map keeps its size where the stride is 1."""

    def __init__(
        self, spec: ModelSpec, inputs: int, outputs: int, kernel: int, stride: int = 1
    ) -> None:
        super().__init__()
        padded = stride == 1 or spec.shortcut == "padded"
        padding = kernel // 2 if padded else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=spec.conv_bias)
        self.bn = shifting_norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs, h / stride, w / stride]."""
        return functional.relu(self.bn(self.conv(x)))


class InceptionModule(nn.Module):
    """A 1x1 and a 3x3 convolution of the same map, side by side."""

    def __init__(self, spec: ModelSpec, inputs: int, point: int, spatial: int) -> None:
        super().__init__()
        self.point = ConvModule(spec, inputs, point, 1)
        self.spatial = ConvModule(spec, inputs, spatial, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, point + spatial, h, w]."""
        return torch.cat([self.point(x), self.spatial(x)], dim=1)


class Downsampling(nn.Module):
    """A 3x3 convolution of stride 2 beside 3x3 max pooling of stride 2."""

    def __init__(self, spec: ModelSpec, inputs: int, outputs: int) -> None:
        super().__init__()
        self.spatial = ConvModule(spec, inputs, outputs, 3, 2)
        self.padding = 1 if spec.shortcut == "padded" else 0

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs + inputs, h / 2, w / 2].

        Halves are rounded up where the map is padded, down after taking off one where it is not.
        """
        pooled = functional.max_pool2d(x, 3, 2, self.padding)
        return torch.cat([self.spatial(x), pooled], dim=1)


class Inception(Network):
    """Small Inception for images of any size from 8x8, 1 or more channels, any classes."""

    inner_taps = FIRST_STAGES

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        channels = spec.stem_channels
        self.conv = nn.Conv2d(spec.input_shape[0], channels, 3, padding=1, bias=spec.conv_bias)
        self.bn = shifting_norm(channels)
        stages: list[nn.Module] = []
        before = (0, *spec.inception_downsampling)
        for filters, modules in zip(before, spec.inception_modules, strict=True):
            layers: list[nn.Module] = []
            if filters:
                layers.append(Downsampling(spec, channels, filters))
                channels += filters
            for point, spatial in modules:
                layers.append(InceptionModule(spec, channels, point, spatial))
                channels = point + spatial
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.linear = nn.Linear(channels, spec.num_classes)
        initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """The last convolutional feature map, [b, 336m, h / 4, w / 4], after BN and ReLU."""
        features: Tensor = self.stages(functional.relu(self.bn(self.conv(x))))
        return features
