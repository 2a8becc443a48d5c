"""Whether a limit is kept, by what was measured: the one rule that every command asks.

The 95% interval of a measurement says where the truth may lie. A limit is kept where the whole
interval keeps it, missed where the whole interval misses it, and undecided where the interval holds
it. Commands end with exit code 0, 1 and 3 accordingly (``compress.errors.ExitCode``).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol


class Interval(Protocol):
    """The ends of a 95% interval, in the unit of the limit."""

    @property
    def low(self) -> float:
        """The lower end."""
        ...

    @property
    def high(self) -> float:
        """The upper end."""
        ...


class Judgement(StrEnum):
    """What an interval says of a limit; the worst one comes first."""

    MISSED = "missed"
    UNDECIDED = "undecided"
    KEPT = "kept"


def judge(
    estimate: Interval, limit: float, *, at_least: bool = False, all_calls: float | None = None
) -> Judgement:
    """Compares an interval with a limit.

    Args:
        estimate: what was measured.
        limit: the most that it may be.
        at_least: whether ``limit`` is the least that it may be instead, as of a speed-up.
        all_calls: of a latency that is the median of undisturbed calls, the median of all calls. A
            limit that only the undisturbed calls keep is undecided. None where there is no such
            figure.
    """
    low, high = estimate.low, estimate.high
    if at_least:
        kept, missed = low >= limit, high < limit
    else:
        kept, missed = high <= limit, low > limit
    if missed:
        return Judgement.MISSED
    if not kept or (all_calls is not None and all_calls > limit):
        return Judgement.UNDECIDED
    return Judgement.KEPT


def worst(judgements: Iterable[Judgement]) -> Judgement:
    """The judgement of several limits together: kept where each of them is, or there is none."""
    found = set(judgements)
    return next((each for each in Judgement if each in found), Judgement.KEPT)
