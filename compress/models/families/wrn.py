"""Wide residual networks, WRN-d-m with d = 6n+4.

Zagoruyko and Komodakis, "Wide Residual Networks", arXiv 1605.07146; Table 1 of "Learning Loss
for Knowledge Distillation with Conditional Adversarial Networks", arXiv 1709.00513:

    conv3x3, 16 filters
    three stages of n blocks, 16m, 32m, 64m filters, the second and third halve the resolution
    block:  BN, ReLU, conv3x3, BN, ReLU, dropout, conv3x3, plus the shortcut
    BN, ReLU, global average pooling, linear
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from compress.models.families.architecture import Architecture, Convolution, Layers, Published
from compress.models.families.preactivation import PreactivationNetwork
from compress.models.families.residual import FILTERS, Place, Residual
from compress.models.network import Network
from compress.models.recognition import basic
from compress.models.recognition.layers import Weights
from compress.models.recognition.order import Choices
from compress.models.recognition.reading import Reading
from compress.schema.rules import Fraction, ImageShape
from compress.spec import ModelSpec

# Errors on CIFAR-100 test images in %, last epoch, median of five runs: the paper's column
# "student", which is "supervised" here, KD with T = 5, and logit-GAN.
TABLE_5 = {
    "wrn-10-2": (33.22, 32.74, 32.1),
    "wrn-10-4": (28.52, 27.16, 25.75),
    "wrn-10-6": (27.27, 25.39, 24.39),
    "wrn-10-8": (26.23, 24.31, 23.38),
    "wrn-10-10": (26.04, 23.49, 23.02),
    "wrn-16-4": (24.73, 22.9, 22.73),
    "wrn-22-4": (23.61, 22.02, 21.66),
    "wrn-28-4": (23.2, 21.61, 21.0),
    "wrn-34-4": (23.22, 21.2, 20.73),
    "wrn-40-10": (20.62,),  # the teacher
}


@dataclass(frozen=True)
class Wrn(Residual):
    """A WRN but for its images and classes; see ``Residual``.

    Where the shape changes, a 1x1 convolution reads the activated input ("preactivation", as in
    Zagoruyko's code) or the raw "input".

    Attributes:
        dropout: probability between the two convolutions of a block, in training only.
    """

    dropout: Fraction = 0.0

    family = "wrn"
    forms = "wrn-DEPTH-WIDTH (wrn-10-4)"
    layout = (
        "wide residual networks (wrn-DEPTH-WIDTH, depth 6n+4) with a 3x3 stem, three stages of "
        "widths 1:2:4 and n blocks of two 3x3 convolutions in each"
    )
    rest_of_depth = 4
    step = (6, 1)
    published = Published(
        source="Table 5 of arXiv 1709.00513 (CIFAR-100)",
        data="cifar100",
        num_classes=100,
        errors={
            name: dict(zip(("supervised", "kd", "logit-gan"), errors, strict=False))
            for name, errors in TABLE_5.items()
        },
    )

    @classmethod
    def parse(cls, text: str) -> dict[str, Any] | None:
        """'wrn-10-4', 'wrn10-4', 'wide-resnet-28-10'."""
        found = re.fullmatch(r"(?:wrn|wideresnet|wide-resnet)-?(\d{1,9})-(\d+(?:\.\d+)?)", text)
        return {"depth": int(found[1]), "width": float(found[2])} if found else None

    @property
    def name(self) -> str:
        """'wrn-10-4'."""
        return f"wrn-{self.depth}-{self.width:g}"

    @property
    def usual_stem(self) -> int:
        """16, whatever the width."""
        return FILTERS[0]

    def build(self, spec: ModelSpec) -> Network:
        """A ``PreactivationNetwork``."""
        return PreactivationNetwork(spec, self, partial(PreactivationBlock, self))

    def layers(self, input_shape: ImageShape) -> Layers:
        """The stem, two convolutions a block and its shortcut; every block normalises its input."""
        planes, height, width = input_shape
        convs = [Convolution(3, planes, self.stem_channels, height * width, folded=False)]
        norms = []
        for at in Place.all(self, input_shape):
            convs.append(Convolution(3, at.inputs, at.outputs, at.strided, folded=True))
            convs.append(Convolution(3, at.outputs, at.outputs, at.after, folded=False))
            if at.changes:
                convs.append(Convolution(1, at.inputs, at.outputs, at.after, folded=False))
            norms.append(at.inputs)
        last = self.stage_channels[-1]
        return Layers(tuple(convs), last, (*norms, last), conv_bias=self.conv_bias)

    @classmethod
    def candidates(cls, input_shape: ImageShape) -> list[str]:
        """Depths of 10 to 40, widths of 1 to 10."""
        return [f"wrn-{depth}-{m}" for depth in range(10, 41, 6) for m in range(1, 11)]

    @property
    def blocks_and_width(self) -> tuple[int, float] | None:
        """n and m."""
        return self.blocks_per_stage, self.width

    @property
    def is_between_published(self) -> bool:
        """The table's networks lie on two lines, and one is far from both."""
        return (self.depth == 10 and 2 <= self.width <= 10) or (
            self.width == 4 and 10 <= self.depth <= 34
        )

    @classmethod
    def read(cls, weights: Weights, choices: Choices, stated: Architecture | None) -> Reading:
        """A network of basic blocks, a WRN or a ResNet."""
        return basic.read(weights, choices, needs_order=stated is None)

    @classmethod
    def variants(cls, shape: Mapping[str, Any]) -> list[tuple[str, int]]:
        """The WRN code that leaves the convolutions' biases on also strides in the second."""
        usual, raw = ("preactivation", 1), ("input", 2)
        first = [raw, usual, ("input", 1)] if shape["conv_bias"] else [usual, ("input", 1), raw]
        return [*first, ("preactivation", 2)]


class PreactivationBlock(nn.Module):
    """BN, ReLU, conv3x3, BN, ReLU, dropout, conv3x3, plus the shortcut.

    The shortcut is the input itself, or a 1x1 convolution where the shape changes. That
    convolution reads the activated input ("preactivation") or the raw one ("input").
    """

    def __init__(
        self, own: Wrn, inputs: int, outputs: int, stride: int, *, shortcut: bool = False
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if own.stride_conv == 1 else (1, stride)
        bias = own.conv_bias
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, first, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(own.dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, second, padding=1, bias=bias)
        self.shortcut: nn.Module | None = None
        if shortcut or stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=bias)
        self.shortcut_reads_activation = own.shortcut == "preactivation"

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs, h / stride, w / stride]."""
        activated = functional.relu(self.bn1(x))
        residual: Tensor = self.conv1(activated)
        residual = self.conv2(self.dropout(functional.relu(self.bn2(residual))))
        bypass: Tensor = x
        if self.shortcut is not None:
            bypass = self.shortcut(activated if self.shortcut_reads_activation else x)
        return residual + bypass
