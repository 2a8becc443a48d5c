"""What is said of files that cannot be used, and what is refused before it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch

from compress.data.memory import free_bytes
from compress.errors import CompressError, DataError, first_line
from compress.files import lfs_advice, printable
from compress.launched import place
from compress.units import format_bytes

# How many faults a message lists before it only counts.
FAULTS_SHOWN = 8

# A file may unpack to so much however small it is: images of one colour do. What is larger has to
# be real images, which do not shrink that much.
FREELY_BYTES = 2**30
LARGEST_RATIO = 100


@contextmanager
def foreign(message: Callable[[str], str]) -> Iterator[None]:
    """Turns whatever a library raises over a file's content into a ``DataError``.

    What Pillow, NumPy, zipfile and others raise over damaged bytes is listed nowhere, and grows
    with their versions. So only calls of such a library go into the block.

    Args:
        message: makes the sentence out of what the library said.

    Raises:
        DataError: the library raised something.
    """
    try:
        yield
    except CompressError:
        raise
    except Exception as error:
        # urllib hides what happened in "reason".
        raise DataError(message(short(getattr(error, "reason", error)))) from error


def reading(path: Path, advice: str) -> AbstractContextManager[None]:
    """As ``foreign``, for one file: it is named, with what the library said and what to do."""
    return foreign(lambda said: f"{printable(path)} cannot be read: {said}. {advice}")


def check_claim(what: str, claimed_bytes: int, file_bytes: int) -> None:
    """Compares what a file's headers say that it unpacks to with the file and with the memory.

    Args:
        what: the file, for the message.
        claimed_bytes: of everything that is to be read.
        file_bytes: how large the file is.

    Raises:
        DataError: no images shrink that much, or there is not twice the memory: while they are
            put in order they are there twice.
    """
    if claimed_bytes > max(FREELY_BYTES, LARGEST_RATIO * file_bytes):
        raise DataError(
            f"{what} would unpack to {format_bytes(claimed_bytes)} from a file of "
            f"{format_bytes(file_bytes)}. Beyond {format_bytes(FREELY_BYTES)}, at most "
            f"{LARGEST_RATIO} times the size of a file is read. Make it again from real images."
        )
    there = free_bytes(torch.device("cpu")) // place().local_size
    if 2 * claimed_bytes > there:
        raise DataError(
            f"{what} unpacks to {format_bytes(claimed_bytes)}, and reading it takes twice that, "
            f"but only {format_bytes(there)} of memory are free. Free some memory, or give the "
            "images as a folder of class folders, which need not fit into memory."
        )


def lfs_pointer(path: Path) -> DataError:
    """The error over a file that Git LFS has not fetched the content of."""
    return DataError(lfs_advice(printable(path)))


def listed(faults: Sequence[str]) -> str:
    """'a; b; c', at most ``FAULTS_SHOWN`` of them."""
    more = len(faults) - FAULTS_SHOWN
    return "; ".join(faults[:FAULTS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def short(error: object) -> str:
    """An exception's message, short enough for the middle of a sentence."""
    return printable(first_line(error).rstrip(".")[:200])
