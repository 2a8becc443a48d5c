from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.data.dataset import load_dataset
from compress.errors import DataError


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    """1,000 training images, classes in the ratio 6 : 3 : 1, each image with its own pixels."""
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    images = np.zeros((1000, 8, 8, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(1000) % 256
    images[:, 0, 0, 1] = np.arange(1000) // 256
    path = tmp_path / "data.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[::10], y_test=labels[::10])
    return path


def identities(images: torch.Tensor) -> set[int]:
    return set((images[:, 0, 0, 0].long() + 256 * images[:, 1, 0, 0].long()).tolist())


def test_the_validation_split_is_stratified_and_disjoint(npz: Path) -> None:
    data = load_dataset(str(npz), validation=105)
    assert torch.bincount(data.validation.targets).tolist() in ([63, 32, 10], [63, 31, 11])
    assert len(data.train) == 895
    assert len(data.test) == 100
    held_out, kept = identities(data.validation.images[:]), identities(data.train.images[:])
    assert len(held_out) == 105
    assert held_out | kept == set(range(1000))
    assert not held_out & kept
    assert data.input_shape == (3, 8, 8)
    assert data.task.width == 3
    assert data.name == "data"


def test_the_split_follows_the_seed(npz: Path) -> None:
    first, again, other = (load_dataset(str(npz), seed=seed) for seed in (1, 1, 2))
    assert len(first.validation) == 100
    assert torch.equal(first.validation.images[:], again.validation.images[:])
    assert identities(first.validation.images[:]) != identities(other.validation.images[:])
    assert first.sha256 == other.sha256


def test_a_limit_is_stratified_and_leaves_the_validation_split_alone(npz: Path) -> None:
    whole, limited = load_dataset(str(npz)), load_dataset(str(npz), limit_train=90)
    assert torch.equal(whole.validation.images[:], limited.validation.images[:])
    assert torch.bincount(limited.train.targets).tolist() == [54, 27, 9]
    assert identities(limited.train.images[:]) <= identities(whole.train.images[:])


def test_the_training_images_are_identified_by_what_was_taken_of_which_data(npz: Path) -> None:
    ways: list[dict[str, Any]] = [{}, {"seed": 1}, {"limit_train": 90}, {"validation": 50}]
    taken = [load_dataset(str(npz), **how).train_sha256 for how in ways]
    assert len(set(taken)) == len(taken)
    assert load_dataset(str(npz)).train_sha256 == taken[0]
    assert load_dataset(str(npz), limit_train=90, flip=False).train_sha256 == taken[2]


def test_other_pixels_are_another_data_set(npz: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(npz))
    arrays["x_test"][0, 0, 0, 0] ^= 1
    np.savez(tmp_path / "other.npz", **arrays)
    assert load_dataset(str(tmp_path / "other.npz")).sha256 != load_dataset(str(npz)).sha256


def test_flip_can_be_overridden(npz: Path) -> None:
    assert load_dataset(str(npz), flip=False).flip is False
    assert load_dataset(str(npz)).flip is True


@pytest.mark.parametrize("validation", [1000, -1])
def test_an_impossible_validation_split_is_refused(npz: Path, validation: int) -> None:
    with pytest.raises(DataError, match="cannot be taken from 1000 training images"):
        load_dataset(str(npz), validation=validation)


def test_an_impossible_limit_is_refused(npz: Path) -> None:
    with pytest.raises(DataError, match="950 training images were requested"):
        load_dataset(str(npz), limit_train=950)


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(DataError, match="Did you mean 'cifar10'"):
        load_dataset("cifar-10")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/dev/zero", "/dev/zero is a character device; a regular file is needed"),
        ("a" * 300, "There is no data set, file or folder 'aaa"),
        ("a\0b", r"There is no data set, file or folder 'a\\x00b'"),
        ("caf\udce9", r"There is no data set, file or folder 'caf\\xe9'"),
    ],
)
def test_names_of_what_is_no_data_are_refused(name: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_dataset(name)
