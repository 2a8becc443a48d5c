"""Who is told how a run goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from compress.api.inputs import Say, silent
from compress.launched import place

if TYPE_CHECKING:
    from compress.tradeoff import Choice
    from compress.training.listener import Progress


class RunListener(Protocol):
    """A ``compress.training.listener.Listener`` that is told the choice of a student too."""

    def message(self, text: str) -> None:
        """Something that a user should know."""

    def progress(self, progress: Progress) -> None:
        """Called a few times a second at most."""

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """Called after each epoch with its line of metrics.jsonl."""

    def choice(self, choice: Choice) -> None:
        """Called when the student was chosen from the trade-off table."""


class Sentences:
    """A run's listener that passes on its messages alone.

    Of several processes that were started together only the first says anything.
    """

    def __init__(self, say: Say) -> None:
        self.message = say if place().first else silent

    def progress(self, progress: Progress) -> None:
        """See ``RunListener.progress``."""

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """See ``RunListener.epoch``."""

    def choice(self, choice: Choice) -> None:
        """See ``RunListener.choice``."""
