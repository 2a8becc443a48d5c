"""Pixels whose white nothing says: which range they seem to have, and how it becomes 0 to 255."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """The lowest and the highest of some values, and whether all are whole numbers."""

    low: float
    high: float
    whole: bool


def joined(ranges: Sequence[Range]) -> Range:
    """That of all values together; there has to be one."""
    return Range(
        min(each.low for each in ranges),
        max(each.high for each in ranges),
        all(each.whole for each in ranges),
    )


def conversion(found: Range) -> tuple[str, str]:
    """How to bring pixels of a range to 0 to 255.

    Returns:
        In words, and as Python with ``{x}`` in the place of the pixels, which is still to be
        rounded; empty where nobody can know.
    """
    low, high = found.low, found.high
    if not (math.isfinite(low) and math.isfinite(high)):
        return "some are not finite numbers", ""
    if low >= 0 and high <= 1:
        return "multiply by 255 and round", "{x} * 255"
    if low >= -1 and high <= 1:
        return "add 1, multiply by 127.5 and round", "({x} + 1) * 127.5"
    if low >= 0 and high <= 255:
        return "round", "{x}"
    if found.whole and low >= -128 and high <= 127:
        return "add 128", "{x} + 128"
    if found.whole and low >= 0 and high <= 65535:
        return "divide by 257 and round", "{x} / 257"
    if low == high:
        return "all are the same", ""
    return (
        "save them as they were before they were brought to this range, which a teacher that was "
        "trained on them needs, or bring it to 0 to 255",
        f"({{x}} - {low!r}) * {255 / (high - low)!r}",
    )
