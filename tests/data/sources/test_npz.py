from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress.data.sources.npz import read_npz
from compress.errors import DataError
from tests.data.sources.made import Arrays, save, small


def test_npz_nhwc_becomes_nchw(tmp_path: Path) -> None:
    arrays = small((9, 8, 3))
    raw = read_npz(save(tmp_path / "blobs.npz", arrays))
    assert raw.name == "blobs"
    assert raw.source == "blobs.npz"
    assert raw.train_images[:].dtype == torch.uint8
    assert raw.train_images.shape == (12, 3, 9, 8)
    assert raw.train_images[:].is_contiguous()
    assert np.array_equal(raw.train_images[:][5, 2].numpy(), arrays["x_train"][5, :, :, 2])
    assert raw.train_labels.dtype == torch.int64
    assert raw.test_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert raw.class_names == ("0", "1", "2")
    assert raw.flip


def test_npz_grey_and_column_labels_and_names(tmp_path: Path) -> None:
    arrays = small((8, 8))
    arrays["y_train"] = arrays["y_train"].astype(np.uint8)[:, None]
    arrays["class_names"] = np.array(["a", "b", "ç"])
    raw = read_npz(save(tmp_path / "a.npz", arrays))
    assert raw.test_images.shape == (6, 1, 8, 8)
    assert raw.train_labels.tolist() == [0, 1, 2] * 4
    assert raw.class_names == ("a", "b", "ç")
    assert not raw.flip  # digits and letters are grey, and a mirrored one is another or none


def test_npz_normalisation_is_that_of_the_training_images(tmp_path: Path) -> None:
    arrays = small()
    raw = read_npz(save(tmp_path / "a.npz", arrays))
    scaled = arrays["x_train"].astype(np.float64) / 255
    assert raw.normalization.mean == pytest.approx(scaled.mean((0, 1, 2)), abs=1e-6)
    assert raw.normalization.std == pytest.approx(scaled.std((0, 1, 2)), abs=1e-6)


def changed(key: str, value: NDArray[Any]) -> Arrays:
    return small() | {key: value}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (changed("x_train", np.zeros((12, 8, 8, 3), np.float32)), "x_train is float32.*by 255"),
        (changed("x_train", np.zeros((12, 8, 8, 3), np.int64)), "x_train is int64"),
        (changed("x_train", np.zeros((12, 3, 8, 8), np.uint8)), r"transpose\(0, 2, 3, 1\)"),
        (changed("x_train", np.zeros((12, 8, 8, 4), np.uint8)), "1 or 3 channels"),
        (changed("x_train", np.zeros((12, 192), np.uint8)), "not NHW or NHWC"),
        (changed("x_train", np.zeros((11, 8, 8, 3), np.uint8)), "11 images, y_train 12 labels"),
        (changed("x_test", np.zeros((6, 9, 8, 3), np.uint8)), "test images"),
        (changed("x_test", np.zeros((6, 4, 4, 3), np.uint8)), "8x8 or larger"),
        (changed("x_test", np.zeros((0, 8, 8, 3), np.uint8)), "x_test is empty"),
        (changed("y_train", np.arange(12) % 3 + 1), "labels are 1, 2, 3; number the classes from"),
        (changed("y_train", np.arange(12) % 3 - 1), "from 0 without gaps"),
        (changed("y_train", np.arange(12) % 3 * 2), "labels are 0, 2, 4"),
        (changed("y_train", np.zeros(12, np.int64)), "only one class"),
        (changed("y_train", np.eye(3)[np.arange(12) % 3].astype(int)), r"argmax\(axis=1\)"),
        (changed("y_train", np.arange(12) % 3 / 1.0), "y_train is float64"),
        (changed("y_train", np.array(3)), "one label an image"),
        (changed("y_test", np.array([0, 1, 2, 7, 1, 2])), "no training image has: 7"),
        (changed("y_test", np.array(["a", "b", "c"] * 2)), "y_test is <U1"),
        (changed("y_test", np.array([{}] * 6)), "y_test cannot be read.*allow_pickle"),
        (changed("class_names", np.array(["a", "b"])), "not 3 strings"),
    ],
)
def test_npz_faults_are_named(tmp_path: Path, arrays: Arrays, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_npz(save(tmp_path / "a.npz", arrays))


def test_npz_tells_all_faults_at_once(tmp_path: Path) -> None:
    arrays = small() | {
        "x_train": np.zeros((12, 8, 8, 3), np.float64),
        "y_train": np.zeros(5, np.int64),
        "x_test": np.zeros((6, 5, 5, 3), np.uint8),
        "y_test": np.zeros(6, np.float32),
    }
    with pytest.raises(DataError) as caught:
        read_npz(save(tmp_path / "a.npz", arrays))
    for words in ("x_train is float64", "5 labels", "only one class", "5x5", "y_test is float32"):
        assert words in str(caught.value)


def test_npz_missing_keys_and_those_there_are_named(tmp_path: Path) -> None:
    arrays = small()
    arrays["train_images"] = arrays.pop("x_train")
    with pytest.raises(DataError, match=r"x_train missing \(it has .*train_images\).*savez"):
        read_npz(save(tmp_path / "a.npz", arrays))


def npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def damaged_files(folder: Path) -> Iterator[Path]:
    """Files that are no data set, each in its own way."""
    whole = save(folder / "whole.npz", small()).read_bytes()
    contents = {
        "empty.npz": b"",
        "text.npz": b"x_train, y_train\n1, 2\n",
        "half.npz": whole[: len(whole) // 2],
        "flipped.npz": whole[:400] + bytes(byte ^ 255 for byte in whole[400:500]) + whole[500:],
        "pickle.npz": pickle.dumps({"x_train": [1]}),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        yield folder / name
    np.save(folder / "single.npy", np.zeros(3))
    yield folder / "single.npy"
    for name, member in {
        "huge.npz": npy_header((10**9, 10**9)),
        "short.npz": npy_header((50, 8, 8, 3)) + b"abc",
        "not-npy.npz": b"hello",
    }.items():
        with zipfile.ZipFile(folder / name, "w") as archive:
            for key in ("x_train", "y_train", "x_test", "y_test"):
                archive.writestr(f"{key}.npy", member)
        yield folder / name


def test_damaged_npz_files_are_data_errors(tmp_path: Path) -> None:
    for path in damaged_files(tmp_path):
        with pytest.raises(DataError, match=path.name):
            read_npz(path)
    with pytest.raises(DataError, match=r"text\.npz is not .*: it begins with b'x_trai'"):
        read_npz(tmp_path / "text.npz")
    with pytest.raises(DataError, match=r"it is empty"):
        read_npz(tmp_path / "empty.npz")
    with pytest.raises(DataError, match=r"There is no data file .*none\.npz"):
        read_npz(tmp_path / "none.npz")
    with pytest.raises(DataError):
        read_npz(tmp_path)


def test_npz_never_unpickles(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (marker,)

    arrays = changed("y_train", np.array([Touch()] * 12, dtype=object))
    path = save(tmp_path / "a.npz", arrays)
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Touch()))
    for file in (path, tmp_path / "b.npz"):
        with pytest.raises(DataError):
            read_npz(file)
    assert not marker.exists()
