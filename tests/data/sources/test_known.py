from __future__ import annotations

import hashlib
import os
import pickle
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.data.sources import TORCHVISION_NAMES, idx, read_folder, read_torchvision
from compress.data.sources.known import default_root
from compress.errors import DataError, UnknownName


@pytest.fixture
def small_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in CIFAR-10's format with 20 and 10 images, and torchvision told their checksums."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def write(name: str, content: dict[str, Any]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(count: int) -> dict[str, Any]:
        pixels = np.arange(count * 3072).reshape(count, 3072) % 251
        return {"data": pixels.astype(np.uint8), "labels": [i % 10 for i in range(count)]}

    meta = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "train_list", [write("data_batch_1", batch(20))])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch(10))])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": meta[1]})
    return tmp_path


def test_cifar_is_used_where_it_lies(small_cifar: Path) -> None:
    by_name = read_torchvision("cifar10", small_cifar, download=False)
    assert by_name.train_images.shape == (20, 3, 32, 32)
    pixels = (np.arange(20 * 3072) % 251).reshape(20, 3, 32, 32)
    assert np.array_equal(by_name.train_images[:].numpy(), pixels)
    assert by_name.test_targets.tolist() == list(range(10))
    assert by_name.task.classes == tuple("abcdefghij")
    assert by_name.flip
    assert by_name.source == "cifar-10-batches-py"
    for folder in (small_cifar, small_cifar / "cifar-10-batches-py"):
        by_folder = read_folder(folder)
        assert torch.equal(by_folder.train_images[:], by_name.train_images[:])


def test_cifar_damaged_is_not_used(small_cifar: Path) -> None:
    with (small_cifar / "cifar-10-batches-py" / "test_batch").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="cifar10 is incomplete"):
        read_torchvision("cifar10", small_cifar, download=False)


def test_a_git_lfs_pointer_in_the_place_of_a_batch_is_named(small_cifar: Path) -> None:
    (small_cifar / "cifar-10-batches-py" / "test_batch").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    )
    with pytest.raises(DataError, match=r"test_batch is a Git LFS pointer.*`git lfs pull`"):
        read_torchvision("cifar10", small_cifar, download=False)


def test_a_named_pipe_in_the_place_of_a_batch_is_not_opened(small_cifar: Path) -> None:
    path = small_cifar / "cifar-10-batches-py" / "test_batch"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="cifar10 is incomplete"):
        read_torchvision("cifar10", small_cifar, download=False)


@pytest.mark.parametrize("name", TORCHVISION_NAMES)
def test_a_failing_download_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.setattr(idx, "DEBIAN_FASHION", tmp_path / "none")
    with pytest.raises(DataError, match=rf"{name} cannot be downloaded.*\.npz file"):
        read_torchvision(name, tmp_path)


def test_an_unknown_name_offers_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'cifar10'"):
        read_torchvision("cifar-10", tmp_path)


def test_downloads_go_to_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_root() == Path("/somewhere/compress/datasets")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_root() == Path.home() / ".cache/compress/datasets"
    monkeypatch.setenv("COMPRESS_CACHE", "/elsewhere")
    assert default_root() == Path("/elsewhere/datasets")


def test_a_batch_that_is_far_too_large_is_not_read(small_cifar: Path) -> None:
    with (small_cifar / "cifar-10-batches-py" / "data_batch_1").open("wb") as file:
        file.truncate(1 << 40)  # a hole, which takes no room
    with pytest.raises(DataError, match=r"data_batch_1 has 1100 GB.*Remove it"):
        read_torchvision("cifar10", small_cifar, download=False)
