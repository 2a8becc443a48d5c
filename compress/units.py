"""Quantities as people read them. SI inside, pretty units only when printing."""

from __future__ import annotations


def format_time(seconds: float) -> str:
    """0.00123 -> '1.23 ms'. Three significant digits, from ns to s."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")):
        if abs(seconds) >= scale or unit == "ns":
            return f"{_three_digits(seconds / scale)} {unit}"
    raise AssertionError  # pragma: no cover - the last unit takes everything


def format_bytes(size_bytes: float) -> str:
    """4_900_000 -> '4.90 MB'. Decimal megabytes, as --budget-mb is."""
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(size_bytes) >= scale:
            return f"{_three_digits(size_bytes / scale)} {unit}"
    return f"{size_bytes:.0f} B"


def format_count(count: float) -> str:
    """1_222_820 -> '1.22 M'. For parameters and MACs."""
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= scale:
            return f"{_three_digits(count / scale)} {unit}"
    return f"{count:.0f}"


def format_duration(seconds: float) -> str:
    """3725 -> '1 h 02 min'. For waiting times, not for latencies."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"


def format_percent(fraction: float, digits: int = 2) -> str:
    """0.9173 -> '91.73%'. Accuracies are fractions of 1 everywhere but on a screen."""
    return f"{100 * fraction:.{digits}f}%"


def _three_digits(value: float) -> str:
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
