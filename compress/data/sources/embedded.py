"""The images and the teacher inside the package."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from compress.data.normalization import KNOWN
from compress.data.sources.idx import FASHION_CLASSES, padded
from compress.data.sources.npz import read_npz
from compress.data.sources.raw import RawData
from compress.errors import DataError
from compress.tasks.classification import Classification


def read_embedded() -> RawData:
    """The subset of Fashion-MNIST inside the package: 8,000 training and 2,000 test images.

    Raises:
        DataError: the installed package lacks the file or it is damaged.
    """
    with as_file(files("compress.data") / "embedded" / "fashion-mnist-subset.npz") as path:
        raw = read_npz(path)
    return replace(
        raw,
        name="fashion-mnist-subset",
        train_images=padded(raw.train_images),
        test_images=padded(raw.test_images),
        task=Classification(FASHION_CLASSES),
        normalization=KNOWN["fashion-mnist"],
        flip=True,
        source="embedded in the package (Fashion-MNIST, MIT licence)",
    )


def embedded_teacher_path() -> Path:
    """The checkpoint of the teacher inside the package.

    Raises:
        DataError: the installed package lacks it.
    """
    path = Path(str(files("compress.data") / "embedded" / "teacher.safetensors"))
    if not path.is_file():
        raise DataError(f"The embedded teacher is missing at {path}. Install the package again.")
    return path
