"""What it does to a student is in tests/test_distill.py."""

from __future__ import annotations

import pytest

from compress.errors import UsageError
from compress.training.options import TrainingOptions
from compress.training.quantization_aware import FineTuning

TRAINED = TrainingOptions(epochs=200, lr=0.1, dropout=0.3, label_smoothing=0.1, autocast="auto")


def test_it_goes_on_for_a_tenth_of_the_epochs_at_a_hundredth_of_the_rate() -> None:
    options = FineTuning().options(TRAINED)
    assert (options.epochs, options.schedule) == (20, "cosine")
    assert options.lr == pytest.approx(0.001)
    # Rounding is computed in float32, and dropout is none of what the file computes.
    assert (options.autocast, options.compile, options.dropout) == ("off", "off", 0.0)
    assert options.label_smoothing == 0.1
    assert FineTuning().options(TrainingOptions(epochs=3)).epochs == 2


def test_what_is_said_counts() -> None:
    options = FineTuning(epochs=1, lr=0.5).options(TRAINED)
    assert (options.epochs, options.lr) == (1, 0.5)
    assert FineTuning().wanted
    assert FineTuning(epochs=1).wanted
    assert not FineTuning(epochs=0).wanted


def test_all_that_is_impossible_is_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"--qat-epochs is -1.*; --qat-lr is 0"):
        FineTuning(epochs=-1, lr=0.0)
    with pytest.raises(UsageError, match="--qat-lr is nan"):
        FineTuning(lr=float("nan"))
