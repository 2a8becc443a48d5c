"""Pre-activation residual networks with bottleneck blocks for CIFAR, depth d = 9n+2.

He et al., "Identity Mappings in Deep Residual Networks", arXiv 1603.05027, section 3 (Figure 1b)
and the appendix (ResNet-164 and ResNet-1001 on CIFAR):

    conv3x3, 16 filters
    three stages of n blocks, 64, 128, 256 filters, the second and third halve the resolution
    block:  BN, ReLU, conv1x1, BN, ReLU, conv3x3, BN, ReLU, conv1x1, plus the shortcut;
            the first two convolutions have a quarter of the block's filters
    BN, ReLU, global average pooling, linear

Where the number of channels changes, which it does in the first block of every stage, the shortcut
is a 1x1 convolution without BN. In the authors' code (github.com/KaimingHe/resnet-1k-layers) it
reads the activated input and the stride is in the block's first convolution. Widely used PyTorch
code puts the stride in the 3x3 convolution, and its shortcut reads the raw input.

The literature (arXiv 1605.07146, among others) gives 1.7 million parameters for depth 164 and 10.2
million for depth 1001. Here they are 1,703,258 and 10,327,706, without those of batch normalisation
1,679,034 and 10,178,490: only the latter two agree with both figures.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from compress.models.initialise import initialise
from compress.models.network import FIRST_STAGES, Network
from compress.models.stages import residual_stages
from compress.spec import ModelSpec


class BottleneckBlock(nn.Module):
    """Three times BN, ReLU, convolution (1x1, 3x3, 1x1), plus the shortcut.

    The shortcut is the input itself, or a 1x1 convolution where the shape changes. That
    convolution reads the activated input ("preactivation") or the raw one ("input").
    """

    def __init__(
        self, spec: ModelSpec, inputs: int, outputs: int, stride: int, *, shortcut: bool = False
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if spec.stride_conv == 1 else (1, stride)
        bias = spec.conv_bias
        middle = outputs // 4
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, middle, 1, first, bias=bias)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, second, padding=1, bias=bias)
        self.bn3 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, outputs, 1, bias=bias)
        self.shortcut: nn.Module | None = None
        if shortcut or stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=bias)
        self.shortcut_reads_activation = spec.shortcut == "preactivation"

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs, h / stride, w / stride]."""
        activated = functional.relu(self.bn1(x))
        residual: Tensor = self.conv1(activated)
        residual = self.conv2(functional.relu(self.bn2(residual)))
        residual = self.conv3(functional.relu(self.bn3(residual)))
        bypass: Tensor = x
        if self.shortcut is not None:
            bypass = self.shortcut(activated if self.shortcut_reads_activation else x)
        return residual + bypass


class PreResNet(Network):
    """Pre-activation ResNet-d for images of any size, 1 or more channels, any number of classes."""

    inner_taps = FIRST_STAGES

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        channels = spec.stem_channels
        self.conv = nn.Conv2d(spec.input_shape[0], channels, 3, padding=1, bias=spec.conv_bias)
        self.stages = residual_stages(spec, BottleneckBlock)
        channels = spec.stage_channels[-1]
        self.bn = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, spec.num_classes)
        initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """The last convolutional feature map, [b, 256m, h / 4, w / 4], after BN and ReLU."""
        return functional.relu(self.bn(self.stages(self.conv(x))))
