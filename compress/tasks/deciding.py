"""How many images it takes to tell the scores of two models apart."""

from __future__ import annotations

import math

# Of the normal distribution, for two-sided 95%.
DEVIATIONS = 1.959964
# How often equal models may fail, and the one-sided deviations of that.
FALSE_ALARMS = 0.01
ALARM_DEVIATIONS = 2.326348
# What is so far off is no accident of the images that were taken.
REJECTING_DEVIATIONS = 3.0


def images_to_decide(drop: float, variance: float, allowed: float) -> float | None:
    """How many images would decide, if they went as those that were seen; None: no number would.

    They have to tell the drop from what is allowed where it is below that, and from none where it
    is above.

    Args:
        drop: mean of what each image adds to the difference of two scores.
        variance: of that.
        allowed: drop.
    """
    passes = drop <= allowed
    distance = allowed - drop if passes else drop
    if distance <= 0:
        return None
    return (DEVIATIONS if passes else ALARM_DEVIATIONS) ** 2 * variance / distance**2


def rounded(count: int) -> int:
    """Two significant digits, upwards: an estimate is no more exact than that."""
    step = int("1" + "0" * max(0, len(str(count)) - 2))
    return math.ceil(count / step) * step
