"""What WRNs, CIFAR ResNets and their bottleneck kin have in common: three stages of n blocks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol, Self

from torch import nn

from compress.errors import UsageError
from compress.models.families.architecture import Architecture
from compress.models.recognition.layers import Unfit
from compress.models.recognition.reading import Reading
from compress.schema.rules import Between, ImageShape

FILTERS = (16, 32, 64)

SHORTCUT_WORDS = {
    "preactivation": "shortcuts of the activated input",
    "input": "shortcuts of the raw input",
    "pad": "shortcuts padded at the end",
    "pad-both": "shortcuts padded at both ends",
    "conv": "1x1 shortcuts",
    "conv-all": "1x1 shortcuts in every block",
}


@dataclass(frozen=True)
class Residual(Architecture):
    """The parameters that residual networks of three stages share; see ``Architecture``.

    Attributes:
        depth: step n + rest, n >= 1: the layers with weights that an image goes through.
        width: the multiplier m on every number of filters; may be fractional.
        shortcut: how a residual branch is bypassed where the shape changes; empty means the first
            of ``shortcuts``. Not all that it says shows in weights.
        stem_channels: filters of the first convolution; 0 means the usual number.
        stride_conv: which of a block's convolutions has the stride, 1 or 2: the first or second
            3x3 one; with bottlenecks the first, which is 1x1, or the second, which is 3x3. Weights
            do not show it.
        conv_bias: whether the convolutions have a bias.
        first_shortcut: whether the very first block has a 1x1 convolution as its shortcut even
            where its shape does not change, as some published networks have.

    Attributes of the family:
        step_of_depth, rest_of_depth: of its rule.
        expansion: how many times the filters of its first convolution a block gives.
        shortcuts: that there are, the usual one first.
    """

    depth: Annotated[int, Between(1, 10_000)]
    width: Annotated[float, Between(0, 1024)] = 1.0
    shortcut: str = ""
    stem_channels: Annotated[int, Between(0, 100_000)] = 0
    stride_conv: Annotated[int, Between(1, 2)] = 1
    conv_bias: bool = False
    first_shortcut: bool = False

    step_of_depth = 6
    rest_of_depth = 2
    expansion = 1
    shortcuts: ClassVar[tuple[str, ...]] = ("preactivation", "input")
    statable: ClassVar[tuple[str, ...]] = (
        "shortcut",
        "stride_conv",
        "stem_channels",
        "conv_bias",
        "first_shortcut",
    )

    def __post_init__(self) -> None:
        faults = []
        step, rest = self.step_of_depth, self.rest_of_depth
        if self.depth < step + rest or (self.depth - rest) % step:
            near = max(step + rest, round((self.depth - rest) / step) * step + rest)
            faults.append(f"depth is {self.depth}, not {step}n+{rest}; the nearest is {near}")
        if not self.shortcut:
            object.__setattr__(self, "shortcut", self.shortcuts[0])
        elif self.shortcut not in self.shortcuts:
            names = ", ".join(self.shortcuts)
            faults.append(f"shortcut is '{self.shortcut}', known for {self.family}: {names}")
        if round(FILTERS[0] * self.width) < 1:
            faults.append(f"width is {self.width}, which leaves no filters")
        if faults:
            raise UsageError("; ".join(faults) + ".")
        if not self.stem_channels:
            object.__setattr__(self, "stem_channels", self.usual_stem)

    @property
    def usual_stem(self) -> int:
        """Filters of the first convolution where nothing else is said."""
        return round(FILTERS[0] * self.width)

    @property
    def size(self) -> tuple[float, ...]:
        """Depth and width."""
        return self.depth, self.width

    @property
    def blocks_per_stage(self) -> int:
        """n of the depth."""
        return (self.depth - self.rest_of_depth) // self.step_of_depth

    @property
    def stage_channels(self) -> tuple[int, int, int]:
        """Channels that the three stages give: 16m, 32m, 64m, expanded."""
        first, second, third = (self.expansion * round(f * self.width) for f in FILTERS)
        return first, second, third

    @property
    def visible(self) -> Hashable:
        """Depth and channels."""
        return self.depth, self.stage_channels

    @property
    def unseen(self) -> Mapping[str, Any]:
        """How blocks are bypassed, and where they have their stride."""
        return {"shortcut": self.shortcut, "stride_conv": self.stride_conv}

    @property
    def structure(self) -> str:
        """How blocks are bypassed, and where they have their stride."""
        place = ("first", "second")[self.stride_conv - 1]
        return f"{SHORTCUT_WORDS[self.shortcut]} with the stride in the {place} convolution"

    @classmethod
    def readings(
        cls, reading: Reading, image_size: tuple[int, int], stated: Architecture | None
    ) -> list[dict[str, Any]]:
        """What shows in the weights' shapes, with each of the ``variants``."""
        shape = {
            **reading.found,
            "width": cls._width(reading, stated),
            "stem_channels": reading.convs["conv"].outputs,
            "conv_bias": reading.conv_bias,
        }
        return [
            shape | {"shortcut": shortcut, "stride_conv": stride}
            for shortcut, stride in cls.variants(shape)
        ]

    @classmethod
    def _width(cls, reading: Reading, stated: Architecture | None) -> float:
        """The multiplier with which the stages are as wide; it is lost where filters are rounded.

        Raises:
            Unfit: there is none.
        """
        if isinstance(stated, cls) and stated.stage_channels == reading.widths:
            return stated.width
        for found, filters in zip(reading.widths, FILTERS, strict=True):
            width = found / (cls.expansion * filters)
            if round(FILTERS[0] * width) and (
                cls(reading.found["depth"], width).stage_channels == reading.widths
            ):
                return width
        *others, last = map(str, reading.widths)
        raise Unfit(f"its stages are {', '.join(others)} and {last} wide, not 1:2:4")

    @classmethod
    @abstractmethod
    def variants(cls, shape: Mapping[str, Any]) -> list[tuple[str, int]]:
        """Shortcut and stride_conv of all networks of one shape, the most common first."""


class MakeBlock(Protocol):
    """Makes a residual block; ``shortcut`` asks for a convolution where no shape changes, too."""

    def __call__(
        self, inputs: int, outputs: int, stride: int, *, shortcut: bool = False
    ) -> nn.Module:
        """The block."""
        ...


def residual_stages(own: Residual, make: MakeBlock) -> nn.Sequential:
    """n blocks a stage; the second and third stage halve the resolution."""
    channels = own.stem_channels
    stages: list[nn.Module] = []
    for stride, outputs in zip((1, 2, 2), own.stage_channels, strict=True):
        first = make(channels, outputs, stride, shortcut=own.first_shortcut and not stages)
        rest = [make(outputs, outputs, 1) for _ in range(own.blocks_per_stage - 1)]
        stages.append(nn.Sequential(first, *rest))
        channels = outputs
    return nn.Sequential(*stages)


@dataclass(frozen=True)
class Place:
    """Where a block stands.

    Attributes:
        inputs, outputs: channels.
        before, after: pixels of the maps that it reads and gives.
        strided: pixels of the map that its first convolution gives.
        changes: whether its shortcut cannot be the input itself.
    """

    inputs: int
    outputs: int
    before: int
    after: int
    strided: int
    changes: bool

    @classmethod
    def all(cls, own: Residual, input_shape: ImageShape) -> Iterator[Self]:
        """The places of the blocks of ``residual_stages``, in forward order."""
        _, height, width = input_shape
        channels = own.stem_channels
        for stage, outputs in enumerate(own.stage_channels):
            for block in range(own.blocks_per_stage):
                before = height * width
                if stage and not block:
                    height, width = (height + 1) // 2, (width + 1) // 2
                after = height * width
                strided = after if own.stride_conv == 1 else before
                changes = not block and (bool(stage) or channels != outputs or own.first_shortcut)
                yield cls(channels, outputs, before, after, strided, changes)
                channels = outputs
