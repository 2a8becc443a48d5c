"""Damage to bytes, whatever they mean."""

from __future__ import annotations

import random
import struct

# What programs trip over, as they stand in files.
ODD = tuple(
    struct.pack(form, value)
    for form, value in (
        *((f, v) for f in ("<i", ">i") for v in (-1, 0, 2**31 - 1, -(2**31))),
        *((f, v) for f in ("<q", ">q") for v in (-1, 0, 10**12, 2**63 - 1, -(2**63))),
        *((f, v) for f in ("<f", "<d") for v in (float("nan"), float("inf"), -0.0, 1e38)),
    )
)
MOST_AT_ONCE = 4


def damaged(content: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """The content with one to four things wrong.

    Args:
        content: of a valid file.
        rng: the source of chance.
        other: of another valid file, that it may be spliced with.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 3, MOST_AT_ONCE))):
        content = _once(content, rng, other)
    return content


def _once(content: bytes, rng: random.Random, other: bytes) -> bytes:
    ways = ["flip", "set", "truncate", "insert", "duplicate", "swap", "zero", "odd", "odd"]
    way = rng.choice([*ways, "splice"] if other else ways)
    if not content:
        return rng.randbytes(rng.randrange(1, 64))
    where = _place(content, rng)
    length = min(len(content) - where, 1 << rng.randrange(10))
    before, part, after = (
        content[:where],
        content[where : where + length],
        content[where + length :],
    )
    match way:
        case "flip":
            return before + bytes((part[0] ^ (1 << rng.randrange(8)),)) + part[1:] + after
        case "set":
            return before + rng.randbytes(1) + part[1:] + after
        case "truncate":
            return before
        case "insert":
            return before + rng.randbytes(length) + part + after
        case "duplicate":
            return before + part * rng.choice((2, 2, 3, 100)) + after
        case "swap":
            elsewhere = _place(after, rng) if after else 0
            return before + after[:elsewhere] + part + after[elsewhere:]
        case "zero":
            return before + bytes(length) + after
        case "odd":
            value = rng.choice(ODD)
            return before + value + (part + after)[len(value) :]
        case _:
            return before + other[_place(other, rng) :]


def _place(content: bytes, rng: random.Random) -> int:
    """Anywhere, or near one of the ends, where headers and directories are."""
    ends = min(len(content), 256)
    return rng.choice(
        (
            rng.randrange(len(content)),
            rng.randrange(ends),
            len(content) - 1 - rng.randrange(ends),
        )
    )
