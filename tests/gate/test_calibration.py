from __future__ import annotations

import pytest
import torch

from compress.errors import UsageError
from compress.gate.calibration import (
    CalibrationRule,
    compare_calibration,
    told_calibration,
)
from compress.gate.verdict import Outcome
from compress.tasks.classification.calibration import calibration


def test_the_error_is_what_is_worked_out_by_hand() -> None:
    # Ten images at 75% of which six are right, ten at 95% of which all are.
    sure = torch.tensor([0.75] * 10 + [0.95] * 10).double()
    probabilities = torch.stack([sure, 1 - sure], dim=1)
    labels = torch.tensor([0] * 6 + [1] * 4 + [0] * 10)
    by_hand = 0.5 * 0.15 + 0.5 * 0.05
    assert calibration(probabilities, labels).error() == pytest.approx(by_hand)
    # Logits of the same probabilities, whatever is added to them.
    assert calibration(probabilities.log() + 7, labels).error() == pytest.approx(by_hand)


def drawn(count: int = 2000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels that are drawn as the logits say, so that they are calibrated."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(count, 5, generator=generator)
    labels = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0]
    return logits, labels


def test_logits_that_are_scaled_down_are_calibrated_worse() -> None:
    logits, labels = drawn()
    assert calibration(logits, labels).error() < 0.04
    assert calibration(1e-4 * logits, labels).error() > 0.4
    rule = CalibrationRule(0.01)
    sure, unsure = calibration(logits, labels), calibration(1e-4 * logits, labels)
    found = compare_calibration(unsure, sure, 2000, rule)
    assert found.outcome is Outcome.FAIL
    assert "expected calibration error" in found.reason
    assert found.evidence["larger"]["low"] > 0.3
    assert compare_calibration(sure, sure, 2000, rule).outcome is Outcome.PASS
    # Of a hundred images such a difference is not known.
    few = compare_calibration(
        calibration(0.9 * logits[:100], labels[:100]),
        calibration(logits[:100], labels[:100]),
        100,
        rule,
    )
    assert few.outcome is Outcome.INCONCLUSIVE
    assert " against " in told_calibration(sure, sure, 2000)
    assert " against " not in told_calibration(sure, None, 2000)


@pytest.mark.parametrize("points", [0.0, -1.0, 100.0, float("nan")])
def test_what_cannot_be_allowed(points: float) -> None:
    with pytest.raises(UsageError, match="--max-calibration-drop is"):
        CalibrationRule(points / 100)
