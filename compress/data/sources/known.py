"""Data sets that are known by name, in the form in which torchvision keeps them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from compress.data.normalization import KNOWN
from compress.data.sources import idx
from compress.data.sources.damage import foreign, lfs_pointer
from compress.data.sources.raw import RawData
from compress.data.sources.waiting import alone
from compress.environment import cache_folder
from compress.errors import DataError, UnknownName
from compress.files import LFS_POINTER_BYTES, is_lfs_pointer, printable
from compress.tasks.classification import Classification
from compress.units import format_bytes

TORCHVISION_NAMES = ("cifar10", "cifar100", "fashion-mnist")
# The folder of each one's own files, as their makers give them out.
CIFAR_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
# The largest of their files has 155 MB. torchvision reads each whole to compare its checksum.
LARGEST_CIFAR_BYTES = 200_000_000


def default_root() -> Path:
    """Where downloaded data sets are kept: ``datasets`` in ``cache_folder()``."""
    return cache_folder() / "datasets"


def read_torchvision(name: str, root: Path | None = None, *, download: bool = True) -> RawData:
    """CIFAR-10, CIFAR-100 or Fashion-MNIST, from ``root`` if it is there, else downloaded to it.

    Args:
        name: "cifar10", "cifar100" or "fashion-mnist".
        root: the folder that torchvision puts its data sets in; for Fashion-MNIST also a folder
            with its four idx files. None means ``default_root()``.
        download: whether what is missing may be fetched from the network.

    Raises:
        UnknownName: there is no such data set.
        DataError: it is not there and cannot be fetched, or is damaged.
    """
    if name not in TORCHVISION_NAMES:
        raise UnknownName("data set", name, TORCHVISION_NAMES)
    folder = root or default_root()
    if name == "fashion-mnist":
        return _read_fashion(folder, download)
    return _read_cifar(name, folder, download)


def _read_cifar(name: str, root: Path, download: bool) -> RawData:
    # Imported here: torchvision takes a second and a half that no other source needs.
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    _refuse_others(root / CIFAR_FOLDERS[name])

    def read(train: bool) -> Any:
        return kind(root, train=train, download=download)

    train, test = _torchvision_or_explain(name, root, download, read)
    return RawData(
        name=name,
        train_images=torch.from_numpy(train.data).permute(0, 3, 1, 2).contiguous(),
        train_targets=torch.tensor(train.targets, dtype=torch.int64),
        test_images=torch.from_numpy(test.data).permute(0, 3, 1, 2).contiguous(),
        test_targets=torch.tensor(test.targets, dtype=torch.int64),
        task=Classification(tuple(train.classes)),
        normalization=KNOWN[name],
        flip=True,
        source=kind.base_folder,
    )


def _refuse_others(folder: Path) -> None:
    """Refuses a folder of files that Git LFS has not fetched, or that are far too large."""
    with foreign(lambda said: f"{printable(folder)} cannot be read: {said}."):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_file():
                if path.stat().st_size > LARGEST_CIFAR_BYTES:
                    raise DataError(
                        f"{printable(path)} has {format_bytes(path.stat().st_size)}, but the "
                        f"largest file of CIFAR has {format_bytes(155000000)}. Remove it and "
                        "download the data set again."
                    )
                with path.open("rb") as file:
                    if is_lfs_pointer(file.read(LFS_POINTER_BYTES)):
                        raise lfs_pointer(path)


def _read_fashion(root: Path, download: bool) -> RawData:
    fetched = root / "FashionMNIST" / "raw"
    for folder in (root, fetched, root / "fashion-mnist", idx.DEBIAN_FASHION):
        if idx.find_idx_files(folder):
            return idx.as_fashion(idx.read_idx(folder), folder)
    from torchvision import datasets

    def fetch(train: bool) -> Any:
        return datasets.FashionMNIST(root, train=train, download=download)

    _torchvision_or_explain("fashion-mnist", root, download, fetch)
    return idx.as_fashion(idx.read_idx(fetched), fetched)


def _torchvision_or_explain(
    name: str, root: Path, download: bool, read: Callable[[bool], Any]
) -> tuple[Any, Any]:
    """The training and the test set as torchvision reads them, its failures as ``DataError``."""
    done = "cannot be downloaded" if download else "is incomplete"

    def message(said: str) -> str:
        return (
            f"The data set {name} {done} ({said}). Put torchvision's copy into {printable(root)}, "
            "give the folder that has it with --data, or give the images as an .npz file."
        )

    with warnings.catch_warnings(), foreign(message):
        # CIFAR's files were pickled by a NumPy whose arrays make a later one complain.
        warnings.simplefilter("ignore")
        with alone(root) if download else nullcontext():
            return read(True), read(False)
