from __future__ import annotations

import pytest

from compress.errors import UsageError
from compress.gate.precision import PrecisionRule, more_images
from compress.gate.verdict import Outcome
from compress.results import Fidelity
from compress.tasks.classification import Paired


@pytest.mark.parametrize(
    ("n", "lost", "won", "outcome"),
    [
        (10_000, 0, 0, Outcome.PASS),
        (10_000, 60, 55, Outcome.PASS),
        (10_000, 100, 95, Outcome.PASS),
        (10_000, 80, 0, Outcome.FAIL),
        (10_000, 250, 230, Outcome.INCONCLUSIVE),  # 0.2 points, and not known well enough
        (500, 0, 0, Outcome.INCONCLUSIVE),
        (1_000, 0, 0, Outcome.PASS),
    ],
)
def test_what_is_not_decided_is_too_much(n: int, lost: int, won: int, outcome: Outcome) -> None:
    rule = PrecisionRule(0.005)
    assert rule.compare(Paired(n, lost, won, n - lost)).outcome is outcome
    theirs = [True] * lost + [False] * won + [True] * (n - lost - won)
    ours = [False] * lost + [True] * won + [True] * (n - lost - won)
    said = rule.judge(Paired.of(ours, theirs))
    assert bool(said) == (outcome is not Outcome.PASS)
    assert said.startswith("It is undecided: ") == (outcome is Outcome.INCONCLUSIVE)


def test_the_rule_says_what_it_found() -> None:
    judge = PrecisionRule(0.005).judge
    assert judge(Paired(1000, 10, 0, 990)) == (
        "99.00% against 100.00% of float32: -1.00 points (95%: -1.83 to -0.54), a drop of 0.5 is "
        "allowed; 10 lost and 0 won of 1,000 images, exact McNemar p 0.002 "
        "(--max-precision-loss)."
    )
    assert "about 770 images would decide" in judge(Paired(100, 0, 0, 100))


def test_where_more_images_come_from() -> None:
    rule = PrecisionRule(0.005)
    undecided = rule.compare(Paired(100, 0, 0, 90))
    assert undecided.evidence["images_needed"] == 765
    assert more_images(undecided, "photos", 100, 900) == (
        " Hold out more images with --validation 770; photos has 1,000 for training and "
        "validation, of which 100 are held out now."
    )
    # As exact as is said, and never more than there are.
    assert "--validation 769;" in more_images(undecided, "photos", 100, 670)
    assert more_images(undecided, "photos", 100, 600) == (
        " photos has at most 699 images to hold out (--validation): give a larger set with "
        "--data, or allow a larger loss."
    )
    for decided in (Paired(10_000, 0, 0, 9_000), Paired(10_000, 80, 0, 9_000)):
        assert more_images(rule.compare(decided), "photos", 10_000, 10_000) == ""


@pytest.mark.parametrize("most", [0, -0.1, 1, float("nan")])
def test_a_limit_is_a_fraction(most: float) -> None:
    with pytest.raises(UsageError, match="--max-precision-loss is"):
        PrecisionRule(most)


def test_the_better_file_passes_or_may_lose_less() -> None:
    rule = PrecisionRule(0.01)

    def file(lost: int, won: int) -> Fidelity:
        return Fidelity(
            images=1000,
            top1_agreement=1.0,
            max_abs_diff=0.0,
            relative_error=0.0,
            pair=Paired(1000, lost, won, 900 - lost + won).to_dict(),
        )

    few, many, fewer = file(9, 6), file(80, 78), file(8, 6)
    assert rule.of(few).outcome is Outcome.INCONCLUSIVE
    # It lost fewer images on balance, and nobody knows how many it may lose.
    assert not rule.better(many, few)
    assert rule.better(fewer, few)
    assert not rule.better(few, few)
    assert rule.better(file(2, 2), file(80, 85))
