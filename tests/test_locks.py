"""compress.files: one at a time, and nothing is left of a process that is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

from compress.files import LOCK, try_lock


def hold(folder: Path) -> None:
    with try_lock(folder):
        (folder / "held").touch()
        time.sleep(600)


def test_one_at_a_time(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    with try_lock(a) as first, try_lock(a) as second, try_lock(b) as other:
        assert (first, second, other) == (True, False, True)
    with try_lock(tmp_path / "a") as again:
        assert again


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path,))
    process.start()
    end_s = time.monotonic() + 120
    while not (tmp_path / "held").exists() and time.monotonic() < end_s:
        time.sleep(0.01)
    with try_lock(tmp_path) as mine:
        assert not mine
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / LOCK).exists()
    with try_lock(tmp_path) as mine:
        assert mine
