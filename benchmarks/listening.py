"""A listener of trainings for programs without a display."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from compress.training.listener import Progress


class Plain:
    """Tells one line an epoch on stderr.

    Args:
        title: what each line begins with.
    """

    def __init__(self, title: str) -> None:
        self._title = title

    def message(self, text: str) -> None:
        """See ``Listener``."""
        print(f"{self._title}: {text}", file=sys.stderr, flush=True)

    def progress(self, progress: Progress) -> None:
        """See ``Listener``; nothing is told."""

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """See ``Listener``."""
        self.message(f"epoch {metrics['epoch']}, loss {metrics['loss']:.4f}")
