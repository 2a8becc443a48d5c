"""Two classifiers on the same images: counts, bounds and McNemar's test."""

from __future__ import annotations

import math

import pytest

from compress.errors import UsageError
from compress.tasks.classification import Paired


def test_pairs_are_counted() -> None:
    candidate = [True, True, False, False, True, False]
    baseline = [True, False, True, True, True, False]
    pair = Paired.of(candidate, baseline)
    assert pair == Paired(n=6, lost=2, won=1, right=3)
    assert pair.drop == pytest.approx(1 / 6)
    assert pair.discordant == pytest.approx(0.5)


def test_only_the_same_images_can_be_compared() -> None:
    with pytest.raises(UsageError, match="scored on 2 images and the baseline on 3"):
        Paired.of([True, True], [True, True, True])
    with pytest.raises(UsageError, match="no images"):
        Paired.of([], [])


def test_the_bounds_are_those_of_the_literature() -> None:
    # Airway hyper-responsiveness before and after a transplantation (Bentur et al. 2009), as
    # Fagerland, Lydersen and Laake work it out in section 7: Tango -0.517 to -0.026, p 0.0703.
    pair = Paired(n=21, lost=1, won=7, right=8)
    found = pair.interval()
    assert found.value == pytest.approx(-6 / 21)
    assert (round(found.low, 3), round(found.high, 3)) == (-0.517, -0.026)
    assert pair.mcnemar() == pytest.approx(2 * (8 + 1) / 2**8)


def test_bounds_mirror_when_the_two_change_places() -> None:
    there, back = Paired(500, 30, 12, 400).interval(), Paired(500, 12, 30, 400).interval()
    assert there.low == pytest.approx(-back.high)
    assert there.high == pytest.approx(-back.low)


def test_where_no_answer_differs_the_bound_is_that_of_nothing_seen() -> None:
    found = Paired(2000, 0, 0, 1800).interval()
    assert found.high == pytest.approx(1.959964**2 / (2000 + 1.959964**2), rel=1e-6)
    assert Paired(2000, 0, 0, 1800).mcnemar() == 1.0


def test_mcnemar_counts_the_tail() -> None:
    assert Paired(100, 5, 0, 90).mcnemar() == pytest.approx(2 / 32)
    assert Paired(100, 5, 0, 90).false_alarm() == pytest.approx(1 / 32)
    assert Paired(100, 0, 5, 90).false_alarm() == 1.0
    assert Paired(100, 3, 3, 90).mcnemar() == 1.0
    many = Paired(100_000, 3200, 2800, 90_000)
    normal = math.erfc((400 - 1) / math.sqrt(6000) / math.sqrt(2))
    assert many.mcnemar() == pytest.approx(normal, rel=0.02)
