"""Quantities as every command writes them: a time with its interval, a ratio, a share, a name."""

from __future__ import annotations

from compress.results import Estimate
from compress.streams import escaped
from compress.units import format_time

UNKNOWN = "not known"


def time_of(found: Estimate) -> str:
    """'1.21 ms (95%: 1.19 to 1.24)', for a sentence."""
    value, low, high, unit = _alike(found.value, found.value, found.low, found.high)
    return f"{value} {unit} (95%: {low} to {high})"


def time_cells(found: Estimate) -> tuple[str, str]:
    """('1.21 ms', '1.19-1.24'), for two columns: the interval is in the unit of the time."""
    value, low, high, unit = _alike(found.value, found.value, found.low, found.high)
    return f"{value} {unit}", f"{low}-{high}"


def interval_of(found: Estimate) -> str:
    """'1.19 to 1.24 ms'."""
    low, high, unit = _alike(found.value, found.low, found.high)
    return f"{low} to {high} {unit}"


def bounded(found: Estimate | None) -> str:
    """'0.87 ms (0.91)': a time and its upper bound."""
    if found is None:
        return UNKNOWN
    value, high, unit = _alike(found.value, found.value, found.high)
    return f"{value} {unit} ({high})"


def share_cell(found: Estimate) -> str:
    """'90% (88%-93%)', for a column whose header says what the interval is."""
    return f"{found.value:.0%} ({found.low:.0%}-{found.high:.0%})"


def times(ratio: float) -> str:
    """A ratio with three digits: '0.97', '7.84', '12.9', '130'."""
    return f"{ratio:.{0 if ratio >= 100 else 1 if ratio >= 10 else 2}f}"


def times_interval(ratio: Estimate) -> str:
    """'7.65 to 7.98'."""
    return f"{times(ratio.low)} to {times(ratio.high)}"


def points(difference: float) -> str:
    """A difference of two shares: -0.0445 -> '-4.45 points'."""
    return f"{100 * difference + 0.0:+.2f} points"


def threads(count: int) -> str:
    """'1 thread', '2 threads'."""
    return f"{count} thread{'s' * (count != 1)}"


def plain(text: str) -> str:
    """Text on one line without a control character: a line of its own might be a command."""
    return escaped(" ".join(text.split())).replace("\x1b", "\\u001b")


def shortened(name: str, room: int) -> str:
    """The beginning and the end of a long name."""
    if len(name) <= room:
        return name
    tail = (room - 3) * 2 // 3
    return f"{name[: room - 3 - tail]}...{name[-tail:]}"


def _alike(pattern_s: float, *values_s: float) -> tuple[str, ...]:
    """Times in the unit and with the digits that the first one is printed with; then the unit."""
    shown, unit = format_time(pattern_s).split(" ")
    scale = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit]
    digits = len(shown.partition(".")[2])
    return (*(f"{value / scale:.{digits}f}" for value in values_s), unit)
