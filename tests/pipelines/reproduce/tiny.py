"""A tiny experiment: stripes of three kinds, networks of some thousand weights, two epochs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compress.training.listener import Progress

EXPERIMENT = """
name = "stripes"
title = "Stripes"
source = "Nobody, Table 1"
statistic = "one run"
measure = "error"
seeds = [0, 1]
notes = ["The paper has cats."]

[schedule]
epochs = 2
batch_size = 32
lr = 0.05
dropout = 0.0

[[methods]]
name = "student"
recipe = "supervised"

[[methods]]
name = "KD T=5"
recipe = "kd"
options = { temperature = 5 }

[[methods]]
name = "logit-GAN"
recipe = "logit-gan"

[[tasks]]
name = "stripes"
data = "DATA"
students = ["wrn-10-0.5"]
validation = 30
teacher = { arch = "wrn-10-1", paper = 1.5 }
[tasks.paper."wrn-10-0.5"]
student = 7.46
"KD T=5" = 7
"""


def make_data(folder: Path, name: str = "stripes.npz", *, test_labels: int = 0) -> Path:
    """120 training and 30 test images; ``test_labels`` are added to the labels of the latter."""
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    images = rng.integers(0, 100, (150, 8, 8), dtype=np.uint8)
    images[labels == 1, :, ::2] += 150
    images[labels == 2, ::2, :] += 150
    path = folder / name
    np.savez(
        path,
        x_train=images[:120],
        y_train=labels[:120],
        x_test=images[120:],
        y_test=(labels[120:] + test_labels) % 3,
    )
    return path


def make_experiment(folder: Path, data: Path, text: str = EXPERIMENT) -> Path:
    """The file of the experiment."""
    path = folder / "stripes.toml"
    path.write_text(text.replace("DATA", str(data)), encoding="utf-8")
    return path


class Quiet:
    """Keeps what it is told; stops after so many epochs, as a signal would."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.messages: list[str] = []
        self.epochs = 0
        self.stop_after = stop_after

    def message(self, text: str) -> None:
        self.messages.append(text)

    def progress(self, progress: Progress) -> None:
        """Nothing."""

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        self.epochs += 1
        if self.epochs == self.stop_after:
            raise KeyboardInterrupt
