"""What was found of a precision on the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from compress.results import Estimate
from compress.schema import decode, encode
from compress.schema.rules import Key, known
from compress.spec import PRECISIONS


@dataclass(frozen=True)
class PrecisionTrial:
    """What is known of one precision on the target.

    Attributes:
        precision: one of PRECISIONS.
        runs: whether the target runs such files at all.
        eligible: whether a student may be chosen in it.
        why: a phrase.
        ratio: its time / float32's; None where it was not timed.
    """

    precision: Annotated[str, known(*PRECISIONS)]
    runs: bool
    eligible: bool
    why: str
    ratio: Annotated[Estimate | None, Key("time_by_fp32")] = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found: dict[str, Any] = encode(self)
        return found

    @classmethod
    def from_dict(cls, values: Any) -> PrecisionTrial:
        """The inverse of ``to_dict``.

        Raises:
            InputError: these are no such values.
        """
        return decode(cls, values, "This does not describe the trial of a precision")


FLOAT = PrecisionTrial("fp32", runs=True, eligible=True, why="as the network is trained")
