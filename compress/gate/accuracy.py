"""Whether one model is worse than another, from what both said of the same images.

    PASS   the upper bound of the drop is below what is allowed
    FAIL   its lower bound is above 0, the drop is above what is allowed, and equal models would
           drop so far in no more than 1 of 100 evaluations
    else   INCONCLUSIVE, with the number of images that would decide

The drop, its bounds and how often equal models would drop so far are the task's (``Pair``): of
classifiers Tango's bounds and McNemar's exact test.
"""

from __future__ import annotations

from dataclasses import dataclass

from compress import defaults
from compress.errors import UsageError
from compress.gate.verdict import Comparison, Figures, Outcome
from compress.tasks.deciding import FALSE_ALARMS, rounded
from compress.tasks.task import Pair

MAX_DROP = defaults.MAX_ACCURACY_DROP / 100


@dataclass(frozen=True)
class AccuracyRule:
    """When a candidate is too much worse.

    Attributes:
        allowed: by how much its score may drop; of accuracy, as a fraction of 1.

    Raises:
        UsageError: it is no such fraction.
    """

    allowed: float = MAX_DROP

    def __post_init__(self) -> None:
        if not 0 <= self.allowed < 1:
            raise UsageError(
                f"--max-accuracy-drop is {100 * self.allowed:g}; it takes points from 0 to 100, "
                "such as 0.5."
            )

    def decide(self, pair: Pair) -> Outcome:
        """What the answers to the same images say."""
        drop = pair.interval()
        if drop.high < self.allowed:
            return Outcome.PASS
        if drop.low > 0 and drop.value > self.allowed and pair.false_alarm() <= FALSE_ALARMS:
            return Outcome.FAIL
        return Outcome.INCONCLUSIVE


def compare_accuracy(pair: Pair, rule: AccuracyRule, what: str = "the baseline") -> Comparison:
    """The rule's answer in words.

    Args:
        pair: the answers.
        rule: what is allowed.
        what: the other one is called.
    """
    outcome, drop, metric = rule.decide(pair), pair.interval(), pair.metric
    needed = pair.images_needed(rule.allowed) if outcome is Outcome.INCONCLUSIVE else None
    ours, theirs = metric.text(pair.score), metric.text(pair.score + pair.drop)
    change = metric.with_unit(metric.change(drop.value))
    allowed = f"{metric.scale * rule.allowed:g}"
    reason = (
        f"{ours} against {theirs} of {what}: {change} (95%: {metric.change(drop.high)} to "
        f"{metric.change(drop.low)}), a drop of {allowed} is allowed; {pair.details}"
    )
    if needed is not None:
        reason += f"; about {rounded(needed):,} images would decide"
    elif outcome is Outcome.INCONCLUSIVE:
        reason += "; it is exactly at the limit, so no number of images would decide"
    return Comparison(
        metric.name,
        outcome,
        reason,
        {
            **pair.to_dict(),
            **pair.figures(),
            "candidate": pair.score,
            "baseline": pair.score + pair.drop,
            "drop": drop.to_dict(),
            "allowed": rule.allowed,
            "images_needed": needed,
        },
        Figures(theirs, ours, change, metric.with_unit(f"{-metric.scale * rule.allowed:g}")),
    )
