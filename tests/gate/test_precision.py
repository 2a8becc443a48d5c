from __future__ import annotations

import pytest

from compress.errors import UsageError
from compress.gate.accuracy import Paired
from compress.gate.precision import PrecisionRule
from compress.gate.verdict import Outcome


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
    said = rule.judge(ours, theirs)
    assert bool(said) == (outcome is not Outcome.PASS)
    assert said.startswith("It is not decided: ") == (outcome is Outcome.INCONCLUSIVE)


def test_the_rule_says_what_it_found() -> None:
    judge = PrecisionRule(0.005).judge
    assert judge([False] * 10 + [True] * 990, [True] * 1000) == (
        "99.00% against 100.00% of float32: -1.00 points (95%: -1.83 to -0.54), a drop of 0.5 is "
        "allowed; 10 lost and 0 won of 1,000 images, exact McNemar p 0.002 "
        "(--max-precision-loss)."
    )
    assert "about 770 images would decide" in judge([True] * 100, [True] * 100)


@pytest.mark.parametrize("most", [0, -0.1, 1, float("nan")])
def test_a_limit_is_a_fraction(most: float) -> None:
    with pytest.raises(UsageError, match="--max-precision-loss is"):
        PrecisionRule(most)
