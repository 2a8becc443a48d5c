"""compress.spec: what a normalisation and a budget are."""

import pytest

from compress.errors import UsageError
from compress.spec import Budget, Normalization


def test_a_normalisation_is_read_from_text() -> None:
    expected = Normalization((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    assert Normalization.parse("0.5,0.4,0.3/0.2,0.2,0.1") == expected
    assert Normalization.parse("0.5/0.2").to_dict() == {"mean": [0.5], "std": [0.2]}


@pytest.mark.parametrize("text", ["", "imagnet", "1,2/3", "0.5/0", "0.5/-1", "nan/1", "1/2/3"])
def test_what_is_no_normalisation_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Normalization.parse(text)


@pytest.mark.parametrize(
    ("mean", "std", "unit_mean", "unit_std"),
    [
        ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), None, None),
        # A mean of 0 and a deviation of 1 are of either scale.
        ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ((127.5,), (127.5,), (0.5,), (0.5,)),
        ((102.0, 51.0, 0.0), (51.0, 51.0, 51.0), (0.4, 0.2, 0.0), (0.2, 0.2, 0.2)),
        ((102.0,), (1.0,), (0.4,), (0.003921569,)),
    ],
)
def test_a_normalisation_of_bytes_is_divided_by_255(
    mean: tuple[float, ...],
    std: tuple[float, ...],
    unit_mean: tuple[float, ...] | None,
    unit_std: tuple[float, ...] | None,
) -> None:
    found = Normalization(mean, std)
    imagenet = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    expected = Normalization(unit_mean, unit_std) if unit_mean and unit_std else imagenet
    assert found == expected
    assert found.to_dict() == expected.to_dict()
    assert found.of_bytes
    assert not expected.of_bytes
    text = "/".join(",".join(map(str, values)) for values in (mean, std))
    assert Normalization.parse(text) == expected


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((123.675, 116.28, 103.53), (0.229, 0.224, 0.225)),
        ((0.485, 0.456, 0.406), (58.395, 57.12, 57.375)),
        ((123.675, 0.456, 103.53), (58.395, 57.12, 57.375)),
        ((-123.675, -116.28, -103.53), (58.395, 57.12, 57.375)),
        ((31_000.0,), (14_000.0,)),
        ((0.0,), (256.0,)),
    ],
)
def test_a_normalisation_of_two_scales_is_refused_with_what_was_found(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    with pytest.raises(UsageError, match="fit neither") as error:
        Normalization(mean, std)
    assert str(mean) in str(error.value)
    assert str(std) in str(error.value)


def test_a_budget_names_every_impossible_limit() -> None:
    with pytest.raises(UsageError) as caught:
        Budget(latency_s=-0.002, size_bytes=float("nan"), batch=0, percentile=100)
    message = str(caught.value)
    assert "--budget-ms is -2," in message
    for option in ("--budget-mb", "--batch", "--percentile"):
        assert option in message


def test_a_speedup_is_a_ratio_of_medians() -> None:
    with pytest.raises(UsageError, match="--speedup compares medians"):
        Budget(speedup=2, percentile=90)
    assert Budget(latency_s=1e-3, percentile=99).percentile == 99


def test_a_budget_without_a_limit_chooses_nothing() -> None:
    assert not Budget(batch=8).limited
    with pytest.raises(UsageError, match="--speedup"):
        Budget().require_limit()
