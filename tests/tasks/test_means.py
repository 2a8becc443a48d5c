"""Scores that are means over images: numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from compress.errors import UsageError
from compress.gate.accuracy import AccuracyRule, compare_accuracy
from compress.gate.verdict import Outcome
from compress.tasks.deciding import images_to_decide, rounded
from compress.tasks.means import Mean, PairedMeans, PerImage, bootstrap
from tests.tasks.brightness import METRIC, VALUE, Brightness


def images(*values: float) -> PerImage:
    return PerImage(METRIC, values)


def test_the_drop_is_that_of_the_same_images() -> None:
    pair = images(1, 2, 3, 6).against(images(2, 4, 3, 7))
    assert pair == PairedMeans(METRIC, n=4, score=3.0, drop=1.0, variance=0.5)
    # The differences 1, 2, 0, 1 have a standard deviation of sqrt(2/3), their mean half of it.
    error = math.sqrt(2 / 3) / 2
    found = pair.interval()
    assert found.low == pytest.approx(1 - 1.959964 * error)
    assert found.high == pytest.approx(1 + 1.959964 * error)
    assert pair.deviations() == pytest.approx(1 / error)
    assert pair.false_alarm() == pytest.approx(0.5 * math.erfc(1 / error / math.sqrt(2)))
    assert Brightness().pair_of(pair.to_dict()) == pair


def test_only_the_same_images_can_be_compared() -> None:
    with pytest.raises(UsageError, match="scored on 1 images and the baseline on 2"):
        images(1).against(images(1, 2))
    with pytest.raises(UsageError, match="no images to compare the negative_error on"):
        images().against(images())


def test_one_image_says_nothing() -> None:
    assert images(1).against(images(2)).interval().high == math.inf


def test_the_rule_of_the_gate_serves_it() -> None:
    rng = np.random.default_rng(0)
    theirs = images(*rng.normal(0, 0.1, 400))
    same = images(*(value + 0.001 * (-1) ** place for place, value in enumerate(theirs.values)))
    worse = images(*(value - 0.1 - 0.01 * (place % 2) for place, value in enumerate(same.values)))
    said = compare_accuracy(same.against(theirs), AccuracyRule(0.01))
    assert said.outcome is Outcome.PASS
    assert said.name == "negative_error"
    assert "400 images, one-sided p" in said.reason
    assert compare_accuracy(worse.against(theirs), AccuracyRule(0.01)).outcome is Outcome.FAIL
    open_ = images(1.0, 1.2).against(images(1.1, 1.1))
    assert compare_accuracy(open_, AccuracyRule(0.01)).outcome is Outcome.INCONCLUSIVE
    # z^2 0.01 / 0.01^2 for the variance and what is allowed.
    assert open_.images_needed(0.01) == math.ceil(1.959964**2 * 0.01 / 0.01**2)
    assert images_to_decide(0.01, 0.01, 0.01) is None
    assert rounded(1234) == 1300


def test_what_each_process_adds_is_one_mean() -> None:
    def part(*errors: float) -> Mean:
        tally = Brightness().tally(torch.device("cpu"))
        tally.add({VALUE: torch.tensor(errors)[:, None]}, torch.zeros(len(errors)))
        return tally

    one, other = part(1.0, 2.0), part(6.0)
    sums: list[torch.Tensor] = []

    def kept(values: torch.Tensor) -> torch.Tensor:
        sums.append(values)
        return sum(sums[1:], start=sums[0])

    assert one.value(kept) == -1.5
    assert other.value(kept) == -3.0


def test_a_bootstrap_draws_the_same_images_for_both() -> None:
    ours, theirs = np.arange(100.0), np.arange(100.0) + 1

    def difference(weights: np.ndarray) -> float:
        return float((weights * (ours - theirs)).sum() / weights.sum())

    found = bootstrap(100, difference, -1.0)
    assert found.low == pytest.approx(-1)
    assert found.high == pytest.approx(-1)


def test_evidence_is_taken_and_compared() -> None:
    some = images(1, 2, 3).take(torch.tensor([2, 0]))
    assert list(some.values) == [3, 1]
    differing = some.differing(images(3 + 1e-8, 1.5))
    assert differing == 1
    assert images(1, 2).to_dict() == {"values": [1, 2]}
