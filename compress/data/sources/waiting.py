"""Processes that need the same file, of which one makes it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compress.files import try_lock

# Another process that makes the same is asked again after so long.
WAIT_S = 0.5


@contextmanager
def alone(root: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Waits until no other process writes into a folder; one that is read alone needs no wait.

    Args:
        root: the folder.
        waiting: is called once where there is another.
    """
    if root.exists() and not os.access(root, os.W_OK):
        yield
        return
    told = False
    while True:
        with try_lock(root) as mine:
            if mine:
                yield
                return
        if not told:
            waiting()
        told = True
        time.sleep(WAIT_S)
