from __future__ import annotations

import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from compress.data.sources import idx, read_folder, read_torchvision
from compress.errors import DataError, UsageError
from tests.data.sources.made import Arrays, idx_bytes


def write_idx(folder: Path, *, packed: bool = True) -> Arrays:
    """The four files of a small Fashion-MNIST: 20 training and 10 test images."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    arrays: Arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte": (np.arange(20) % 10).astype(np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (10, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": np.arange(10).astype(np.uint8),
    }
    for name, array in arrays.items():
        content = idx_bytes(array)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return arrays


@pytest.mark.parametrize("below", [".", "FashionMNIST/raw", "fashion-mnist"])
@pytest.mark.parametrize("packed", [True, False])
def test_fashion_mnist_is_used_where_it_lies(tmp_path: Path, below: str, packed: bool) -> None:
    arrays = write_idx(tmp_path / below, packed=packed)
    raw = read_torchvision("fashion-mnist", tmp_path, download=False)
    assert raw.name == "fashion-mnist"
    assert raw.train_images.shape == (20, 1, 32, 32)
    inside = raw.train_images[:][:, 0, 2:-2, 2:-2].numpy()
    assert np.array_equal(inside, arrays["train-images-idx3-ubyte"])
    assert int(raw.train_images[:].sum()) == int(inside.astype(np.int64).sum())
    assert raw.task.classes[9] == "Ankle boot"
    assert raw.normalization.mean == (0.286,)
    assert raw.flip


def test_a_folder_with_idx_files_needs_no_name(tmp_path: Path) -> None:
    write_idx(tmp_path)
    raw = read_folder(tmp_path)
    assert raw.test_images.shape == (10, 1, 32, 32)
    assert raw.task.classes == tuple("0123456789")
    assert raw.name == raw.source == tmp_path.name
    assert not raw.flip
    with pytest.raises(UsageError, match="--image-size is for folders of images"):
        read_folder(tmp_path, image_size=32)


def test_fashion_mnist_is_recognised_by_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = write_idx(tmp_path)["train-images-idx3-ubyte"]
    monkeypatch.setattr(idx, "FASHION_SHA256", hashlib.sha256(pixels.tobytes()).hexdigest())
    raw = read_folder(tmp_path)
    assert raw.name == "fashion-mnist"
    assert raw.task.classes == idx.FASHION_CLASSES
    assert raw.normalization.mean == (0.286,)
    assert raw.flip
    assert raw.source == tmp_path.name


def test_the_real_fashion_mnist_is_recognised() -> None:
    if not idx.DEBIAN_FASHION.is_dir():
        pytest.skip("dataset-fashion-mnist is not installed")
    assert read_folder(idx.DEBIAN_FASHION).task.classes == idx.FASHION_CLASSES


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "begins with nothing"),
        (b"\x00\x00\x0d\x03" + bytes(20), "begins with 00 00 0d 03"),
        (b"\x00\x00\x08\x03" + struct.pack(">3I", 20, 28, 28) + bytes(100), "but 100 follow"),
        (b"\x00\x00\x08\x03" + struct.pack(">3I", 19, 28, 28) + bytes(19 * 784), "19 images"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    write_idx(tmp_path, packed=False)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_torchvision("fashion-mnist", tmp_path, download=False)


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    write_idx(tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"t10k-images.*Fetch it again"):
        idx.read_idx(tmp_path)


def test_other_idx_files_are_not_fashion_mnist(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(idx_bytes((np.arange(20) % 2).astype(np.uint8)))
    )
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(idx_bytes((np.arange(10) % 2).astype(np.uint8)))
    )
    with pytest.raises(DataError, match="not Fashion-MNIST: 2 classes"):
        read_torchvision("fashion-mnist", tmp_path, download=False)


def test_packed_files_are_told_by_their_content(tmp_path: Path) -> None:
    write_idx(tmp_path)
    for path in tmp_path.glob("*.gz"):
        path.rename(path.with_suffix(""))
    assert idx.read_idx(tmp_path).train_images.shape == (20, 1, 32, 32)


@pytest.mark.parametrize("packed", [True, False])
def test_no_more_is_read_than_the_header_claims(tmp_path: Path, packed: bool) -> None:
    write_idx(tmp_path, packed=False)
    path = tmp_path / "train-labels-idx1-ubyte"
    content = path.read_bytes() + bytes(5_000_000)
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match="claims to hold 20 bytes, but more follow"):
        idx.read_idx(tmp_path)


@pytest.mark.parametrize("packed", [True, False])
def test_a_bomb_is_told_from_its_header(tmp_path: Path, packed: bool) -> None:
    write_idx(tmp_path, packed=False)
    header = bytes((0, 0, 8, 3)) + struct.pack(">3I", 8_000_000, 28, 28)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(header) if packed else header)
    with pytest.raises(DataError, match=r"idx3-ubyte would unpack to 6\.27 GB from a file of"):
        idx.read_idx(tmp_path)


def test_what_lies_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    write_idx(tmp_path, packed=False)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(DataError, match=r"t10k-labels.* is a Git LFS pointer.*`git lfs pull`"):
        read_folder(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"t10k-labels.* is a named pipe; a regular file is needed"):
        read_folder(tmp_path)
