"""Folders for files that nobody needs afterwards, and that no killed process leaves for ever.

All lie in one folder of ours, ``compress-USER`` in the system's temporary folder. A process holds
the lock of each folder that it uses; whoever makes the next one removes those whose lock nobody
holds, because their process was killed. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from compress.errors import UsageError
from compress.files import try_lock

RETRY_S = 0.01


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A new, empty folder that is removed when the block ends.

    Args:
        purpose: what its name begins with, for people who find it.

    Raises:
        UsageError: there is no room for it, or the temporary folder cannot be written to.
    """
    with ExitStack() as held:
        try:
            home = _home()
            # While this lock is held, nobody else makes or removes folders here, so a folder that
            # was made and is not locked yet is not taken for one that was left.
            with _locked(home):
                _remove_left(home)
                folder = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=home))
                held.callback(shutil.rmtree, folder, ignore_errors=True)
                held.enter_context(try_lock(folder))
        except OSError as error:
            raise UsageError(
                f"No temporary folder can be made in {tempfile.gettempdir()}: "
                f"{error.strerror or error}. Free space there, or set TMPDIR to another folder."
            ) from error
        yield folder


def _home() -> Path:
    """Our folder in the temporary folder, for this user alone.

    Raises:
        UsageError: somebody else has made a file, a link or a folder of that name, as anybody can.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    home = Path(tempfile.gettempdir()) / f"compress-{user}"
    with suppress(FileExistsError):
        home.mkdir(mode=0o700)
    found = home.lstat()
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and found.st_uid != user):
        raise UsageError(
            f"{home} is not a folder of this user. Remove it, or set TMPDIR to another folder."
        )
    return home


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Holds the lock of our folder, which others hold for moments only."""
    while True:
        with try_lock(home) as alone:
            if alone:
                yield
                return
        time.sleep(RETRY_S)


def _remove_left(home: Path) -> None:
    """Removes the folders of processes that are gone."""
    for folder in home.iterdir():
        if not folder.is_dir() or folder.is_symlink():
            continue
        with try_lock(folder) as unused:
            if unused:
                shutil.rmtree(folder, ignore_errors=True)
