"""How many images a classifier has right, and which: what is counted, kept and stored."""

from __future__ import annotations

import base64
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compress.errors import DataError
from compress.schema.rules import Count, Number
from compress.tasks.classification.paired import Paired
from compress.tasks.task import Outputs, Sum, Targets, alone

LOGITS = "logits"
# Characters of a line of bits in a file.
LINE = 76


class Hits:
    """See ``Tally``: the share of images whose largest logit is the label's."""

    def __init__(self, device: torch.device) -> None:
        self._right = torch.zeros((), dtype=torch.int64, device=device)
        self._seen = 0

    def add(self, outputs: Outputs, targets: Targets) -> None:
        """See ``Tally``."""
        self._right += (outputs[LOGITS].argmax(dim=1) == targets).sum()
        self._seen += len(targets)

    def value(self, total: Sum = alone) -> float:
        """See ``Tally``.

        Raises:
            DataError: there were no images.
        """
        seen = torch.full_like(self._right, self._seen)
        right, count = total(torch.stack([self._right, seen])).tolist()
        if not count:
            raise DataError("This split is empty, but accuracy needs at least one image.")
        return float(right / count)


@dataclass(frozen=True)
class Right:
    """See ``Evidence``: which images are right.

    Attributes:
        each: of the images, in their order.
    """

    each: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.each)

    @property
    def value(self) -> float:
        """Accuracy, as a fraction of 1.

        Raises:
            DataError: there are no images.
        """
        if not self.each:
            raise DataError("This split is empty, but accuracy needs at least one image.")
        return sum(self.each) / len(self.each)

    @property
    def details(self) -> str:
        """See ``Evidence``: how many are right."""
        return f"{sum(self.each):,} of {len(self.each):,}"

    def take(self, index: Tensor) -> Right:
        """See ``Evidence``."""
        return Right(tuple(self.each[place] for place in index.tolist()))

    def differing(self, other: Right) -> int:
        """See ``Evidence``."""
        return sum(one != two for one, two in zip(self.each, other.each, strict=True))

    def against(self, other: Right) -> Paired:
        """See ``Evidence``."""
        return Paired.of(self.each, other.each)

    def to_dict(self) -> dict[str, Any]:
        """See ``Evidence``."""
        return {"bits": encode_bits(self.each), "n": len(self.each), "right": sum(self.each)}


@dataclass(frozen=True)
class StoredRight:
    """Which images were right, as a file has it."""

    bits: list[str]
    n: Number
    right: Count

    def __post_init__(self) -> None:
        if sum(self.evidence.each) != self.right:
            raise ValueError(
                f"right is {self.right}, {sum(self.evidence.each)} of the bits are set"
            )

    @property
    def evidence(self) -> Right:
        """See ``Stored``."""
        return Right(decode_bits(self.bits, self.n))


def encode_bits(right: tuple[bool, ...]) -> list[str]:
    """A bit an image, in base64, in lines that a diff can show."""
    packed = np.packbits(np.array(right, dtype=np.bool_)).tobytes()
    return textwrap.wrap(base64.b64encode(packed).decode("ascii"), LINE)


def decode_bits(lines: list[str], n: int) -> tuple[bool, ...]:
    """The inverse of ``encode_bits``.

    Raises:
        ValueError: there are not so many bits.
    """
    packed = np.frombuffer(base64.b64decode("".join(lines), validate=True), dtype=np.uint8)
    if len(packed) != (n + 7) // 8:
        raise ValueError(f"{len(packed)} bytes do not hold {n} bits")
    return tuple(np.unpackbits(packed, count=n).astype(bool).tolist())
