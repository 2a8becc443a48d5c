""".npz files, as numpy.savez writes them."""

from __future__ import annotations

import io
import math
import shlex
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from compress.data.sources.arrays import KEYS, as_bytes, check_arrays, raw_of_arrays
from compress.data.sources.damage import check_claim, foreign, lfs_pointer, reading
from compress.data.sources.raw import RawData
from compress.errors import DataError
from compress.files import LFS_POINTER_BYTES, is_lfs_pointer, printable, regular_file

CLASS_NAMES = "class_names"
ADVICE = "Make it with numpy.savez(FILE, x_train=..., y_train=..., x_test=..., y_test=...)."

# What numpy.savez and numpy.savez_compressed write.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# An array's header is some hundred bytes long; no more than this is read for it.
_HEADER_BYTES = 2**16


def read_npz(path: Path) -> RawData:
    """An .npz file with x_train, y_train, x_test and y_test.

    Images are [n, h, w] or [n, h, w, c] with 1 or 3 channels, uint8 or the same whole numbers in
    another type; labels are whole numbers from 0 without gaps, [n] or [n, 1]. ``class_names`` may
    be there too. Pickled arrays are refused, and so is what its headers say to be larger than the
    memory.

    Raises:
        DataError: the file is missing, damaged, or holds something else; all faults are named,
            with the line that mends them where there is one.
    """
    with reading(path, ADVICE):  # too long a name
        there = path.exists()
    if not there:
        raise DataError(f"There is no data file {printable(path)}.")
    regular_file(path, DataError)
    arrays, faults = as_bytes(_load(path))
    checked = check_arrays(
        arrays, path, layouts=("NHW", "NHWC"), faults=faults, advice=_line(path, arrays)
    )
    return raw_of_arrays(path, checked, _class_names(path, arrays, checked["y_train"]))


def _line(path: Path, arrays: dict[str, NDArray[Any]]) -> tuple[str, str]:
    """What stands before and after the mends in a command that writes the file anew."""
    target = path.with_name(f"{path.stem}-mended.npz")
    return (
        f" This writes {printable(target)}, which is one:\n"
        'python -c "import sys, numpy as np; f = np.load(sys.argv[1]); '
        f"d = {{k: f[k] for k in {list(arrays)}}}; ",
        '; np.savez_compressed(sys.argv[2], **d)" '
        f"{shlex.quote(printable(path))} {shlex.quote(printable(target))}",
    )


def _class_names(
    path: Path, arrays: dict[str, NDArray[Any]], labels: NDArray[np.int64]
) -> list[str] | None:
    """The names that the file has of its classes, one a class; None where it has none."""
    if CLASS_NAMES not in arrays:
        return None
    names, count = arrays[CLASS_NAMES], int(labels.max()) + 1
    if names.dtype.kind != "U" or names.shape != (count,):
        raise DataError(
            f"{printable(path)} is not a data set: class_names is {names.dtype} of shape "
            f"{names.shape}, not {count} strings."
        )
    with reading(path, ADVICE):  # not every number is a character
        return [printable(str(name)) for name in names]


def _load(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of the file that are wanted, whatever they hold."""
    with reading(path, ADVICE), path.open("rb") as file:
        head = file.read(LFS_POINTER_BYTES)
        if is_lfs_pointer(head):
            raise lfs_pointer(path)
        if head.startswith(npy.MAGIC_PREFIX):
            raise DataError(
                f"{printable(path)} holds a single array, not an archive of arrays. {ADVICE}"
            )
        if not head.startswith(b"PK"):
            found = f"begins with {head[:6]!r}" if head else "is empty"
            raise DataError(f"{printable(path)} is not an .npz file: it {found}. {ADVICE}")
        with zipfile.ZipFile(file) as archive:
            return _arrays_of(archive, path)


def _arrays_of(archive: zipfile.ZipFile, path: Path) -> dict[str, NDArray[Any]]:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    faults = []
    missing = [key for key in KEYS if key not in members]
    if missing:
        there = ", ".join(list(members)[:20]) or "nothing"
        faults.append(f"{', '.join(missing)} missing (it has {printable(there)})")
    wanted = {key: members[key] for key in (*KEYS, CLASS_NAMES) if key in members}
    claims = {}
    for key, info in wanted.items():
        try:
            claims[key] = _claim(archive, info)
        except DataError as error:
            faults.append(f"{key} {error}")
    total_bytes = sum(claim.size_bytes for claim in claims.values())
    check_claim(printable(path), total_bytes, path.stat().st_size)
    arrays = {}
    for key in claims:
        try:
            with foreign(_unreadable), archive.open(wanted[key]) as stream:
                arrays[key] = npy.read_array(stream, allow_pickle=False)
        except DataError as error:
            faults.append(f"{key} {error}")
    if faults:
        raise DataError(f"{printable(path)} is not a data set: {'; '.join(faults)}. {ADVICE}")
    return arrays


@dataclass(frozen=True)
class _Claim:
    """What a member's header says of its array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _claim(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Claim:
    """Reads a member's header, and nothing else.

    Raises:
        DataError: what is wrong with the member, without its name.
    """
    if info.compress_type not in _METHODS:
        raise DataError(f"uses a compression method ({info.compress_type}) that NumPy does not")
    with foreign(_unreadable), archive.open(info) as stream, warnings.catch_warnings():
        # Headers that Python 2 wrote are read with a warning.
        warnings.simplefilter("ignore")
        head = stream.read(_HEADER_BYTES)
        if not head.startswith(npy.MAGIC_PREFIX):
            raise DataError("is not an array")
        buffer = io.BytesIO(head)
        version = npy.read_magic(buffer)
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        if version not in readers:
            raise DataError(f"is written in version {version} of NumPy's format, not 1.0 or 2.0")
        shape, _, dtype = readers[version](buffer)
    claim = _Claim(shape, dtype)
    if dtype.hasobject:
        raise DataError(
            "cannot be read (it holds Python objects; allow_pickle=True, which could execute "
            "code, is never used)"
        )
    if min(shape, default=0) < 0:
        raise DataError(f"claims the shape {shape}")
    if dtype.kind not in "biufcSU" or dtype.itemsize > _HEADER_BYTES:
        raise DataError(
            f"holds {printable(str(dtype))[:80]}, which is neither a number nor a text type"
        )
    there_bytes = info.file_size - buffer.tell()
    if claim.size_bytes != there_bytes:
        raise DataError(
            f"cannot be read (it claims {claim.size_bytes} bytes for its shape {shape}, but "
            f"{there_bytes} follow)"
        )
    return claim


def _unreadable(said: str) -> str:
    return f"cannot be read ({said})"
