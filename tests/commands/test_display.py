"""The live display of a run."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress as RichProgress

from compress.commands.display import Display
from compress.training.listener import Progress


@pytest.mark.parametrize(("epoch", "bars"), [(1, 1), (2, 0)])
def test_the_bar_goes_with_the_last_epoch(epoch: int, bars: int) -> None:
    """What comes after it, an export say, is no part of the training."""
    display = Display()
    bar = RichProgress(console=Console(file=io.StringIO()))
    display._bar = bar
    display.progress(Progress(epoch, 2, epoch / 2, 10.0, 0.0))
    assert len(bar.tasks) == 1
    display.epoch({"epoch": epoch, "loss": 1.0, "validation_accuracy": None, "images_per_s": 10.0})
    assert len(bar.tasks) == bars
