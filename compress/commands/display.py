"""How a run shows itself: a live display on a terminal, plain lines elsewhere. On stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from compress.launched import place
from compress.streams import escaped, unguarded
from compress.units import format_duration, format_percent

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from compress.tradeoff import Choice
    from compress.training.listener import Progress


def say_loading() -> None:
    """Says what the first seconds go into, where they do; to be called before what takes them."""
    if "torch" not in sys.modules:
        Display().message("Loading PyTorch.")


class Display:
    """The listener of a run; use it as a context manager.

    Of several processes that were started together only the first shows anything.
    """

    def __init__(self) -> None:
        self._silent = not place().first
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._last = ""
        self._epochs = 0

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._silent:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[numbers]}"),
                console=Console(file=unguarded(sys.stderr)),
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def message(self, text: str) -> None:
        """See ``Listener.message``."""
        if self._silent:
            return
        if self._bar is not None:
            self._bar.console.print(escaped(text), markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def progress(self, progress: Progress) -> None:
        """See ``Listener.progress``; plain output shows epochs only."""
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task("", total=1.0, numbers="")
        self._epochs = progress.epochs
        left = format_duration(progress.left_s)
        self._bar.update(
            self._task,
            completed=progress.fraction,
            description=f"epoch {progress.epoch}/{progress.epochs}",
            numbers=f"{self._last}{progress.images_per_s:.0f} images/s  {left} left",
        )

    def _end_training(self) -> None:
        """Takes the bar away: what comes next is no part of the training."""
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task, self._last = None, ""

    def choice(self, choice: Choice) -> None:
        """See ``DistillListener.choice``; the table is shown beside the progress."""
        from compress.report import terminal
        from compress.tradeoff.report import document_of

        terminal.show(document_of(choice), stderr=True)

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """See ``Listener.epoch``."""
        from compress.tasks.registry import metric_named

        parts = [f"loss {metrics['loss']:.4f}"]
        for name, value in metrics.items():
            if name.startswith("validation_") and value is not None:
                metric = metric_named(name.removeprefix("validation_"))
                parts.append(f"validation {metric.text(value)}")
        self._last = "  ".join(parts) + "  "
        if "discriminator_accuracy" in metrics:
            parts.append(f"discriminator {format_percent(metrics['discriminator_accuracy'], 0)}")
        parts.append(f"{metrics['images_per_s']:.0f} images/s")
        if metrics["epoch"] == self._epochs:
            self._end_training()
        self.message(f"epoch {metrics['epoch']:>3}  " + "  ".join(parts))
