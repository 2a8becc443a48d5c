"""What ``Annotated`` may say of a field besides its type; and types with this package's limits.

threads: Annotated[int, Between(1, 4096)]        which is ``Threads``
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

from compress.schema.words import MAX_INT, did_you_mean, number_told, shown


@runtime_checkable
class Rule(Protocol):
    """What a value of the right type has to be besides."""

    def fault(self, value: Any) -> str:
        """What is wrong, to be read after the value's name; empty where nothing is."""


@dataclass(frozen=True)
class Between:
    """A number from ``low`` to ``high``; ``below``: without ``high`` itself."""

    low: float
    high: float
    below: bool = False

    def fault(self, value: Any) -> str:
        """See ``Rule``."""
        if self.low <= value <= self.high and not (self.below and value == self.high):
            return ""
        if self.high >= 2**53 and value < self.low:
            return f"is {shown(value)}, it must be {number_told(self.low)} or more"
        if self.low == self.high:
            return f"is {shown(value)}, it must be {number_told(self.low)}"
        ends = f"from {number_told(self.low)} to {'below ' * self.below}{number_told(self.high)}"
        return f"is {shown(value)}, it must be {ends}"


@dataclass(frozen=True)
class Above:
    """A number larger than ``low``."""

    low: float

    def fault(self, value: Any) -> str:
        """See ``Rule``."""
        if value > self.low:
            return ""
        return f"is {shown(value)}, it must be more than {number_told(self.low)}"


@dataclass(frozen=True)
class Length:
    """A text, list or table of ``low`` to ``high`` characters or entries."""

    low: int
    high: int

    def fault(self, value: Any) -> str:
        """See ``Rule``."""
        if self.low <= len(value) <= self.high:
            return ""
        if not value:
            return f"is empty, it must have from {self.low} to {self.high:,} entries"
        unit = "characters" if isinstance(value, str) else "entries"
        return f"has {len(value):,} {unit}, it must have from {self.low} to {self.high:,}"


@dataclass(frozen=True)
class Matches:
    """A text that a regular expression matches as a whole; ``told`` says what that is."""

    pattern: str
    told: str

    def fault(self, value: Any) -> str:
        """See ``Rule``."""
        if re.fullmatch(self.pattern, value, re.DOTALL):
            return ""
        return f"is {shown(value)}, it must be {self.told}"


@dataclass(frozen=True)
class Check:
    """What a function says of a value: nothing, or what is wrong with it."""

    function: Callable[[Any], str]

    def fault(self, value: Any) -> str:
        """See ``Rule``."""
        return self.function(value)


def known(*names: str) -> Check:
    """A text that is one of these."""

    def fault(value: str) -> str:
        if value in names:
            return ""
        return f"is {shown(value)}, known are {', '.join(names)}{did_you_mean(value, names)}"

    return Check(fault)


@dataclass(frozen=True)
class Beside:
    """Keys that a dataclass's table may have besides its fields, "*" for any; they are not read."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Key:
    """What a field is called in a text, where that is not its own name."""

    name: str


@dataclass(frozen=True)
class Rest:
    """A dictionary that has the keys of a table that are no other field's, in the table itself."""


@dataclass(frozen=True)
class PartOf:
    """A table of some of the fields of ``cls``, which become a dictionary of decoded values.

    ``beside``: keys that may be there and are not looked at. ``without``: fields that may not.
    """

    cls: type
    beside: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


Count = Annotated[int, Between(0, 2**53)]
# How many, where there is at least one.
Number = Annotated[int, Between(1, 2**53)]
Positive = Annotated[float, Above(0)]
NotNegative = Annotated[float, Between(0, math.inf)]
Share = Annotated[float, Between(0, 1)]
Fraction = Annotated[float, Between(0, 1, below=True)]
Percent = Annotated[float, Between(0, 100)]
Percentile = Annotated[float, Between(50, 99.9)]
Threads = Annotated[int, Between(1, 4096)]
Batch = Annotated[int, Between(1, 65_536)]
Classes = Annotated[int, Between(1, 1_000_000)]
Channels = Annotated[int, Between(1, 4096)]
Side = Annotated[int, Between(1, 65_536)]
ImageShape = tuple[Channels, Side, Side]
Shape = Annotated[tuple[Side, ...], Length(1, 8)]
Seed = Annotated[int, Between(0, MAX_INT)]
Epochs = Annotated[int, Between(1, 1_000_000)]
Sha256 = Annotated[str, Matches(r"[0-9a-f]{64}", "64 hexadecimal digits")]
Name = Annotated[str, Length(1, 4096)]
# A file's name, and no way out of its folder.
FileName = Annotated[
    str, Matches(r"(?!\.{1,2}$)[^/\\\0]{1,255}", "the name of a file in the same folder")
]
# A way to a file; there can be any.
FilePath = Annotated[str, Matches(r"[^\0]{1,4096}", "a path")]
