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

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from torch import Tensor, nn
from torch.nn import functional

from compress.models.families.architecture import Architecture, Convolution, Layers
from compress.models.families.initialise import initialise
from compress.models.families.residual import Place, Residual, residual_stages
from compress.models.network import FIRST_STAGES, Network
from compress.models.recognition import basic
from compress.models.recognition.layers import Unfit, Weights
from compress.models.recognition.order import Choices
from compress.models.recognition.reading import Reading
from compress.schema.rules import Between, ImageShape
from compress.spec import ModelSpec


@dataclass(frozen=True)
class CifarResNet(Residual):
    """A CIFAR ResNet but for its images and classes; see ``Residual``.

    Its shortcut pads zero channels at the end ("pad", option A) or at both ends ("pad-both"), or is
    a 1x1 convolution with batch normalisation ("conv", option B; He et al. 2015, section 3.3),
    which is in every block with "conv-all" (option C).

    Attributes:
        pool: side of the square windows of the last map whose averages the classifier reads; 0 for
            one average over the whole map.
    """

    pool: Annotated[int, Between(0, 16_384)] = 0

    family = "resnet"
    forms = "resnet-DEPTH (resnet-20), resnet-DEPTH-b for 1x1-convolution shortcuts"
    layout = "CIFAR ResNets (resnet-DEPTH, depth 6n+2) of the same stages and blocks"
    shortcuts = ("pad", "pad-both", "conv", "conv-all")
    statable = (*Residual.statable, "pool")
    step = (6, 1)

    @classmethod
    def parse(cls, text: str) -> dict[str, Any] | None:
        """'resnet-20', 'resnet20', 'resnet-20-b' (option B), 'resnet-8x4' (four times wider)."""
        found = re.fullmatch(r"resnet-?(\d{1,9})(?:x(\d+(?:\.\d+)?))?(?:-?([ab]))?", text)
        if not found:
            return None
        shortcut = {"shortcut": "conv"} if found[3] == "b" else {}
        return {"depth": int(found[1]), "width": float(found[2] or 1), **shortcut}

    @classmethod
    def allowed(cls, text: str) -> Mapping[str, tuple[str, ...]]:
        """Option A has no convolutions, option B has."""
        options = {"a": ("pad", "pad-both"), "b": ("conv", "conv-all")}
        return {"shortcut": options[text[-1]]} if text[-1] in options else {}

    @property
    def name(self) -> str:
        """'resnet-20', 'resnet-8x4', 'resnet-20-b'."""
        wide = "" if self.width == 1 else f"x{self.width:g}"
        return f"resnet-{self.depth}{wide}" + ("-b" if "conv" in self.shortcut else "")

    def faults(self, input_shape: ImageShape) -> list[str]:
        """The windows have to fit into the last map."""
        height, width = last_map(input_shape[1:])
        if self.pool <= min(height, width):
            return []
        return [f"pool is {self.pool}, the last map is {height}x{width}"]

    @property
    def takes_any_size(self) -> bool:
        """Averages over windows are not as many for another size."""
        return not self.pool

    def classifier_inputs(self, image_size: tuple[int, int]) -> int:
        """Values that the classifier reads of an image."""
        height, width = (side // self.pool if self.pool else 1 for side in last_map(image_size))
        return self.stage_channels[-1] * height * width

    def build(self, spec: ModelSpec) -> Network:
        """A ``ResNet``."""
        return ResNet(spec, self)

    def layers(self, input_shape: ImageShape) -> Layers:
        """The stem, two convolutions a block and its shortcut."""
        planes, height, width = input_shape
        convs = [Convolution(3, planes, self.stem_channels, height * width, folded=True)]
        for at in Place.all(self, input_shape):
            convs.append(Convolution(3, at.inputs, at.outputs, at.strided, folded=True))
            convs.append(Convolution(3, at.outputs, at.outputs, at.after, folded=True))
            if (at.changes and self.shortcut == "conv") or self.shortcut == "conv-all":
                convs.append(Convolution(1, at.inputs, at.outputs, at.after, folded=True))
        inputs = self.classifier_inputs((height, width))
        return Layers(tuple(convs), inputs, conv_bias=self.conv_bias)

    @classmethod
    def candidates(cls, input_shape: ImageShape) -> list[str]:
        """Those of He et al., section 4.2."""
        return [f"resnet-{depth}" for depth in (20, 32, 44, 56, 110)]

    @property
    def blocks_and_width(self) -> tuple[int, float] | None:
        """n and m."""
        return self.blocks_per_stage, self.width

    @classmethod
    def read(cls, weights: Weights, choices: Choices, stated: Architecture | None) -> Reading:
        """A network of basic blocks, a WRN or a ResNet."""
        return basic.read(weights, choices, needs_order=stated is None)

    @classmethod
    def readings(
        cls, reading: Reading, image_size: tuple[int, int], stated: Architecture | None
    ) -> list[dict[str, Any]]:
        """See ``Residual``; with the windows that the classifier reads averages of."""
        pool = _pool(reading, image_size, stated.pool if isinstance(stated, cls) else 0)
        return [found | {"pool": pool} for found in super().readings(reading, image_size, stated)]

    @classmethod
    def variants(cls, shape: Mapping[str, Any]) -> list[tuple[str, int]]:
        """The most used PyTorch code pads both ends; the paper's Torch code the last."""
        shortcut = shape["shortcut"]
        shortcuts = (shortcut,) if "conv" in shortcut else ("pad-both", "pad")
        return [(shortcut, stride) for stride in (1, 2) for shortcut in shortcuts]

    @property
    def unseen(self) -> Mapping[str, Any]:
        """See ``Residual``; and the windows, where there are any."""
        return {**super().unseen, **({"pool": self.pool} if self.pool else {})}

    @property
    def structure(self) -> str:
        """See ``Residual``; and the windows, where there are any."""
        windows = f"averages over {self.pool}x{self.pool} windows, " if self.pool else ""
        return windows + super().structure

    def doubt(self, input_shape: ImageShape, stated: Collection[str]) -> str:
        """The windows are a guess, unless they are stated."""
        if not self.pool or "pool" in stated:
            return ""
        return (
            f"The classifier reads {self.classifier_inputs(input_shape[1:])} values: averages "
            f"over {self.pool}x{self.pool} windows of the last map (assumed), or something that "
            "the weights do not show."
        )


def last_map(image_size: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the last map: two strides of 2, rounded up."""
    height, width = image_size
    return (height + 3) // 4, (width + 3) // 4


def _pool(reading: Reading, image_size: tuple[int, int], stated: int) -> int:
    """Side of the windows whose averages the classifier reads; 0 for the whole map.

    Raises:
        Unfit: there are no such windows.
    """
    inputs = reading.weights.tensors[reading.classifier[0]].shape[1]
    averages = inputs // reading.widths[-1]
    if averages == 1:
        return 0
    height, width = last_map(image_size)
    sides = [
        side
        for side in range(1, min(height, width) + 1)
        if (height // side) * (width // side) == averages
    ]
    whole = [side for side in sides if height % side == 0 and width % side == 0]
    if stated in sides:
        return stated
    if not whole:
        raise Unfit(
            f"its classifier '{reading.classifier[0]}' reads {inputs} values, {averages} of each "
            f"of {reading.widths[-1]} channels; averages over windows of the last map, here "
            f"{height}x{width}, cannot be that many"
        )
    return whole[0]


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
        self, own: CifarResNet, inputs: int, outputs: int, stride: int, *, shortcut: bool = False
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if own.stride_conv == 1 else (1, stride)
        bias = own.conv_bias
        self.conv1 = nn.Conv2d(inputs, outputs, 3, first, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, second, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        everywhere = own.shortcut == "conv-all"
        if shortcut or everywhere or stride != 1 or inputs != outputs:
            if own.shortcut in ("conv", "conv-all"):
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=bias), nn.BatchNorm2d(outputs)
                )
            else:
                both = own.shortcut == "pad-both"
                self.shortcut = PadShortcut(inputs, outputs, stride, both_ends=both)

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs, h / stride, w / stride]."""
        residual = functional.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        return functional.relu(residual + self.shortcut(x))


class ResNet(Network):
    """ResNet-d for images of any size, 1 or more channels, any number of classes."""

    inner_taps = FIRST_STAGES

    def __init__(self, spec: ModelSpec, own: CifarResNet) -> None:
        super().__init__()
        self.spec = spec
        self.pool = own.pool
        channels = own.stem_channels
        self.conv = nn.Conv2d(spec.input_shape[0], channels, 3, padding=1, bias=own.conv_bias)
        self.bn = nn.BatchNorm2d(channels)
        self.stages = residual_stages(own, partial(BasicBlock, own))
        self.linear = nn.Linear(own.classifier_inputs(spec.input_shape[1:]), spec.num_classes)
        initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """The last convolutional feature map, [b, 64m, h / 4, w / 4], after ReLU."""
        features: Tensor = self.stages(functional.relu(self.bn(self.conv(x))))
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Logits [b, classes] of a feature map [b, 64m, h, w]."""
        if self.pool:
            pooled = functional.avg_pool2d(features, self.pool).flatten(1)
        else:
            pooled = features.mean(dim=(2, 3))
        logits: Tensor = self.linear(pooled)
        return logits
