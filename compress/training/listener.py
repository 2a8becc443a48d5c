"""Who is told how a training goes, and what of its progress."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

# Progress is shown at most so often.
SHOW_EVERY_S = 0.25


@dataclass(frozen=True)
class Progress:
    """Where a training is, for a display.

    Attributes:
        epoch: the current one, from 1.
        epochs: all of them.
        fraction: share of the whole training done.
        images_per_s: since the first step of this process.
        left_s: estimated time to the end.
    """

    epoch: int
    epochs: int
    fraction: float
    images_per_s: float
    left_s: float


class Listener(Protocol):
    """Is told how the training goes."""

    def message(self, text: str) -> None:
        """Something that a user should know."""
        ...

    def progress(self, progress: Progress) -> None:
        """Called a few times a second at most."""
        ...

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """Called after each epoch with its line of metrics.jsonl."""
        ...


class Silent:
    """A listener that says nothing: of a process that is not the first of several."""

    def message(self, text: str) -> None:
        """See ``Listener.message``."""

    def progress(self, progress: Progress) -> None:
        """See ``Listener.progress``."""

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """See ``Listener.epoch``."""


class ProgressMeter:
    """Measures how fast a training is, and tells a listener.

    Args:
        listener: is told a few times a second at most.
        images: of an epoch.
        epochs: of the whole training.
    """

    def __init__(self, listener: Listener, images: int, epochs: int) -> None:
        self._listener = listener
        self._images, self._epochs = images, epochs
        self._started_s = self._shown_s = 0.0
        self._before = 0
        self.seen = 0

    def add(self, images: int, epoch: int, fraction: float) -> None:
        """Counts the images of a step.

        Args:
            images: of the step.
            epoch: that it is in, from 1.
            fraction: share of the whole training that was done before the step.
        """
        self.seen += images
        now_s = time.monotonic()
        if not self._before:
            # The first step compiles, and waits for the teacher's outputs of all images.
            self._before, self._started_s = self.seen, now_s
            return
        if now_s - self._shown_s < SHOW_EVERY_S:
            return
        self._shown_s = now_s
        rate = (self.seen - self._before) / max(now_s - self._started_s, 1e-9)
        left_s = (1 - fraction) * self._images * self._epochs / rate
        self._listener.progress(Progress(epoch, self._epochs, fraction, rate, left_s))
