"""What a network is, what a budget is, where it is to run. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self

from compress.errors import UsageError
from compress.schema import Decoder, decode
from compress.schema.encoding import encode
from compress.schema.rules import (
    Batch,
    Classes,
    ImageShape,
    Key,
    Length,
    Matches,
    Percentile,
    Rest,
    Threads,
)

Parameter = bool | int | float | str
# What is printed as it is, so that a file cannot have anything else printed.
NetworkName = Annotated[str, Matches(r"[\w.:-]{1,100}", "the name of a network")]


@dataclass(frozen=True)
class ModelSpec:
    """Which network something is: a value to keep, to compare, and to ask its family about.

    ``compress.models.registry`` makes specs of names and answers for their families; nothing else
    needs to know what the parameters mean. One that was read from a file says what that file says;
    whether there is such a network shows when its family is asked.

    Attributes:
        name: as the family writes and reads it, "wrn-10-4".
        family: one of ``compress.models.registry.FAMILIES``.
        parameters: of the network, all of them, by their names in that family.
        num_classes: how many numbers it gives for an image, its task's width: one a class.
        input_shape: channels, height, width of an image.
    """

    name: NetworkName
    family: Annotated[NetworkName, Key("arch")]
    # Equal specs have equal names, so that the hash can do without.
    parameters: Annotated[Mapping[str, Parameter], Rest(), Length(0, 64)] = field(hash=False)
    num_classes: Classes
    input_shape: ImageShape

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``compress.models.registry.read_spec`` reads them back."""
        found: dict[str, Any] = encode(self)
        return found


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
