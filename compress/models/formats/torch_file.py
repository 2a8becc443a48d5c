"""Files that torch wrote, in its zip format and the one before.

Nothing in a file is executed: its pickle is followed first (see ``pickles``), then read by torch's
restricted unpickler, which knows tensors and plain containers. What else a file wants is listed and
refused; and so is what claims more memory than there is in the file.
"""

from __future__ import annotations

import io
import math
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from compress.errors import CheckpointError, UnsafeFile
from compress.models.formats.advice import conversion_advice
from compress.models.formats.kinds import ZIP_MAGIC, is_pickle
from compress.models.formats.pickles import Outline, Survey, TooMuch, survey

LARGEST_PICKLE_BYTES = 64 << 20
LARGEST_NUMBER_OF_ENTRIES = 200_000
# Bytes unpacked to bytes in the file. torch does not compress, and weights hardly can be.
LARGEST_RATIO = 20
# What the zipfile module raises over damaged archives.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    ValueError,
)


class _Skipped:
    """Stands for a NumPy scalar (an accuracy, say): takes what it is given and does nothing."""

    def __init__(self, *values: object) -> None:
        del values

    def __setstate__(self, state: object) -> None:
        del state


# The names under which pickles ask for NumPy scalars. Each is answered with ``_Skipped``, so
# NumPy is not called.
_HARMLESS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")

_PLAIN = re.compile(
    r"collections\.(OrderedDict|Counter)|torch\._utils\._rebuild\w+|torch\.\w*Storage"
    r"|torch\.storage\.\w+|torch\.Size|torch\.nn\.parameter\.Parameter"
    r"|torch\.per_(tensor|channel)_affine\w*"
    r"|torch\.(float|double|half|bfloat16|complex|u?int|bool)\w*|torch\.serialization\._get_layout"
    r"|torch\.(device|dtype|Tensor)|_codecs\.encode"
    r"|(__builtin__|builtins)\.(set|bytearray|complex)"
)
# Of these, what is called to make a value; none of them makes more than it is given.
_CALLED = re.compile(
    r"collections\.(OrderedDict|Counter)"
    r"|torch\._utils\._rebuild_(tensor(_v[23])?|parameter(_with_state)?|sparse_tensor"
    r"|meta_tensor_no_storage)"
    r"|torch\.(Size|device)|torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout"
    r"|_codecs\.encode|(__builtin__|builtins)\.(set|bytearray|complex)"
)
_UNREADABLE = {
    "torch._utils._rebuild_qtensor": "quantised tensors; give the float checkpoint",
    "torch._utils._rebuild_nested_tensor": "nested tensors, which are not network weights",
    "torch._utils._rebuild_wrapper_subclass": "tensors of a custom class",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "tensors of another device; save them "
    "with .cpu()",
    "torch._utils._rebuild_device_tensor_from_numpy": "tensors of another device; save them with "
    ".cpu()",
}

_ITEM_BYTES = {
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    **dict.fromkeys(("Float", "Int", "QInt32"), 4),
    **dict.fromkeys(("Half", "Short", "BFloat16"), 2),
    **dict.fromkeys(("Byte", "Char", "Bool", "Untyped", "QInt8", "QUInt8", "QUInt4x2"), 1),
    "QUInt2x4": 1,
    "ComplexDouble": 16,
}


@dataclass(frozen=True)
class _Archive:
    """What the central directory of a zip archive says.

    Attributes:
        folder: in which all of torch's entries are.
        sizes: name -> bytes when unpacked.
        pickle: the entry that says what the file holds.
    """

    folder: str
    sizes: Mapping[str, int]
    pickle: bytes


def read_torch(path: Path) -> object:
    """What torch reads from a file of either format.

    Raises:
        CheckpointError: damaged, not torch's, or larger when read than a checkpoint can be.
        UnsafeFile: it would have to execute something to be read; lists what.
    """
    with path.open("rb") as file:
        start = io.BytesIO(file.read(LARGEST_PICKLE_BYTES))
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if start.getvalue().startswith(ZIP_MAGIC):
            archive = _look_into(path, file, size)
            found = _survey(path, [io.BytesIO(archive.pickle)])
            _check(path, found, archive.sizes, f"{archive.folder}/data/", size)
        else:
            # Magic number, version, system, what the file holds; then the keys of its storages.
            found = _survey(path, [start] * 4)
            _check(path, found, None, "", size)
            _check(path, _survey(path, [start]), None, "", size)
        file.seek(0)
        return _load(path, file, found)


def _load(path: Path, file: BinaryIO, found: Survey) -> object:
    """Reads a file that was looked through."""
    try:
        with warnings.catch_warnings():
            # About the format's age; the file is the user's, not ours to change.
            warnings.simplefilter("ignore")
            with torch.serialization.safe_globals([(_Skipped, name) for name in _HARMLESS]):
                return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise errors of a dozen kinds
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else ""
        if "Unsupported operand" in str(error):
            raise UnsafeFile(
                f"{path} needs the unrestricted pickle reader ({reason}). "
                f"{conversion_advice(path, found.root)}"
            ) from None
        raise _damaged(path, f"torch says '{type(error).__name__}: {reason}'") from error


def refuse_pickle(path: Path, head: bytes) -> UnsafeFile | None:
    """The error for a pickle that torch did not write; None where the file is no pickle."""
    if not is_pickle(head):
        return None
    with path.open("rb") as file:
        found = _survey(path, [io.BytesIO(file.read(LARGEST_PICKLE_BYTES))])
    return _refuse(path, _not_plain(found.imports), found.root, bare=True)


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged or cut short: {reason}. Copy or download it again.")


# ---------------------------------------------------------------------------------------------
# Zip archives


def _look_into(path: Path, file: BinaryIO, size: int) -> _Archive:
    """What a zip archive of so many bytes holds, by its central directory and torch's pickle.

    Raises:
        CheckpointError: it is damaged, not torch's, or unpacks to more than it can hold.
        UnsafeFile: it is a program.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_entries(path, entries, size)
            folder = entries[0].filename.split("/", 1)[0] if entries else ""
            name = f"{folder}/data.pkl"
            names = [entry.filename for entry in entries]
            if name not in names:
                raise _not_of_torch(path, names)
            if archive.getinfo(name).file_size > LARGEST_PICKLE_BYTES:
                raise _too_much(path, f"its pickle is {archive.getinfo(name).file_size:,} bytes")
            return _Archive(
                folder,
                {entry.filename: entry.file_size for entry in entries},
                archive.read(name),
            )
    except ZIP_ERRORS as error:
        raise CheckpointError(
            f"{path} is damaged or cut short: its zip archive cannot be read ({error}). "
            "Copy or download it again."
        ) from error


def _check_entries(path: Path, entries: Sequence[zipfile.ZipInfo], size: int) -> None:
    """Raises where an archive is a program, or a zip bomb."""
    inside = {entry.filename.split("/", 1)[-1] for entry in entries}
    if "constants.pkl" in inside or any(entry.filename.startswith("code/") for entry in entries):
        raise UnsafeFile(
            f"{path} is a TorchScript archive: it holds a program as well as weights. "
            + conversion_advice(path, None, script=True)
        )
    if len(entries) > LARGEST_NUMBER_OF_ENTRIES:
        raise _too_much(path, f"it has {len(entries):,} entries")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > LARGEST_RATIO * size:
        raise _too_much(path, f"its {size:,} bytes unpack to {unpacked:,}")
    # Readers differ in which of two entries of one name they take.
    if len({entry.filename.lower() for entry in entries}) < len(entries):
        raise _damaged(path, "two entries of its zip archive have the same name")


def _not_of_torch(path: Path, names: Sequence[str]) -> CheckpointError:
    seen = ", ".join(sorted(names)[:3]) or "nothing"
    return CheckpointError(f"{path} is a zip archive, but not torch's; it holds {seen}.")


def _too_much(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} would need more memory or time than a checkpoint should: {what}. It was not "
        "read. Save only the network's state_dict."
    )


# ---------------------------------------------------------------------------------------------
# Pickles


def _survey(path: Path, files: Sequence[io.BytesIO]) -> Survey:
    """The pickles of a file one after the other; what is in the last, and what all import."""
    imports: list[str] = []
    calls: list[Outline] = []
    found = Survey()
    for file in files:
        try:
            found = survey(file)
        except TooMuch as reason:
            raise _too_much(path, str(reason)) from None
        imports += found.imports
        calls += found.calls
        if found.root is None:
            break
    return Survey(imports, calls, found.storages, found.root)


def _check(
    path: Path, found: Survey, sizes: Mapping[str, int] | None, folder: str, size: int
) -> None:
    """Raises where a pickle is not to be read.

    Args:
        path: of the file.
        found: what its pickle would make.
        sizes: bytes of each entry of a zip archive; None in a file of the older format.
        folder: of the entries that are storages.
        size: of the file in bytes.
    """
    unsafe = _not_plain(found.imports)
    if unsafe:
        raise _refuse(path, unsafe, found.root)
    if found.root is None:
        raise _damaged(path, "its pickle does not end")
    for call in found.calls:
        name = str(call.value)
        if name in _UNREADABLE:
            raise CheckpointError(f"{path} holds {_UNREADABLE[name]}.")
        if not _CALLED.fullmatch(name) and name not in _HARMLESS:
            raise _refuse(path, [name], found.root)
        if name == "torch._utils._rebuild_sparse_tensor":
            _check_sparse(path, call, size)
    claims: dict[str, int] = {}
    for storage in found.storages:
        key, claimed = _claim(path, storage)
        claims[key] = max(claimed, claims.get(key, 0))
        held = size if sizes is None else sizes.get(folder + key)
        if held is None or claimed > held:
            raise _damaged(
                path,
                f"storage '{key}' claims {claimed:,} bytes, but "
                + ("is not there" if held is None else f"the file has {held:,} for it"),
            )
    if sizes is None and sum(claims.values()) > size:
        raise _damaged(
            path,
            f"its storages claim {sum(claims.values()):,} bytes in total, but the file has "
            f"{size:,}",
        )


def _check_sparse(path: Path, call: Outline, size: int) -> None:
    """Raises where a sparse tensor's places or values are more than a file of ``size`` bytes has.

    torch goes through all of them when it reads the file.
    """
    for part in (inside for argument in call.items for inside in argument.items):
        shape = part.items[2].items if part.kind == "call" and len(part.items) > 2 else []
        sides = [side.value if isinstance(side.value, int) else 0 for side in shape]
        if math.prod(sides[:8]) > size:
            raise _too_much(
                path, f"a sparse tensor claims {math.prod(sides[:8]):,} places or values"
            )


def _claim(path: Path, storage: Outline) -> tuple[str, int]:
    """The key of a storage and how many bytes it is said to have."""
    values = [item.value for item in storage.items]
    try:
        _, kind, key, _, count = values[:5]
        name = str(kind).rpartition(".")[2].removesuffix("Storage")
        if not isinstance(count, int) or count < 0 or not isinstance(key, str):
            raise ValueError(count)
        return key, count * _ITEM_BYTES[name]
    except (ValueError, KeyError):
        shown = ", ".join(map(str, values[1:5]))[:80]
        raise _damaged(path, f"a storage is described as ({shown})") from None


def _not_plain(names: Sequence[str]) -> list[str]:
    return sorted({n for n in names if not _PLAIN.fullmatch(n) and n not in _HARMLESS})


def _refuse(
    path: Path, names: Sequence[str], root: Outline | None, *, bare: bool = False
) -> UnsafeFile:
    """The error for a file that would execute something."""
    listed = ", ".join(name[:80] for name in names[:6])
    listed += f" and {len(names) - 6} more" if len(names) > 6 else ""
    what = f"reading it would import and call {listed}" if names else "it is a bare pickle"
    return UnsafeFile(
        f"{path} holds more than tensors and plain containers: {what}. Nothing was executed. "
        f"{conversion_advice(path, root, bare=bare)}"
    )
