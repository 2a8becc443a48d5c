"""What the system tells of a process and of all that it has started. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

PROC = Path("/proc")
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans(yes: bool) -> None:
    """Whether this process is to become the parent of what its descendants leave running."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0)


def children(pid: int) -> list[int]:
    """The processes that one has started and that are still there."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in (PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
    return found


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += children(one)
    return found


def memory_bytes(pids: Iterable[int]) -> int:
    """Memory that processes have for themselves; pages of files that they map do not count."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in (PROC / str(pid) / "status").read_text().splitlines():
                if line.startswith(("RssAnon:", "RssShmem:")):
                    total += int(line.split()[1]) << 10
    return total


def session_of(pid: int) -> int | None:
    """The session of a process; None where it has ended."""
    try:
        return os.getsid(pid)
    except OSError:
        return None


def variable_of(pid: int, name: str) -> str | None:
    """A variable of the environment that a process's program was started with."""
    with contextlib.suppress(OSError):
        for entry in (PROC / str(pid) / "environ").read_bytes().split(b"\0"):
            key, _, value = entry.partition(b"=")
            if key == name.encode():
                return os.fsdecode(value)
    return None


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        state = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def name_of(pid: int) -> str:
    """The command line of a process."""
    with contextlib.suppress(OSError):
        return (
            (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()[:200]
        )
    return ""


def end(pids: Iterable[int]) -> None:
    """Kills processes, all of them started by a case."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def shared_memory_of(pids: Iterable[int]) -> Iterator[str]:
    """Shared memory that is named after one of the processes, which have ended."""
    names = {str(pid) for pid in pids}
    with contextlib.suppress(OSError):
        for entry in Path("/dev/shm").iterdir():
            if names & set(entry.name.replace("-", "_").split("_")):
                yield str(entry)
