"""Builds the embedded data set from the full files of Fashion-MNIST.

    python benchmarks/make_embedded.py FOLDER_WITH_THE_FOUR_IDX_FILES

FOLDER is what Debian's package dataset-fashion-mnist installs, or torchvision's
FashionMNIST/raw. The same files give the same subset; its bytes may differ with the version of
zlib.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.sources import FASHION_CLASSES, RawData, read_idx
from compress.files import atomic_path

SEED = 1709
TRAIN_IMAGES = 8000
TEST_IMAGES = 2000
TARGET = Path(__file__).resolve().parents[1] / "compress/data/embedded/fashion-mnist-subset.npz"


def choose(labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Indices of ``count`` images, as many of each class, in the order of the full set."""
    classes = np.unique(labels)
    share, rest = divmod(count, len(classes))
    if rest:
        raise ValueError(f"{count} images cannot be shared out evenly over {len(classes)} classes")
    chosen = [
        rng.choice(np.flatnonzero(labels == label), share, replace=False) for label in classes
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int32)


def subset(raw: RawData) -> dict[str, NDArray[np.generic]]:
    """The arrays of the embedded file, images 28x28 as Fashion-MNIST has them."""
    rng = np.random.default_rng(SEED)
    arrays: dict[str, NDArray[np.generic]] = {}
    for split, images, labels, count in (
        ("train", raw.train_images[:], raw.train_targets, TRAIN_IMAGES),
        ("test", raw.test_images[:], raw.test_targets, TEST_IMAGES),
    ):
        index = choose(labels.numpy(), count, rng)
        arrays[f"x_{split}"] = images[index, 0, 2:-2, 2:-2].contiguous().numpy()
        arrays[f"y_{split}"] = labels[index].numpy().astype(np.uint8)
        arrays[f"index_{split}"] = index
    arrays["class_names"] = np.array(FASHION_CLASSES)
    return arrays


def main() -> None:
    """Writes the file and prints what is in it."""
    parser = argparse.ArgumentParser(description="Build the embedded data set.")
    parser.add_argument("folder", type=Path, help="where the four idx files are")
    parser.add_argument("--output", type=Path, default=TARGET)
    options = parser.parse_args()
    arrays = subset(read_idx(options.folder))
    with atomic_path(options.output) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    digest = hashlib.sha256()
    for key in ("x_train", "y_train", "x_test", "y_test"):
        digest.update(arrays[key].tobytes())
    print(f"{options.output}: {options.output.stat().st_size} bytes")
    print(f"seed {SEED}, {len(arrays['y_train'])} training, {len(arrays['y_test'])} test images")
    print(f"sha256 of the arrays x_train, y_train, x_test, y_test: {digest.hexdigest()}")


if __name__ == "__main__":
    main()
