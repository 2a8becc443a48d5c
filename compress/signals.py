"""SIGINT and SIGTERM: they unwind a command, and are not forgotten on the way. Stdlib only."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Terminated(BaseException):
    """SIGTERM came; the counterpart of KeyboardInterrupt."""


class RecordedStops:
    """Raises KeyboardInterrupt on SIGINT and Terminated on SIGTERM, and remembers which came.

    An exception that is raised wherever Python happens to be may be swallowed there: torch imports
    its compiler within blocks that turn any failure into an error of their own. Whoever ends a
    command asks ``received``.

    Handlers are the main thread's affair. One that somebody else has installed stays, and so does
    it that a signal is ignored, as in a process that was started in the background.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            ours = {
                signal.SIGTERM: (signal.SIG_DFL, self._terminate),
                signal.SIGINT: (signal.default_int_handler, self._interrupt),
            }
            for number, (expected, handler) in ours.items():
                if signal.getsignal(number) == expected:
                    self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        raise Terminated

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        raise KeyboardInterrupt
