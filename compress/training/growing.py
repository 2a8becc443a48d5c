"""An array in a file that is written row by row, and goes on growing when its writer was killed.

PATH            the array, a .npy file; there when it is whole
PATH.part       header and rows, on their way
PATH.part.json  how many rows are safe on the disk, and the digest of header and rows
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from compress.errors import InputError, UsageError
from compress.files import read_json, sync, write_json
from compress.schema import decode
from compress.schema.rules import Number, Sha256


@dataclass(frozen=True)
class _Saved:
    """What PATH.part.json says."""

    rows: Number
    sha256: Sha256


class GrowingArray:
    """What one process at a time writes (see ``compress.files.try_lock``).

    Use it as a context manager: where the block is left before ``finish``, the rows so far are
    saved.

    Args:
        path: of the whole array.
        length: its rows.
        dtype: of its values, unless rows of another are there.

    Raises:
        UsageError: there, and in what writes: the disk is full, or the folder not writable.
    """

    def __init__(self, path: Path, length: int, dtype: npt.DTypeLike) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._saved = path.with_name(f"{path.name}.part.json")
        self._length = length
        self._file: IO[bytes] | None = None
        self._header_bytes = self._row_bytes = 0
        self._digest = hashlib.sha256()
        self.dtype = np.dtype(dtype)
        self.rows = self._rows_there()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            # Whatever ends the block matters more than that its rows cannot be saved.
            with suppress(UsageError):
                self.save()
            with suppress(OSError):
                self._file.close()

    def _rows_there(self) -> int:
        """The rows that a writer before this one has left, whole; their type is taken over."""
        try:
            saved = decode(_Saved, read_json(self._saved), self._saved.name)
            with self._part.open("rb") as file:
                if np.lib.format.read_magic(file) != (1, 0):
                    return 0
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
                header_bytes, row_bytes = file.tell(), dtype.itemsize * int(np.prod(shape[1:]))
            rows = saved.rows
            if shape[0] != self._length or rows > self._length:
                return 0
            digest = _digest_of(self._part, header_bytes + rows * row_bytes)
            if digest.hexdigest() != saved.sha256:
                return 0
        except (InputError, TypeError, ValueError, OSError):
            return 0
        self.dtype, self._header_bytes, self._row_bytes = dtype, header_bytes, row_bytes
        return rows

    def begin(self, rows: int) -> None:
        """Goes on behind the first ``rows`` of those that are there; to be called once, first."""
        self.rows = rows
        if not rows:
            with self._writing():
                self._saved.unlink(missing_ok=True)
                self._header_bytes = 0
                self._file = self._part.open("wb")
            return
        end = self._header_bytes + rows * self._row_bytes
        self._digest = _digest_of(self._part, end)
        # First, so that what is saved is there at any time.
        self._note()
        with self._writing():
            self._file = self._part.open("r+b")
            self._file.truncate(end)
            self._file.seek(end)

    def append(self, values: npt.NDArray[Any]) -> None:
        """Writes rows, in the array's type."""
        if not self._header_bytes:
            file, shape = self._opened, (self._length, *values.shape[1:])
            header = {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
            with self._writing():
                np.lib.format.write_array_header_1_0(file, header)
                file.flush()
            self._header_bytes = file.tell()
            self._digest = _digest_of(self._part, self._header_bytes)
        content = values.astype(self.dtype).tobytes()
        # Not through a mapped file: on a full disk that kills the process.
        with self._writing():
            self._opened.write(content)
        self._digest.update(content)
        self.rows += len(values)

    def save(self) -> None:
        """Has the rows so far outlive this process, and a machine that loses its power."""
        if self.rows:
            with self._writing():
                sync(self._opened)
            self._note()

    def _note(self) -> None:
        write_json(self._saved, {"rows": self.rows, "sha256": self._digest.hexdigest()})

    def finish(self) -> str:
        """Puts the whole array in its place; its SHA-256 in hexadecimal."""
        if self.rows != self._length:
            raise ValueError(f"{self.rows} of {self._length} rows are written.")
        with self._writing():
            sync(self._opened)
            self._opened.close()
            self._file = None
            self._part.replace(self._path)
            self._saved.unlink(missing_ok=True)
        return self._digest.hexdigest()

    def discard(self) -> None:
        """Removes the rows."""
        self._opened.close()
        self._file = None
        self._part.unlink(missing_ok=True)
        self._saved.unlink(missing_ok=True)

    @property
    def _opened(self) -> IO[bytes]:
        if self._file is None:
            raise ValueError(f"{self._part} is not being written.")
        return self._file

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UsageError(
                f"Cannot write {self._path}: {error.strerror or error}. Free space there, or "
                "choose another folder."
            ) from error


def _digest_of(path: Path, size_bytes: int) -> hashlib._Hash:
    """SHA-256 of the first bytes of a file.

    Raises:
        ValueError: the file is shorter.
    """
    digest, left = hashlib.sha256(), size_bytes
    with path.open("rb") as file:
        while left:
            content = file.read(min(left, 1 << 20))
            if not content:
                raise ValueError(f"{path} has fewer than {size_bytes} bytes.")
            digest.update(content)
            left -= len(content)
    return digest
