"""One process at a training: locks that the system gives back when a process dies."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

fcntl: Any
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # pragma: no cover - Windows
    fcntl = None

LOCK = ".lock"


@contextmanager
def try_lock(folder: Path) -> Iterator[bool]:
    """Holds a folder's lock for as long as the block lasts.

    The lock is the system's, on the file ``.lock``; a process that is killed leaves the file and
    no lock. Where the system has no such locks every process gets it.

    Yields:
        whether it was to be had; False where another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        if fcntl is None:  # pragma: no cover - Windows
            yield True
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        # Closing the file gives the lock back.
        yield True
