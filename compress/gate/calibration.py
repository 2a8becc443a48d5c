"""Whether a model is as sure as it is right: its expected calibration error beside another's.

How sure a model is of what is the task's (``Confidence``).

    PASS   the upper bound of how much larger it is, is below what is allowed
    FAIL   its lower bound is above 0, and it is larger by more than what is allowed
    else   INCONCLUSIVE

The bounds are those of a bootstrap over images, both models on the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from compress.errors import UsageError
from compress.gate.verdict import Comparison, Figures, Outcome
from compress.results import Estimate
from compress.tasks.means import bootstrap
from compress.tasks.task import Confidence
from compress.units import format_percent


@dataclass(frozen=True)
class CalibrationRule:
    """When a candidate is calibrated too much worse.

    Attributes:
        allowed: how much larger its error may be, as a fraction of 1.

    Raises:
        UsageError: it is no such fraction.
    """

    allowed: float

    def __post_init__(self) -> None:
        if not 0 < self.allowed < 1:
            raise UsageError(
                f"--max-calibration-drop is {100 * self.allowed:g}; it takes points above 0 and "
                "below 100, such as 1."
            )

    def decide(self, larger: Estimate) -> Outcome:
        """What the difference of two errors says."""
        if larger.high < self.allowed:
            return Outcome.PASS
        if larger.low > 0 and larger.value > self.allowed:
            return Outcome.FAIL
        return Outcome.INCONCLUSIVE


def compare_calibration(
    ours: Confidence, theirs: Confidence, count: int, rule: CalibrationRule
) -> Comparison:
    """The errors of two models on the same images, judged.

    Args:
        ours: of the candidate.
        theirs: of the baseline.
        count: images.
        rule: what is allowed.
    """
    here, there = ours.error(), theirs.error()
    larger = bootstrap(
        count, lambda weights: ours.error(weights) - theirs.error(weights), here - there
    )
    outcome = rule.decide(larger)
    reason = (
        f"expected calibration error {format_percent(here)} against {format_percent(there)} of the "
        f"baseline: {100 * larger.value:+.2f} points (95%: {100 * larger.low:+.2f} to "
        f"{100 * larger.high:+.2f}), {100 * rule.allowed:g} allowed; {count:,} images"
    )
    return Comparison(
        "calibration",
        outcome,
        reason,
        {
            "candidate": here,
            "baseline": there,
            "larger": larger.to_dict(),
            "allowed": rule.allowed,
            "n": count,
        },
        Figures(
            format_percent(there),
            format_percent(here),
            f"{100 * larger.value:+.2f} points",
            f"+{100 * rule.allowed:g} points",
        ),
    )


def told_calibration(ours: Confidence, theirs: Confidence | None, count: int) -> str:
    """The same where nothing is asked of it, for what is not judged."""
    here = f"expected calibration error {format_percent(ours.error())}"
    if theirs is not None:
        here += f" against {format_percent(theirs.error())} of the baseline"
    return f"{here}, {count:,} images (--max-calibration-drop judges it)"
