"""Files that the tests of several readers make."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Arrays = dict[str, NDArray[Any]]


def small(shape: tuple[int, ...] = (8, 8, 3), classes: int = 3) -> Arrays:
    """Arrays of a valid data set: 12 training and 6 test images."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (12, *shape), dtype=np.uint8),
        "y_train": np.arange(12) % classes,
        "x_test": rng.integers(0, 256, (6, *shape), dtype=np.uint8),
        "y_test": np.arange(6) % classes,
    }


def save(path: Path, arrays: Arrays) -> Path:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=True, **arrays)
    return path


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_images(
    folder: Path, per_class: dict[str, int], size: tuple[int, int] = (10, 8), mode: str = "RGB"
) -> None:
    """PNG files of one colour: the class's number times 20, plus the image's."""
    for label, (name, count) in enumerate(per_class.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            level = label * 20 + index
            colour = level if mode == "L" else (level, 0, 255)
            Image.new(mode, size, colour).save(folder / name / f"{index:02d}.png")
