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

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.errors import UsageError
from compress.models.families.architecture import Architecture, Convolution, Layers
from compress.models.families.initialise import initialise
from compress.models.network import FIRST_STAGES, Network
from compress.models.recognition.layers import Conv, Norm, Tokens, Unfit, Weights
from compress.models.recognition.order import Choices, PartT, in_order
from compress.models.recognition.reading import Reading, find_classifier
from compress.schema.rules import Between, ImageShape
from compress.spec import ModelSpec

# Figure 3: filters of the 1x1 and of the 3x3 convolution of each module, for each of three
# resolutions; and of the 3x3 convolutions of stride 2 between them.
MODULES = (
    ((32, 32), (32, 48)),
    ((112, 48), (96, 64), (80, 80), (48, 96)),
    ((176, 160), (176, 160)),
)
DOWNSAMPLING = (80, 96)
STEM = 96

Shape = tuple[int, int, int]  # kernel, channels that are read, filters

SHORTCUT_WORDS = {
    "padded": "padded downsampling",
    "unpadded": "downsampling without padding",
}


@dataclass(frozen=True)
class SmallInception(Architecture):
    """A small Inception but for its images and classes; see ``Architecture``.

    Attributes:
        width: the multiplier m on every number of filters; may be fractional.
        shortcut: whether the convolution of stride 2 and the max pooling beside it pad the map by
            one pixel on every side ("padded") or not ("unpadded"). Weights do not show it.
        stem_channels: filters of the first convolution; 0 means 96m.
        conv_bias: whether the convolutions have a bias.
    """

    width: Annotated[float, Between(0, 1024)] = 1.0
    shortcut: str = "padded"
    stem_channels: Annotated[int, Between(0, 100_000)] = 0
    conv_bias: bool = False

    family = "inception"
    forms = "inception"
    layout = "the small Inception of arXiv 1611.03530 (inception)"
    statable = ("shortcut", "stem_channels", "conv_bias")
    step = (1,)

    def __post_init__(self) -> None:
        faults = []
        if self.shortcut not in SHORTCUT_WORDS:
            names = ", ".join(SHORTCUT_WORDS)
            faults.append(f"shortcut is '{self.shortcut}', known for inception: {names}")
        if round(16 * self.width) < 1:
            faults.append(f"width is {self.width}, which leaves no filters")
        if faults:
            raise UsageError("; ".join(faults) + ".")
        if not self.stem_channels:
            object.__setattr__(self, "stem_channels", round(STEM * self.width))

    @classmethod
    def parse(cls, text: str) -> dict[str, Any] | None:
        """'inception', 'inception-x0.5'."""
        found = re.fullmatch(r"inception(?:-?x(\d+(?:\.\d+)?))?", text)
        return {"width": float(found[1] or 1)} if found else None

    @property
    def name(self) -> str:
        """'inception', 'inception-x0.5'."""
        return "inception" + ("" if self.width == 1 else f"-x{self.width:g}")

    @property
    def size(self) -> tuple[float, ...]:
        """Width alone."""
        return (self.width,)

    @property
    def stages(self) -> tuple[tuple[int, tuple[tuple[int, int], ...]], ...]:
        """Of each stage the filters of the downsampling, 0 for none, and those of the modules."""
        return tuple(
            (
                round(filters * self.width),
                tuple((round(a * self.width), round(b * self.width)) for a, b in modules),
            )
            for filters, modules in zip((0, *DOWNSAMPLING), MODULES, strict=True)
        )

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels that the last module of each stage gives: 80m, 144m, 336m."""
        return tuple(sum(modules[-1]) for _, modules in self.stages)

    def shapes(self, planes: int) -> dict[str, Shape]:
        """Names of the convolutions -> their shapes, for images of so many channels."""
        channels = self.stem_channels
        shapes = {"conv": (3, planes, channels)}
        for stage, (filters, modules) in enumerate(self.stages):
            if filters:
                shapes[f"stages.{stage}.0.spatial.conv"] = (3, channels, filters)
                channels += filters
            for index, (point, spatial) in enumerate(modules, bool(filters)):
                shapes[f"stages.{stage}.{index}.point.conv"] = (1, channels, point)
                shapes[f"stages.{stage}.{index}.spatial.conv"] = (3, channels, spatial)
                channels = point + spatial
        return shapes

    def build(self, spec: ModelSpec) -> Network:
        """An ``Inception``."""
        return Inception(spec, self)

    def layers(self, input_shape: ImageShape) -> Layers:
        """Every convolution is followed by a batch normalisation, which learns a shift alone."""
        planes, *sides = input_shape
        pixels = [sides[0] * sides[1]]
        for _ in DOWNSAMPLING:
            # A 3x3 window every second pixel, of a map with a border of one pixel or of none.
            border = 1 if self.shortcut == "padded" else -1
            sides = [(side + border) // 2 for side in sides]
            pixels.append(sides[0] * sides[1])
        convs = [
            Convolution(
                *shape, pixels[0 if name == "conv" else int(name.split(".")[1])], folded=True
            )
            for name, shape in self.shapes(planes).items()
        ]
        last = self.stage_channels[-1]
        return Layers(tuple(convs), last, norm_parameters=1, conv_bias=self.conv_bias)

    @classmethod
    def claims(cls, weights: Weights) -> bool:
        """It has 8 convolutions of 1x1 and 11 of 3x3, where basic blocks make 6n + 1."""
        points, spatial = weights.kernel_counts
        return spatial == 11 and points in (8, 9)  # the classifier may be one of the 1x1 ones

    @classmethod
    def read(cls, weights: Weights, choices: Choices, stated: Architecture | None) -> Reading:
        """A whole small Inception.

        Convolutions of one shape have one place, so that shapes alone say where each belongs,
        whatever it is called. The batch norm that shares a prefix with a convolution follows it;
        under prefixes with several of each, those of one size go by their order.
        """
        # An image has fewer channels than any map.
        stem = min((c for c in weights.convs if _shape(c)[0] == 3), key=lambda conv: conv.inputs)
        own = _of_width(weights, stem, stated.width if isinstance(stated, cls) else None)
        convs = _place(weights, own.shapes(stem.inputs), choices)
        placed = {conv.name for conv in convs.values()}
        loose = tuple(conv for conv in weights.convs if conv.name not in placed)
        norm_of = _norms_behind(weights, list(convs.values()), choices)
        reading = Reading(
            weights=weights,
            family=cls.family,
            widths=own.stage_channels,
            found={"width": own.width, "stem_channels": stem.outputs},
            convs=convs,
            norms={_norm_name(name): norm_of[conv.name] for name, conv in convs.items()},
            classifier=find_classifier(weights, loose, own.stage_channels[-1]),
        )
        return reading.complete(choices)

    @classmethod
    def readings(
        cls, reading: Reading, image_size: tuple[int, int], stated: Architecture | None
    ) -> list[dict[str, Any]]:
        """Padded and unpadded, of the roundest width that has these filters."""
        found = {**reading.found, "conv_bias": reading.conv_bias}
        if not (isinstance(stated, cls) and stated.stage_channels == reading.widths):
            tried = (
                wide / one for wide, one in zip(reading.widths, cls().stage_channels, strict=True)
            )
            fits = (m for m in tried if cls(m).stage_channels == reading.widths)
            found["width"] = next(fits, found["width"])
        return [found | {"shortcut": shortcut} for shortcut in SHORTCUT_WORDS]

    @property
    def visible(self) -> Hashable:
        """Filters."""
        return self.stage_channels

    @property
    def unseen(self) -> Mapping[str, Any]:
        """Whether it pads."""
        return {"shortcut": self.shortcut}

    @property
    def structure(self) -> str:
        """Whether it pads."""
        return SHORTCUT_WORDS[self.shortcut]


def shifting_norm(channels: int) -> nn.BatchNorm2d:
    """A batch norm that learns its shift alone; its scale is a buffer, ones."""
    norm = nn.BatchNorm2d(channels)
    del norm.weight
    norm.register_buffer("weight", torch.ones(channels))
    return norm


class ConvModule(nn.Module):
    """Convolution, BN, ReLU; the map keeps its size where the stride is 1."""

    def __init__(
        self, own: SmallInception, inputs: int, outputs: int, kernel: int, stride: int = 1
    ) -> None:
        super().__init__()
        padded = stride == 1 or own.shortcut == "padded"
        padding = kernel // 2 if padded else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=own.conv_bias)
        self.bn = shifting_norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs, h / stride, w / stride]."""
        return functional.relu(self.bn(self.conv(x)))


class InceptionModule(nn.Module):
    """A 1x1 and a 3x3 convolution of the same map, side by side."""

    def __init__(self, own: SmallInception, inputs: int, point: int, spatial: int) -> None:
        super().__init__()
        self.point = ConvModule(own, inputs, point, 1)
        self.spatial = ConvModule(own, inputs, spatial, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, point + spatial, h, w]."""
        return torch.cat([self.point(x), self.spatial(x)], dim=1)


class Downsampling(nn.Module):
    """A 3x3 convolution of stride 2 beside 3x3 max pooling of stride 2."""

    def __init__(self, own: SmallInception, inputs: int, outputs: int) -> None:
        super().__init__()
        self.spatial = ConvModule(own, inputs, outputs, 3, 2)
        self.padding = 1 if own.shortcut == "padded" else 0

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs + inputs, h / 2, w / 2].

        Halves are rounded up where the map is padded, down after taking off one where it is not.
        """
        pooled = functional.max_pool2d(x, 3, 2, self.padding)
        return torch.cat([self.spatial(x), pooled], dim=1)


class Inception(Network):
    """Small Inception for images of any size from 8x8, 1 or more channels, any classes."""

    inner_taps = FIRST_STAGES

    def __init__(self, spec: ModelSpec, own: SmallInception) -> None:
        super().__init__()
        self.spec = spec
        channels = own.stem_channels
        self.conv = nn.Conv2d(spec.input_shape[0], channels, 3, padding=1, bias=own.conv_bias)
        self.bn = shifting_norm(channels)
        stages: list[nn.Module] = []
        for filters, modules in own.stages:
            layers: list[nn.Module] = []
            if filters:
                layers.append(Downsampling(own, channels, filters))
                channels += filters
            for point, spatial in modules:
                layers.append(InceptionModule(own, channels, point, spatial))
                channels = point + spatial
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.linear = nn.Linear(channels, spec.num_classes)
        initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """The last convolutional feature map, [b, 336m, h / 4, w / 4], after BN and ReLU."""
        features: Tensor = self.stages(functional.relu(self.bn(self.conv(x))))
        return features


# ---------------------------------------------------------------------------------------------
# In somebody's weights


def _shape(conv: Conv) -> Shape:
    return conv.weight.shape[2], conv.inputs, conv.outputs


def _norm_name(conv: str) -> str:
    """'conv' -> 'bn', 'stages.0.0.point.conv' -> 'stages.0.0.point.bn'."""
    return conv.removesuffix("conv") + "bn"


def _of_width(weights: Weights, stem: Conv, stated: float | None) -> SmallInception:
    """The Inception of the width with which no convolution is missing.

    Raises:
        Unfit: something is missing at every width.
    """
    widest = max(conv.outputs for conv in weights.convs if _shape(conv)[0] == 3)
    widths = [stem.outputs / STEM, widest / MODULES[-1][-1][-1]]
    if stated is not None:
        widths.insert(0, stated)
    there = Counter(map(_shape, weights.convs))
    missing: list[str] = []
    for width in widths:
        try:
            own = SmallInception(width, stem_channels=stem.outputs)
        except UsageError:  # not one filter would be left
            continue
        lacking = Counter(own.shapes(stem.inputs).values()) - there
        if not lacking:
            return own
        kernel, inputs, outputs = next(iter(lacking))
        missing.append(
            f"a {kernel}x{kernel} convolution of {inputs} channels with {outputs} filters, which "
            f"{own.name} has"
        )
    raise Unfit(f"it lacks {missing[0]}" if missing else "it is too narrow for an inception")


def _place(weights: Weights, shapes: Mapping[str, Shape], choices: Choices) -> dict[str, Conv]:
    """Our names -> the convolutions of those shapes; where two have one shape, by their order."""
    placed: dict[str, Conv] = {}
    for shape in dict.fromkeys(shapes.values()):
        names = [name for name, wanted in shapes.items() if wanted == shape]
        alike = [conv for conv in weights.convs if _shape(conv) == shape]
        ordered = in_order(
            alike, f"convolutions of shape {shape}", ordered=weights.ordered, choices=choices
        )
        placed.update(zip(names, ordered, strict=False))
    return {name: placed[name] for name in shapes}


def _norms_behind(weights: Weights, convs: Sequence[Conv], choices: Choices) -> dict[str, Norm]:
    """Names of convolutions -> the batch norms that follow them.

    From the longest prefixes to none: where as many convolutions as norms, of the same sizes, are
    left under a prefix, they belong to each other.

    Raises:
        Unfit: a convolution has none.
    """
    found: dict[str, Norm] = {}
    convs_left, norms_left = list(convs), list(weights.norms)
    longest = max(len(part.tokens) for part in [*convs_left, *norms_left])
    for length in range(longest, -1, -1):
        norms_under = _by_prefix(norms_left, length)
        for prefix, some in _by_prefix(convs_left, length).items():
            norms = norms_under.get(prefix, [])
            if Counter(c.outputs for c in some) != Counter(n.size for n in norms):
                continue
            for size in dict.fromkeys(conv.outputs for conv in some):
                pairs = zip(
                    in_order(
                        [conv for conv in some if conv.outputs == size],
                        f"convolutions of {size} filters",
                        ordered=weights.ordered,
                        choices=choices,
                    ),
                    in_order(
                        [norm for norm in norms if norm.size == size],
                        f"batch norms of {size} channels",
                        ordered=weights.ordered,
                        choices=choices,
                    ),
                    strict=True,
                )
                found.update((conv.name, norm) for conv, norm in pairs)
        convs_left = [conv for conv in convs_left if conv.name not in found]
        taken = {norm.weight for norm in found.values()}
        norms_left = [norm for norm in norms_left if norm.weight not in taken]
    if convs_left:
        raise Unfit(
            f"which batch norm follows '{convs_left[0].name}' ({convs_left[0].outputs} filters) "
            f"is unclear; there are {len(weights.norms)} for {len(convs)} convolutions"
        )
    return found


def _by_prefix(parts: Sequence[PartT], length: int) -> dict[Tokens, list[PartT]]:
    """Parts by the first so many words of their names."""
    found: dict[Tokens, list[PartT]] = {}
    for part in parts:
        if len(part.tokens) >= length:
            found.setdefault(part.tokens[:length], []).append(part)
    return found
