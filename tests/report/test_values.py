from __future__ import annotations

from compress.report import values
from compress.results import Estimate


def test_a_time_and_its_interval_have_one_unit() -> None:
    found = Estimate(0.000975, 0.00093, 0.00104)
    assert values.time_of(found) == "975 us (95%: 930 to 1040)"
    assert values.time_cells(found) == ("975 us", "930-1040")
    assert values.interval_of(found) == "930 to 1040 us"
    assert values.bounded(Estimate(0.00123, 0.00123, 0.0114)) == "1.23 ms (11.40)"
    assert values.bounded(None) == "not known"


def test_ratios_have_three_digits() -> None:
    shown = [values.times(ratio) for ratio in (0.966, 1.0, 7.844, 12.94, 130.2)]
    assert shown == ["0.97", "1.00", "7.84", "12.9", "130"]
    assert values.times_interval(Estimate(8, 7.65, 12.94)) == "7.65 to 12.9"


def test_a_difference_of_shares_is_in_points_and_never_minus_zero() -> None:
    assert [values.points(share) for share in (-0.0445, 0.001, -0.0)] == [
        "-4.45 points",
        "+0.10 points",
        "+0.00 points",
    ]


def test_long_names_keep_both_ends() -> None:
    assert values.shortened("short.onnx", 12) == "short.onnx"
    shown = values.shortened("a-very-long-name-of-a-model.onnx", 16)
    assert len(shown) == 16
    assert shown.startswith("a-ve")
    assert shown.endswith("del.onnx")


def test_counted_things_agree_with_their_number() -> None:
    assert (values.threads(1), values.threads(2)) == ("1 thread", "2 threads")
