"""SIGINT and SIGTERM in a training: they are recorded, and raised when everything is saved.

A step takes hours where the teacher's outputs for a whole view are computed in it, or waited for.
Code that does so calls ``check_interrupt`` now and then, which stops the training as between two
steps.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_on_check: ContextVar[Callable[[], None]] = ContextVar("interruptible")


def check_interrupt() -> None:
    """Stops the training where a signal was received; does nothing outside ``interruptible``."""
    _on_check.get(lambda: None)()


@contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[None]:
    """Makes ``check_interrupt`` call ``stop`` while the block lasts."""
    token = _on_check.set(stop)
    try:
        yield
    finally:
        _on_check.reset(token)


class StopSignals:
    """Records the first signal while its block lasts; a second one acts at once.

    Only the main thread of a program gets signals; in any other thread this does nothing. A signal
    that the process ignores, as one started in the background may, stays ignored.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            heard = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
            self._before = {each: signal.signal(each, self._record) for each in heard}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore_handlers()
        if kind is None:
            self.raise_signal()  # it came too late to be seen

    @property
    def received(self) -> bool:
        """Whether a signal was received."""
        return self._received is not None

    @property
    def number(self) -> int:
        """The number of the signal; 0 where there was none."""
        return self._received or 0

    def record(self, number: int) -> None:
        """Records a signal that another process received."""
        self._record(number, None)

    def raise_signal(self) -> None:
        """Raises the recorded signal with its usual handler; does nothing where there was none."""
        if self._received is not None:
            self._restore_handlers()
            number, self._received = self._received, None
            signal.raise_signal(number)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._before.items():
            # None is a handler that was not installed from Python; there is no way back to it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
