"""compress.units: quantities as people read them."""

import pytest

from compress import units


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00123, "1.23 ms"),
        (0.0123, "12.3 ms"),
        (0.123, "123 ms"),
        (1.5, "1.50 s"),
        (2e-5, "20.0 us"),
        (3e-9, "3.00 ns"),
        (0, "0.00 ns"),
        (-0.002, "-2.00 ms"),
    ],
)
def test_time(seconds: float, text: str) -> None:
    assert units.format_time(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(4_900_000, "4.90 MB"), (224e6, "224 MB"), (1.5e9, "1.50 GB"), (2_048, "2.05 kB"), (7, "7 B")],
)
def test_bytes_are_decimal(size_bytes: float, text: str) -> None:
    assert units.format_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("count", "text"), [(1_222_820, "1.22 M"), (2.5e9, "2.50 G"), (1200, "1.20 k"), (10, "10")]
)
def test_count(count: float, text: str) -> None:
    assert units.format_count(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "3 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (3725, "1 h 02 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


def test_percent() -> None:
    assert units.format_percent(0.9173) == "91.73%"
    assert units.format_percent(1.0, digits=0) == "100%"
