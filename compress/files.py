"""Files that are either whole or not there at all, and folders that one process has to itself.

Standard library only.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from compress.errors import InputError, UsageError

fcntl: Any
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # pragma: no cover - Windows
    fcntl = None

LOCK = ".lock"
# What atomic_path calls its temporary file: .NAME.SUFFIX.RANDOM.SUFFIX
_TEMPORARY = re.compile(r"\..*?(\.[^.]+)?\.[a-z0-9_]{8}\1?")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside ``path``; on success it is synced and renamed to ``path``.

    On an exception the temporary file is removed and what was at ``path`` stays as it was.

    Raises:
        UsageError: the folder cannot be written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix
        )
    except OSError as error:
        raise UsageError(
            f"Cannot write {path}: {error.strerror or error}. Choose another folder."
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files for their owner alone; a result is to be read by others.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as written:
            sync(written)
        temporary.replace(path)
    except OSError as error:
        if error.filename not in (None, name):
            raise  # of another file, which the error names
        raise UsageError(
            f"Cannot write {path}: {error.strerror or error}. Make room there, or choose another "
            "folder."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where measurements, outcomes of runs and engines are kept; it may not exist yet.

    $COMPRESS_CACHE, or $XDG_CACHE_HOME/compress, or ~/.cache/compress.
    """
    own = os.environ.get("COMPRESS_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "compress"


def sync(file: IO[Any]) -> None:
    """Waits until what was written into an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def clear_up(folder: Path) -> None:
    """Removes what processes that were killed while they wrote have left in a folder.

    Only for one that no other process writes into (see ``try_lock``).
    """
    for entry in folder.glob(".*"):
        if _TEMPORARY.fullmatch(entry.name) and entry.is_file():
            entry.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Refuses what ``atomic_path`` could not write to, before anything is done for it.

    Raises:
        UsageError: the folder cannot be written to, or ``path`` is a folder itself.
    """
    if path.is_dir():
        raise UsageError(f"Cannot write {path}: it is a folder. Name a file in it.")
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"Cannot write {path}: {parent} cannot be written to. Choose another.")


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` atomically as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` atomically as indented JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not a JSON file: {error}.") from error


def regular_file(path: Path) -> Path:
    """The path itself, of a regular file: nothing else has an end that reading is sure to reach.

    Raises:
        InputError: it is missing, a folder, a named pipe, a device or a socket.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"Cannot read {path}: {reason}.") from error
    for matches, kind in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if matches(mode):
            raise InputError(f"{path} is {kind}, not a regular file. Give the file itself.")
    return path


def is_lfs_pointer(head: bytes) -> bool:
    """Whether a file that starts so is a Git LFS pointer in place of the file itself."""
    return head.lstrip().startswith(b"version https://git-lfs")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; a file is needed.")
    try:
        with regular_file(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error


@contextmanager
def try_lock(folder: Path) -> Iterator[bool]:
    """Holds a folder's lock for as long as the block lasts.

    The lock is the system's, on the file ``.lock``; a process that is killed leaves the file and
    no lock. Where the system has no such locks every process gets it.

    Yields:
        whether it was to be had; False where another process has it.

    Raises:
        UsageError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a")
    except OSError as error:
        raise UsageError(
            f"Cannot write into {folder}: {error.strerror or error}. Choose another folder."
        ) from error
    with file:
        # Closing the file gives the lock back.
        yield _lock(file)


def _lock(file: IO[str]) -> bool:
    """Whether this process got the lock of an open file."""
    if fcntl is None:  # pragma: no cover - Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # pragma: no cover - a file system without locks
        return True
    return True
