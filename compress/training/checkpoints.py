"""The state of a training in a file, and the state before it.

last.ckpt        the newest
previous.ckpt    the one before, for where the newest turns out damaged
last.ckpt.damaged    such a one, out of the way
"""

from __future__ import annotations

import errno
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from compress.errors import CheckpointError, first_line
from compress.files import atomic_path, sync

NEWEST, PREVIOUS, DAMAGED = "last.ckpt", "previous.ckpt", "last.ckpt.damaged"

Found = TypeVar("Found")


class Checkpoints:
    """The last two states of a training.

    Args:
        folder: that they lie in.
        say: is told what a user should know.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.newest, self.previous = folder / NEWEST, folder / PREVIOUS
        self._say = say

    def save(self, state: Mapping[str, Any]) -> None:
        """Writes a state; at every moment one is there whole, if ever one was.

        Raises:
            UsageError: it cannot be written, because the disk is full for instance. What was
                saved before is still there.
        """
        content = io.BytesIO()
        torch.save(dict(state), content)
        with atomic_path(self.newest) as temporary:
            with temporary.open("wb") as file:
                file.write(content.getbuffer())
                sync(file)
            if self.newest.exists():
                self.newest.replace(self.previous)

    def load(self, restore: Callable[[Mapping[str, Any]], Found]) -> Found | None:
        """What ``restore`` makes of the newest state that is whole; None where none was saved.

        Args:
            restore: takes a state, on the CPU, and raises where it cannot use it. What it did by
                then does not count: it is called again with the state before.

        Raises:
            CheckpointError: there are states, and none of them can be used; or one cannot be
                read now, which says nothing of what is in it.
        """
        faults = []
        for path in (self.newest, self.previous):
            if not path.exists():
                continue
            try:
                found = restore(_read(path))
            except CheckpointError:
                raise
            except Exception as error:
                if _is_passing(error):
                    raise CheckpointError(
                        f"{path} cannot be read ({type(error).__name__}: {first_line(error)}). "
                        "Nothing was changed; run the same command again when it can be read."
                    ) from error
                faults.append(f"{path} ({type(error).__name__}: {error})")
                continue
            if faults:
                self._say(f"Damaged: {faults[0]}. Resuming from the previous state, {path.name}.")
                # Otherwise the next state to be saved would move it over the good one.
                self.newest.replace(self.newest.with_name(DAMAGED))
            return found
        if faults:
            raise CheckpointError(
                f"Damaged or of another run: {'; '.join(faults)}. Remove these files to start the "
                "training over."
            )
        return None

    def any(self) -> bool:
        """Whether there is a state, good or not."""
        return self.newest.exists() or self.previous.exists()

    def remove(self) -> None:
        """Removes both, where there is nothing to resume any more."""
        self.newest.unlink(missing_ok=True)
        self.previous.unlink(missing_ok=True)
        self.newest.with_name(DAMAGED).unlink(missing_ok=True)


def _is_passing(error: Exception) -> bool:
    """Whether an error says nothing of what is in a file."""
    # A damaged file may point to a place in itself that cannot be.
    if isinstance(error, OSError) and error.errno != errno.EINVAL:
        return True
    return isinstance(error, (MemoryError, torch.OutOfMemoryError))


def _read(path: Path) -> Mapping[str, Any]:
    """A state.

    Raises:
        Exception: whatever torch raises, or ValueError, for a file that is damaged.
    """
    # torch writes a checksum of every tensor and compares none when it reads.
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged} is wrong")
    state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
