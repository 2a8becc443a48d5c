from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from compress.errors import UsageError
from compress.gate.accuracy import AccuracyRule, compare_accuracy
from compress.gate.verdict import Outcome
from compress.tasks.classification import Paired


@pytest.mark.parametrize(
    ("lost", "won", "outcome"),
    [
        (0, 0, Outcome.PASS),
        (20, 40, Outcome.PASS),
        (100, 40, Outcome.FAIL),
        (40, 38, Outcome.INCONCLUSIVE),
        # Below what is allowed, however sure: 9 of 2000 is a drop of 0.45 points.
        (9, 0, Outcome.INCONCLUSIVE),
        # Above what is allowed, and no surprise.
        (60, 45, Outcome.INCONCLUSIVE),
    ],
)
def test_the_rule(lost: int, won: int, outcome: Outcome) -> None:
    assert AccuracyRule().decide(Paired(2000, lost, won, 1800)) is outcome


def test_few_images_are_not_enough_to_fail() -> None:
    # Six of six: Tango's lower bound is above 0, and equal models do it once in 64 times.
    pair = Paired(100, 6, 0, 90)
    assert pair.interval().low > 0
    assert AccuracyRule().decide(pair) is Outcome.INCONCLUSIVE
    assert AccuracyRule().decide(Paired(100, 7, 0, 90)) is Outcome.FAIL


def outcomes(n: int, lost: float, won: float) -> Iterator[tuple[Paired, float]]:
    """All counts that are not next to impossible, with their probabilities."""

    def near(share: float) -> range:
        middle, spread = n * share, 6 * math.sqrt(n * share) + 3
        return range(max(0, int(middle - spread)), int(middle + spread) + 1)

    for b in near(lost):
        for c in near(won):
            rest = n - b - c
            log = (
                math.lgamma(n + 1)
                - math.lgamma(b + 1)
                - math.lgamma(c + 1)
                - math.lgamma(rest + 1)
                + b * math.log(lost)
                + c * math.log(won)
                + rest * math.log1p(-lost - won)
            )
            yield Paired(n, b, c, n // 2), math.exp(log)


@pytest.mark.parametrize(
    ("n", "drop", "discordant"),
    [(200, 0.02, 0.05), (500, 0.005, 0.02), (500, 0.01, 0.011), (1000, 0.005, 0.05)],
)
def test_a_drop_of_what_is_allowed_seldom_passes(n: int, drop: float, discordant: float) -> None:
    lost, won = (discordant + drop) / 2, (discordant - drop) / 2
    rule, total, passed = AccuracyRule(drop), 0.0, 0.0
    for pair, probability in outcomes(n, lost, won):
        total += probability
        passed += probability * (rule.decide(pair) is Outcome.PASS)
    assert total == pytest.approx(1, abs=1e-6)
    assert passed <= 0.026


@pytest.mark.parametrize(("n", "discordant"), [(200, 0.05), (1000, 0.01), (1000, 0.05)])
def test_equal_models_fail_in_no_more_than_one_of_a_hundred(n: int, discordant: float) -> None:
    rule = AccuracyRule()
    failed = sum(
        probability
        for pair, probability in outcomes(n, discordant / 2, discordant / 2)
        if rule.decide(pair) is Outcome.FAIL
    )
    assert failed <= 0.01
    # What a drop of more than 0.5 points alone would do.
    plain = sum(p for pair, p in outcomes(n, discordant / 2, discordant / 2) if pair.drop > 0.005)
    assert plain > 0.03


@pytest.mark.parametrize(
    ("n", "lost", "won"), [(2000, 40, 38), (50, 0, 0), (500, 0, 1), (1000, 30, 20), (2000, 9, 0)]
)
def test_the_number_of_images_that_would_decide_does(n: int, lost: int, won: int) -> None:
    rule, pair = AccuracyRule(), Paired(n, lost, won, n // 2)
    assert rule.decide(pair) is Outcome.INCONCLUSIVE
    needed = pair.images_needed(rule.allowed)
    assert needed is not None
    assert needed > n
    factor = 1.15 * needed / n
    more = Paired(round(n * factor), round(lost * factor), round(won * factor), n // 2)
    assert rule.decide(more) is not Outcome.INCONCLUSIVE
    factor = 0.5 * needed / n
    if factor > 1:
        fewer = Paired(round(n * factor), round(lost * factor), round(won * factor), n // 2)
        assert rule.decide(fewer) is Outcome.INCONCLUSIVE


def test_a_drop_of_just_what_is_allowed_is_never_decided() -> None:
    pair = Paired(2000, 20, 10, 1800)
    assert pair.images_needed(0.005) is None
    assert "no number of images" in compare_accuracy(pair, AccuracyRule()).reason


def test_the_comparison_says_what_it_rests_on() -> None:
    found = compare_accuracy(Paired(2000, 40, 38, 1800), AccuracyRule())
    assert found.reason == (
        "90.00% against 90.10% of the baseline: -0.10 points (95%: -0.99 to +0.78), a drop of 0.5 "
        "is allowed; 40 lost and 38 won of 2,000 images, exact McNemar p 0.91; about 9,400 images "
        "would decide"
    )
    assert found.evidence["mcnemar_p"] == pytest.approx(0.91, abs=0.005)
    assert found.evidence["baseline"] == pytest.approx(0.901)
    surely = compare_accuracy(Paired(2000, 100, 0, 1800), AccuracyRule())
    assert surely.outcome is Outcome.FAIL
    assert "p below 0.001" in surely.reason
    assert surely.evidence["images_needed"] is None


@pytest.mark.parametrize("allowed", [-0.001, 1.0, math.nan])
def test_what_is_allowed_is_a_share(allowed: float) -> None:
    with pytest.raises(UsageError, match="--max-accuracy-drop"):
        AccuracyRule(allowed)
