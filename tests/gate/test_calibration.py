from __future__ import annotations

import pytest
import torch

from compress.errors import UsageError
from compress.gate.calibration import (
    CalibrationRule,
    calibration_error,
    compare_calibration,
    told_calibration,
)
from compress.gate.verdict import Outcome


def test_the_error_is_what_is_worked_out_by_hand() -> None:
    # Ten images at 75% of which six are right, ten at 95% of which all are.
    sure = torch.tensor([0.75] * 10 + [0.95] * 10).double()
    probabilities = torch.stack([sure, 1 - sure], dim=1)
    labels = torch.tensor([0] * 6 + [1] * 4 + [0] * 10)
    by_hand = 0.5 * 0.15 + 0.5 * 0.05
    assert calibration_error(probabilities, labels) == pytest.approx(by_hand)
    # Logits of the same probabilities, whatever is added to them.
    assert calibration_error(probabilities.log() + 7, labels) == pytest.approx(by_hand)


def drawn(count: int = 2000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels that are drawn as the logits say, so that they are calibrated."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(count, 5, generator=generator)
    labels = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0]
    return logits, labels


def test_logits_that_are_scaled_down_are_calibrated_worse() -> None:
    logits, labels = drawn()
    assert calibration_error(logits, labels) < 0.04
    assert calibration_error(1e-4 * logits, labels) > 0.4
    rule = CalibrationRule(0.01)
    found = compare_calibration(1e-4 * logits, logits, labels, rule)
    assert found.outcome is Outcome.FAIL
    assert "expected calibration error" in found.reason
    assert found.evidence["larger"]["low"] > 0.3
    assert compare_calibration(logits, logits, labels, rule).outcome is Outcome.PASS
    # Of a hundred images such a difference is not known.
    few = compare_calibration(0.9 * logits[:100], logits[:100], labels[:100], rule)
    assert few.outcome is Outcome.INCONCLUSIVE
    assert " against " in told_calibration(logits, logits, labels)
    assert " against " not in told_calibration(logits, None, labels)


@pytest.mark.parametrize("points", [0.0, -1.0, 100.0, float("nan")])
def test_what_cannot_be_allowed(points: float) -> None:
    with pytest.raises(UsageError, match="--max-calibration-drop is"):
        CalibrationRule(points / 100)
