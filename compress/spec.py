"""What a network is, what a budget is, where it is to run. Standard library only."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Self

from compress.errors import UsageError
from compress.schema import Decoder, decode, faults_of
from compress.schema.rules import Batch, Between, Fraction, ImageShape, Length, Percentile, Threads

ARCHITECTURES = ("wrn", "resnet", "preresnet", "inception")

# Depth is a n + b for n >= 1; an Inception has one depth.
DEPTHS = {"wrn": (6, 4), "resnet": (6, 2), "preresnet": (9, 2)}
INCEPTION_DEPTH = 12

# Zhang et al., arXiv 1611.03530, Figure 3: filters of the 1x1 and of the 3x3 convolution of each
# module, for each of three resolutions; and of the 3x3 convolutions of stride 2 between them.
INCEPTION_MODULES = (
    ((32, 32), (32, 48)),
    ((112, 48), (96, 64), (80, 80), (48, 96)),
    ((176, 160), (176, 160)),
)
INCEPTION_DOWNSAMPLING = (80, 96)

# How a residual branch is bypassed where the shape changes. None of these but "conv" shows in the
# weights' shapes, so an imported checkpoint may have to be evaluated to tell them apart.
SHORTCUTS = {
    # WRN: the 1x1 convolution reads the activated input (Zagoruyko's code) or the raw input.
    "wrn": ("preactivation", "input"),
    # ResNet: option A pads zero channels at the end, or at both ends; option B is a 1x1
    # convolution with batch normalisation (He et al. 2015, section 3.3), and option C has one in
    # every block.
    "resnet": ("pad", "pad-both", "conv", "conv-all"),
    # Pre-activation ResNet: as WRN. He et al.'s own code reads the activated input.
    "preresnet": ("preactivation", "input"),
    # Inception: max pooling bypasses a convolution of stride 2. Both pad the map by one pixel on
    # every side, or neither pads it.
    "inception": ("padded", "unpadded"),
}


@dataclass(frozen=True)
class ModelSpec:
    """One architecture, completely.

    Attributes:
        arch: "wrn" (wide residual network, pre-activation), "resnet" (He et al.'s for CIFAR),
            "preresnet" (the same authors' with pre-activation and bottleneck blocks) or
            "inception" (Zhang et al.'s small one for CIFAR).
        depth: 6n+4 for a WRN, 6n+2 for a ResNet, 9n+2 for a pre-activation ResNet, n >= 1; 12 for
            an Inception: the layers with weights that an image goes through one after the other.
        width: the multiplier m on every number of filters (of residual networks: 16, 32, 64); may
            be fractional.
        num_classes: outputs.
        input_shape: channels, height, width of an image.
        shortcut: one of SHORTCUTS[arch]; empty means the first.
        stem_channels: filters of the first convolution; 0 means 16 (WRN), 16m (ResNets) or 96m
            (Inception).
        stride_conv: which of a block's convolutions has the stride, 1 or 2: the first or second
            3x3 one; with bottlenecks the first, which is 1x1, or the second, which is 3x3.
        conv_bias: whether the convolutions have a bias.
        dropout: probability between the two convolutions of a WRN block, in training only.
        first_shortcut: whether the very first block has a 1x1 convolution as its shortcut even
            where its shape does not change, as some published networks have.
        pool: side of the square windows of the last map whose averages the classifier reads, of a
            ResNet; 0 for one average over the whole map.
    """

    arch: str
    depth: Annotated[int, Between(1, 10_000)]
    width: Annotated[float, Between(0, 1024)] = 1.0
    num_classes: Annotated[int, Between(2, 1_000_000)] = 10
    input_shape: ImageShape = (3, 32, 32)
    shortcut: str = ""
    stem_channels: Annotated[int, Between(0, 100_000)] = 0
    stride_conv: Annotated[int, Between(1, 2)] = 1
    conv_bias: bool = False
    dropout: Fraction = 0.0
    first_shortcut: bool = False
    pool: Annotated[int, Between(0, 16_384)] = 0

    def __post_init__(self) -> None:
        faults = faults_of(self)
        if self.arch not in ARCHITECTURES:
            faults.append(f"arch is '{self.arch}', but must be one of {', '.join(ARCHITECTURES)}")
        else:
            faults += self._faults_of_depth()
            if not self.shortcut:
                object.__setattr__(self, "shortcut", SHORTCUTS[self.arch][0])
            elif self.shortcut not in SHORTCUTS[self.arch]:
                known = ", ".join(SHORTCUTS[self.arch])
                faults.append(f"shortcut is '{self.shortcut}', known for {self.arch}: {known}")
        if 0 <= self.width < 1 and round(16 * self.width) < 1:
            faults.append(f"width is {self.width}, which leaves no filters")
        elif math.isfinite(self.width) and not self.stem_channels:
            usual = {"wrn": 16, "inception": round(96 * self.width)}
            stem = usual.get(self.arch, round(16 * self.width))
            object.__setattr__(self, "stem_channels", stem)
        if min(self.input_shape[1:]) < 8:
            faults.append(f"input_shape is {self.input_shape}, images must be 8x8 or larger")
        if not faults and self.pool > min(self.last_map):
            height, width = self.last_map
            faults.append(f"pool is {self.pool}, the last map is {height}x{width}")
        if self.pool and self.arch != "resnet":
            faults.append(f"pool is {self.pool}, which only a resnet has")
        if self.arch == "inception" and (self.stride_conv != 1 or self.first_shortcut):
            faults.append("an inception has no residual blocks: no stride_conv, no first_shortcut")
        if faults:
            raise UsageError("This is not a network: " + "; ".join(faults) + ".")

    def _faults_of_depth(self) -> list[str]:
        """What is wrong with the depth of a known architecture."""
        if self.arch == "inception":
            right = self.depth == INCEPTION_DEPTH
            return [] if right else [f"depth is {self.depth}, an inception has {INCEPTION_DEPTH}"]
        step, rest = DEPTHS[self.arch]
        if self.depth >= step + rest and (self.depth - rest) % step == 0:
            return []
        near = max(step + rest, round((self.depth - rest) / step) * step + rest)
        return [f"depth is {self.depth}, not {step}n+{rest}; the nearest is {near}"]

    @property
    def name(self) -> str:
        """As ``parse`` reads it.

        'wrn-10-4', 'resnet-20', 'resnet-20-b' (option B), 'resnet-8x4' (four times wider),
        'preresnet-164', 'inception', 'inception-x0.5'.
        """
        if self.arch == "wrn":
            return f"wrn-{self.depth}-{self.width:g}"
        wide = "" if self.width == 1 else f"x{self.width:g}"
        if self.arch == "inception":
            return "inception" + (f"-{wide}" if wide else "")
        return f"{self.arch}-{self.depth}{wide}" + ("-b" if "conv" in self.shortcut else "")

    @property
    def blocks_per_stage(self) -> int:
        """n of the depth; 0 for an Inception, which has 2, 4 and 2 modules."""
        if self.arch == "inception":
            return 0
        step, rest = DEPTHS[self.arch]
        return (self.depth - rest) // step

    @property
    def stage_channels(self) -> tuple[int, int, int]:
        """Channels that the three stages give: 16m, 32m, 64m; with bottlenecks four times that.

        Those of an Inception are the filters of the last module of each: 80m, 144m, 336m.
        """
        if self.arch == "inception":
            first, second, third = (sum(stage[-1]) for stage in self.inception_modules)
            return first, second, third
        expansion = 4 if self.arch == "preresnet" else 1
        first, second, third = (expansion * round(f * self.width) for f in (16, 32, 64))
        return first, second, third

    @property
    def last_map(self) -> tuple[int, int]:
        """Height and width of a residual network's last map: two strides of 2, rounded up."""
        height, width = self.input_shape[1:]
        return (height + 3) // 4, (width + 3) // 4

    @property
    def classifier_inputs(self) -> int:
        """Values that the classifier reads of an image."""
        if not self.pool:
            return self.stage_channels[-1]
        height, width = (side // self.pool for side in self.last_map)
        return self.stage_channels[-1] * height * width

    @property
    def inception_modules(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Of each module of each stage, filters of its 1x1 and of its 3x3 convolution."""
        return tuple(
            tuple((round(point * self.width), round(spatial * self.width)) for point, spatial in s)
            for s in INCEPTION_MODULES
        )

    @property
    def inception_downsampling(self) -> tuple[int, ...]:
        """Filters of the convolutions of stride 2 before the second and third stage."""
        return tuple(round(filters * self.width) for filters in INCEPTION_DOWNSAMPLING)

    @classmethod
    def parse(cls, name: str, **fields: Any) -> Self:
        """'wrn-10-4', 'WRN_10_4', 'wrn10-4', 'resnet20', 'resnet-20-b', 'resnet8x4' -> a spec.

        Also 'preresnet-164', 'preact-resnet-1001', 'preresnet-164x0.5', 'inception',
        'inception-x0.5'.

        Raises:
            UsageError: the name is of no known form, or the network does not exist.
        """
        text = name.strip().lower().replace("_", "-")
        wrn = re.fullmatch(r"(?:wrn|wideresnet|wide-resnet)-?(\d{1,9})-(\d+(?:\.\d+)?)", text)
        if wrn:
            return cls(arch="wrn", depth=int(wrn[1]), width=float(wrn[2]), **fields)
        resnet = re.fullmatch(r"resnet-?(\d{1,9})(?:x(\d+(?:\.\d+)?))?(?:-?([ab]))?", text)
        if resnet:
            width = float(resnet[2] or 1)
            if resnet[3] == "b":
                fields.setdefault("shortcut", "conv")
            return cls(arch="resnet", depth=int(resnet[1]), width=width, **fields)
        preresnet = re.fullmatch(r"pre-?(?:act-?)?resnet-?(\d{1,9})(?:x(\d+(?:\.\d+)?))?", text)
        if preresnet:
            width = float(preresnet[2] or 1)
            return cls(arch="preresnet", depth=int(preresnet[1]), width=width, **fields)
        inception = re.fullmatch(r"inception(?:-?x(\d+(?:\.\d+)?))?", text)
        if inception:
            width = float(inception[1] or 1)
            return cls(arch="inception", depth=INCEPTION_DEPTH, width=width, **fields)
        raise UsageError(
            f"'{name}' is not the name of a network. Write wrn-DEPTH-WIDTH (wrn-10-4), "
            "resnet-DEPTH (resnet-20), resnet-DEPTH-b for 1x1-convolution shortcuts, "
            "preresnet-DEPTH (preresnet-164) or inception."
        )

    def with_(self, **changes: Any) -> Self:
        """A copy with some fields changed; a changed width resets what follows from it."""
        if "width" in changes:
            changes.setdefault("stem_channels", 0)
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` reads them back."""
        return asdict(self) | {"input_shape": list(self.input_shape)}

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """The inverse of ``to_dict``.

        Raises:
            UsageError: fields are missing, unknown or impossible.
        """
        return decode(cls, values, "This does not describe a network", error=UsageError)


# Pixels have one of two scales, [0, 1] and 0..255; above this, a mean or a deviation is of the
# second.
LARGEST_OF_UNIT_PIXELS = 3.0
BYTE = 255.0


@dataclass(frozen=True)
class Normalization:
    """Per-channel mean and standard deviation, of pixels scaled to [0, 1].

    Those that are stated for pixels in 0..255 are divided by 255; ``of_bytes`` tells.
    """

    mean: Annotated[tuple[float, ...], Length(1, 4096)]
    std: Annotated[tuple[float, ...], Length(1, 4096)]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise UsageError(
                "A normalisation needs one mean and one standard deviation per channel, but has "
                f"{len(self.mean)} and {len(self.std)}."
            )
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise UsageError(
                f"A normalisation needs finite means and positive standard deviations; "
                f"found mean {self.mean}, std {self.std}."
            )
        if max(map(abs, self.mean + self.std)) > LARGEST_OF_UNIT_PIXELS:
            self._scale_from_bytes()

    @property
    def of_bytes(self) -> bool:
        """Whether it was stated for pixels in 0..255."""
        return bool(self.__dict__.get("_of_bytes", False))

    def _scale_from_bytes(self) -> None:
        """Divides by 255.

        Raises:
            UsageError: the numbers are of no scale, or of both.
        """
        # A mean of 0 is one of either scale; so is a deviation of 1, which leaves bytes as wide.
        means = [value for value in self.mean if value]
        deviations = [value for value in self.std if value != 1 or min(self.mean) <= 0]
        mixed = min(means + deviations, default=BYTE) <= LARGEST_OF_UNIT_PIXELS
        if mixed or max(self.mean + self.std) > BYTE:
            raise UsageError(
                f"A normalisation is for pixels in [0, 1] or in 0..255, but mean {self.mean} and "
                f"std {self.std} fit neither. Give both for the same range."
            )
        for name in ("mean", "std"):
            scaled = tuple(round(value / BYTE, 9) for value in getattr(self, name))
            object.__setattr__(self, name, scaled)
        object.__setattr__(self, "_of_bytes", True)

    @classmethod
    def parse(cls, text: str) -> Self:
        """'0.5,0.5,0.5/0.2,0.2,0.2' -> means before the slash, deviations after it.

        Raises:
            UsageError: the text has another form.
        """
        try:
            mean, std = (tuple(float(v) for v in part.split(",")) for part in text.split("/"))
        except ValueError as error:
            raise UsageError(
                f"'{text}' is not a normalisation. Write MEAN,MEAN,MEAN/STD,STD,STD, for pixels "
                "scaled to [0, 1] or in 0..255, or a known name."
            ) from error
        return cls(mean, std)

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """The inverse of ``to_dict``.

        Raises:
            UsageError: these are no such values.
        """
        return decode(cls, values, "This is not a normalisation", error=UsageError)

    def to_dict(self) -> dict[str, list[float]]:
        """Plain values for JSON; ``from_dict`` reads them back."""
        return {"mean": list(self.mean), "std": list(self.std)}


# In place of a runtime's name: the one that is found to be fastest before anything else is done.
FASTEST = "fastest"

# What a file may compute in, the most bits first.
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
# In place of a precision: whichever is best under the budget.
AUTO = "auto"


@dataclass(frozen=True)
class Target:
    """Where the student is to run, and in which of PRECISIONS, or AUTO."""

    runtime: str = "onnxruntime"
    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 1


@dataclass(frozen=True)
class Budget:
    """What the student may cost, and how that is measured.

    Attributes:
        latency_s: at ``percentile`` of calls with ``batch`` images.
        size_bytes: of the file that ships.
        speedup: at least so many times faster than the teacher, measured on the same target; a
            ratio of medians.
        batch: images in one call.
        percentile: of the calls' times that latency_s is for: 50 is the median.
        headroom: the share of latency_s that the choice of a student leaves free, because the
            machine is not always as fast as when it was timed.
    """

    latency_s: float | None = None
    size_bytes: float | None = None
    speedup: float | None = None
    batch: int = 1
    percentile: float = 50.0
    target: Target = Target()
    headroom: float = 0.0

    def __post_init__(self) -> None:
        faults = []
        for option, value in (
            ("--budget-ms", self.latency_s),
            ("--budget-mb", self.size_bytes),
            ("--speedup", self.speedup),
        ):
            if value is not None and not (math.isfinite(value) and value > 0):
                shown = value * 1e3 if option == "--budget-ms" else value
                shown = value / 1e6 if option == "--budget-mb" else shown
                faults.append(f"{option} is {shown:g}, it must be a positive number")
        limits = Decoder()
        limits.rules(Batch, self.batch, "--batch")
        limits.rules(Percentile, self.percentile, "--percentile")
        limits.rules(Threads, self.target.threads, "--threads")
        faults += limits.faults
        if self.speedup is not None and 50 < self.percentile <= 99.9:
            faults.append(
                f"--percentile is {self.percentile:g}, but --speedup compares medians; give only "
                "one of them, or --budget-ms with --percentile"
            )
        if not 0 <= self.headroom < 1:
            faults.append(
                f"--headroom is {100 * self.headroom:g}%, it must be from 0% to below 100%"
            )
        if faults:
            raise UsageError("This is not a budget: " + "; ".join(faults) + ".")

    def in_precision(self, precision: str) -> Self:
        """The same budget for a file in that precision."""
        return replace(self, target=replace(self.target, precision=precision))

    @property
    def usable_s(self) -> float | None:
        """What of latency_s a student that is to be chosen may take."""
        return None if self.latency_s is None else self.latency_s * (1 - self.headroom)

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all; without one, this only says how to measure."""
        return not (self.latency_s is None and self.size_bytes is None and self.speedup is None)

    def require_limit(self) -> None:
        """Refuses a budget without a limit where one has to choose the student.

        Raises:
            UsageError: there is none.
        """
        if not self.limited:
            raise UsageError(
                "No budget was given. Give --budget-ms, --budget-mb or --speedup, or several of "
                "them."
            )
