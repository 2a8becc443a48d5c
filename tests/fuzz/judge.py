"""What is a fault."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.case import Folders, Plan

ALLOWED = (0, 1, 2, 3, 4, 130, 143)
A_BUG = 70
LAST_LINES = 12
LARGEST_READ_BYTES = 8 << 20
LARGEST_MEMORY_BYTES = 4 << 30
# What compress.files.atomic_path calls what it has not finished.
TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}(\.[^.]+)?")
LOCK = ".lock"
# The folder that all temporary files lie in stays, with the lock that guards it.
SCRATCH = f"compress-{os.getuid()}"
STAYS = frozenset({SCRATCH, f"{SCRATCH}/{LOCK}"})


@dataclass(frozen=True)
class Ending:
    """How a case ended.

    Attributes:
        code: its exit code; minus the signal that ended it.
        seconds: that it took.
        memory_bytes: the most that it and all that it started had.
        hung: whether it was ended because it took too long.
        too_large: whether it was ended because it had too much memory.
        left: processes and shared memory that it left.
    """

    code: int
    seconds: float
    memory_bytes: int
    hung: bool = False
    too_large: bool = False
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """A case that has run.

    Attributes:
        kind, name, seed, index: of the plan.
        words: of the command line.
        ending: how it ended.
        faults: what was wrong with that, in words; none where it is as it should be.
        stderr: its last lines.
    """

    kind: str
    name: str
    seed: int
    index: int
    words: tuple[str, ...]
    ending: Ending
    faults: tuple[str, ...]
    stderr: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        ending = self.ending
        return {
            "kind": self.kind,
            "name": self.name,
            "index": self.index,
            "command": list(self.words),
            "exit_code": ending.code,
            "seconds": round(ending.seconds, 3),
            "memory_mb": ending.memory_bytes // 10**6,
            "faults": list(self.faults),
            "stderr": list(self.stderr),
        }


def listing(folder: Path) -> frozenset[str]:
    """All that lies in a folder, links not followed."""
    found = set()
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            found.add(os.path.relpath(os.path.join(place, name), folder))  # noqa: PTH118 - speed
    return frozenset(found)


def judge(
    planned: Plan,
    words: Sequence[str],
    folders: Folders,
    before: frozenset[str],
    ending: Ending,
) -> Outcome:
    """What was wrong with how a case ended.

    Args:
        planned: the case.
        words: of its command line.
        folders: of the case, as its command left them.
        before: what lay in the current folder before it ran.
        ending: how it ended.
    """
    stdout, stderr = (_text(path) for path in folders.said)
    faults = [*_of_ending(ending, f"{stdout}\n{stderr}")]
    if planned.refused and ending.code == 0:
        faults.append("accepted: exit code 0, and it has to be refused")
    faults += _of_what_happened(folders)
    if not (ending.hung or ending.too_large):
        # What was killed could not clear up.
        faults += _of_what_is_left(folders, before)
    faults += [f"child left: {one}" for one in ending.left]
    lines = [line for line in stderr.splitlines() if line.strip()][-LAST_LINES:]
    if ending.hung or ending.too_large:
        # Where it was: the innermost call comes first.
        lines = stderr.rpartition("Current thread")[2].splitlines()[1 : LAST_LINES + 1] or lines
    return Outcome(
        planned.kind,
        planned.name,
        planned.seed,
        planned.index,
        tuple(words),
        ending,
        tuple(dict.fromkeys(faults)),
        tuple(line[:2000] for line in lines),
    )


def _of_ending(ending: Ending, said: str) -> list[str]:
    faults = []
    if ending.hung:
        faults.append(f"hang: more than {ending.seconds:.0f} s")
    elif ending.too_large:
        faults.append(f"memory: more than {LARGEST_MEMORY_BYTES >> 30} GB")
    elif ending.code < 0:
        faults.append(f"signal {-ending.code}")
    elif ending.code == A_BUG:
        faults.append("exit code 70")
    elif ending.code not in ALLOWED:
        faults.append(f"exit code {ending.code}")
    if "this is a bug" in said and ending.code != A_BUG:
        faults.append('says "this is a bug"')
    if "Traceback (most recent call last)" in said and not os.environ.get("COMPRESS_DEBUG"):
        faults.append("traceback")
    if "File too large" in said:
        faults.append("disk: a file of more than 4 GB")
    return faults


def _of_what_happened(folders: Folders) -> list[str]:
    """What the command did that none may do."""
    faults = []
    if folders.marker.exists() or folders.marker.is_symlink():
        faults.append("executed: the file's own code ran")
    for line in _text(folders.events).splitlines():
        event = json.loads(line)
        faults.append(f"{event['what']}: {event['which']}")
    known = {"files", "home", "cache", "tmp", "stdout", "stderr", "case.json"}
    known |= {folders.events.name, folders.marker.name}
    beside = {entry.name for entry in folders.root.iterdir()}
    return [*faults, *(f"wrote outside: {folders.root / name}" for name in sorted(beside - known))]


def _of_what_is_left(folders: Folders, before: frozenset[str]) -> list[str]:
    """What lies there that is no result."""
    left = sorted(listing(folders.temporary) - STAYS)
    faults = [f"left behind: TMPDIR/{name}" for name in left[:5]]
    for name in sorted(listing(folders.files) - before):
        path = folders.files / name
        if TEMPORARY.fullmatch(path.name) and not path.is_dir():
            faults.append(f"left behind: {name}")
        elif path.is_dir() and not path.is_symlink():
            held = {entry.name for entry in path.iterdir()}
            if held <= {LOCK}:
                faults.append(f"left behind: the folder {name} with {', '.join(held) or 'nothing'}")
    return faults


def _text(path: Path) -> str:
    """The beginning and the end of a file that may be long."""
    try:
        with path.open("rb") as file:
            start = file.read(LARGEST_READ_BYTES)
            rest = path.stat().st_size - len(start)
            if rest > 0:
                file.seek(max(len(start), path.stat().st_size - LARGEST_READ_BYTES))
                start += file.read()
    except OSError:
        return ""
    return start.decode(errors="replace")
