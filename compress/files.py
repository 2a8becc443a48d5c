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
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from compress.errors import CompressError, InputError, UsageError
from compress.schema import parse_json, parse_toml
from compress.schema.texts import MAX_BYTES
from compress.streams import NO_ROOM
from compress.units import format_bytes

fcntl: Any
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # pragma: no cover - Windows
    fcntl = None

LOCK = ".lock"
# What a Git LFS pointer begins with, by the versions of its specification.
LFS_VERSIONS = (
    b"version https://git-lfs.github.com/spec/",
    b"version https://hawser.github.com/spec/",
)
# A pointer is smaller.
LFS_POINTER_BYTES = 1024
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
        # Where a file is copied, the error of a full disk names the file that is read.
        if error.filename not in (None, name) and error.errno not in NO_ROOM:
            raise  # of another file, which the error names
        raise UsageError(
            f"Cannot write {path}: {error.strerror or error}. Free space there, or choose another "
            "folder."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def regular_file(path: Path, kind: type[CompressError] = InputError) -> Path:
    """The path itself, if a regular file lies there; nothing is opened for that.

    Opening a named pipe waits for somebody who writes into it, and a device may never end.

    Args:
        path: of the file, or of a link to it.
        kind: of the error that is raised.

    Raises:
        InputError: there is nothing, or something else: a folder, a named pipe, a device.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise kind(f"There is no file {printable(path)}.") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise kind(f"{printable(path)} cannot be read: {reason}.") from error
    found = kind_of_file(mode)
    if found != REGULAR:
        raise kind(f"{printable(path)} is {found}; a regular file is needed.")
    return path


REGULAR = "a regular file"


def kind_of_file(mode: int) -> str:
    """What ``os.stat`` says that a file is, in words: ``REGULAR``, "a folder", "a named pipe"."""
    kinds = (
        (stat.S_ISREG, REGULAR),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISLNK, "a link"),
    )
    return next((words for test, words in kinds if test(mode)), "neither a file nor a folder")


def is_lfs_pointer(head: bytes) -> bool:
    """Whether a file that begins so is what Git LFS leaves in the place of a file's content."""
    return head.startswith(LFS_VERSIONS)


def lfs_advice(name: str) -> str:
    """What to do about a file of which only Git LFS's pointer is there."""
    return (
        f"{name} is a Git LFS pointer, not the file itself. Run `git lfs pull` in its repository "
        "and try again."
    )


def printable(name: str | Path) -> str:
    r"""A file's name as it can be printed, written as UTF-8 and put into JSON.

    Bytes that are not UTF-8 and control characters become escapes: ``caf\xe9``, ``a\x0ab``.
    """
    return "".join(map(_escaped, str(name)))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    if unicodedata.category(character) in ("Cc", "Cs"):
        return character.encode("unicode_escape").decode()
    return character


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
        raise UsageError(f"Cannot write {path}: {parent} is not writable. Choose another folder.")


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` atomically as UTF-8.

    The characters that stand for bytes of names that are not UTF-8 are written as JSON's escapes.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` atomically as indented JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_text(
    path: Path, kind: str, *, most: int = MAX_BYTES, error: type[CompressError] = InputError
) -> str:
    """The text of a file, in UTF-8, with or without a mark of the byte order.

    Args:
        path: of the file.
        kind: that it should be, for messages: "a JSON file".
        most: bytes that it may have; no more are read.
        error: to raise.

    Raises:
        CompressError: as ``error`` says; there is no such file, it is too large, or no text.
    """
    try:
        with regular_file(path, error).open("rb") as file:
            content = file.read(most + 1)
            size_bytes = max(os.fstat(file.fileno()).st_size, len(content))
    except OSError as fault:
        raise error(f"Cannot read {path}: {fault.strerror or fault}.") from fault
    if is_lfs_pointer(content):
        raise error(
            f"{path} is not {kind} but a Git LFS pointer. Fetch the file with `git lfs pull`."
        )
    if len(content) > most:
        raise error(
            f"{path} has {format_bytes(size_bytes)}, but {kind} may have at most "
            f"{format_bytes(most)}."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise error(
            f"{path} is not {kind}: it is not text in UTF-8 (byte {fault.start})."
        ) from fault


def read_json(path: Path, *, error: type[CompressError] = InputError) -> Any:
    """Reads a JSON file, as ``compress.schema.parse_json`` reads a text.

    Raises:
        CompressError: as ``error`` says; the file is missing or is not JSON.
    """
    return parse_json(read_text(path, "a JSON file", error=error), str(path), error=error)


def read_toml(path: Path, *, error: type[CompressError] = InputError) -> dict[str, Any]:
    """The same for a TOML file."""
    return parse_toml(read_text(path, "a TOML file", error=error), str(path), error=error)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
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
