"""The idx files of the MNIST family."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from compress.data.images import Images
from compress.data.normalization import KNOWN
from compress.data.sources.arrays import KEYS, check_arrays, raw_of_arrays
from compress.data.sources.damage import check_claim, lfs_pointer, reading
from compress.data.sources.raw import RawData
from compress.errors import DataError
from compress.files import LFS_POINTER_BYTES, is_lfs_pointer, printable, regular_file
from compress.tasks.classification import Classification

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

# Of the pixels of its 60,000 training images: MNIST's files have the same names and sizes.
FASHION_SHA256 = "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012"

# Debian's package dataset-fashion-mnist puts the four files here.
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")

_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_GZIP = b"\x1f\x8b"
_ADVICE = "Fetch it again."


def read_idx(folder: Path) -> RawData:
    """The four idx files of the MNIST family, plain or gzipped; 28x28 is padded to 32x32.

    Fashion-MNIST is recognised by its images.

    Raises:
        DataError: a file is missing, damaged, or does not fit the others.
    """
    found = find_idx_files(folder)
    if not found:
        raise DataError(
            f"{printable(folder)} does not hold the four files {', '.join(_FILES)}(.gz)."
        )
    arrays = [_read_file(path, 3 if "idx3" in path.name else 1) for path in found]
    checked = check_arrays(dict(zip(KEYS, arrays, strict=True)), folder, layouts=("NHW",))
    raw = raw_of_arrays(folder, checked)
    if raw.train_images.shape[2:] == (28, 28):
        raw = replace(
            raw,
            train_images=padded(raw.train_images),
            test_images=padded(raw.test_images),
        )
    if hashlib.sha256(arrays[0].data).hexdigest() == FASHION_SHA256:
        return as_fashion(raw, folder)
    return raw


def find_idx_files(folder: Path) -> list[Path]:
    """The four files in the order of ``_FILES``, or nothing if one is missing."""
    found = []
    for name in _FILES:
        for candidate in (folder / name, folder / f"{name}.gz"):
            # A pipe or a device of that name is told as what it is when it is to be read.
            if candidate.exists() and not candidate.is_dir():
                found.append(candidate)
                break
    return found if len(found) == len(_FILES) else []


def as_fashion(raw: RawData, folder: Path) -> RawData:
    """What is known of Fashion-MNIST, added to the images of ``folder``.

    Raises:
        DataError: they are others.
    """
    if len(raw.task.classes) != len(FASHION_CLASSES) or raw.train_images.shape[1:] != (1, 32, 32):
        raise DataError(
            f"The idx files in {printable(folder)} are not Fashion-MNIST: "
            f"{len(raw.task.classes)} classes of images of shape "
            f"{tuple(raw.train_images.shape[1:])}."
        )
    return replace(
        raw,
        name="fashion-mnist",
        task=Classification(FASHION_CLASSES),
        normalization=KNOWN["fashion-mnist"],
        flip=True,
    )


def padded(images: Images) -> Tensor:
    """28x28 -> 32x32, with zeros around."""
    return functional.pad(images[:], (2, 2, 2, 2))


def _read_file(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An idx file, plain or gzipped; no more is unpacked than its header claims."""
    regular_file(path, DataError)
    with reading(path, _ADVICE), path.open("rb") as file:
        head = file.read(LFS_POINTER_BYTES)
        if is_lfs_pointer(head):
            raise lfs_pointer(path)
        file.seek(0)
        if head.startswith(_GZIP):
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _parsed(unpacked, path, dimensions)
        return _parsed(file, path, dimensions)


def _parsed(file: IO[bytes] | gzip.GzipFile, path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Two zero bytes, 8 for uint8, the number of dimensions, their sizes, the data."""
    name = printable(path)
    size = 4 + 4 * dimensions
    header = file.read(size)
    if header[:4] != bytes((0, 0, 8, dimensions)) or len(header) < size:
        raise DataError(
            f"{name} is not an idx file of {dimensions}-dimensional bytes: it begins with "
            f"{header[:4].hex(' ') or 'nothing'}. {_ADVICE}"
        )
    shape = struct.unpack(f">{dimensions}I", header[4:])
    claimed_bytes = math.prod(shape)
    check_claim(name, claimed_bytes, path.stat().st_size)
    content = file.read(claimed_bytes + 1)
    if len(content) != claimed_bytes:
        follow = "more" if len(content) > claimed_bytes else len(content)
        raise DataError(
            f"{name} claims to hold {' x '.join(map(str, shape))} bytes, but {follow} "
            f"follow. {_ADVICE}"
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)
