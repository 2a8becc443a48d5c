"""Folders of class folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from compress.data.images import Images
from compress.data.sources.damage import FAULTS_SHOWN
from compress.data.sources.decoding import images_of
from compress.data.sources.idx import find_idx_files, read_idx
from compress.data.sources.known import CIFAR_FOLDERS, read_torchvision
from compress.data.sources.listing import SPLITS, ImageFile, Lister
from compress.data.sources.raw import RawData, measure_normalization, mirrors
from compress.errors import DataError, UsageError
from compress.files import printable
from compress.tasks.classification import Classification

# A folder without val/ or test/ gives this share of each class to the test set. The seed is not
# the run's: the test images must be the same ones in every run.
TEST_FRACTION = 0.2
TEST_SEED = 20171


def read_folder(
    path: Path, *, image_size: int | None = None, say: Callable[[str], None] = lambda _: None
) -> RawData:
    """Images in one folder a class, under train/ and val/ (or test/), or straight under ``path``.

    A folder with the idx files of the MNIST family or with CIFAR's batches is read as what it is.

    The splits may be called train or training, val, valid or validation, test or testing, in any
    case. Without val/ or test/, a fifth of each class, always the same images, is the test set.
    With both, test/ is the test set and val/ joins the training images. What is an image is told
    by its content. Grey images stay so if all are; otherwise all become RGB. Classes are numbered
    in the order of their names.

    Args:
        path: the folder.
        image_size: scales the shorter side to this and crops the middle; None demands that all
            images have one size.
        say: is told what was left out or turned, and where the images have to be decoded into a
            file.

    Raises:
        DataError: folders are empty or mixed up, classes differ, images are damaged or of several
            sizes.
        UsageError: ``image_size`` is given for files that are no images.
    """
    if not path.is_dir():
        raise DataError(f"There is no folder {printable(path)}.")
    if not os.access(path, os.R_OK | os.X_OK):
        raise DataError(f"{printable(path)} cannot be read: permission denied.")
    known = _read_known(path)
    if known is not None:
        if image_size is not None:
            raise UsageError(
                f"--image-size is for folders of images, but {printable(path)} holds "
                f"{known.name}. Leave it out."
            )
        return known
    splits = _find_splits(path, say)
    lister = Lister(path)
    if not splits:
        classes, files = lister.list_classes(path)
        train, test = _split_off_test(files, len(classes))
    else:
        classes, train = lister.list_classes(splits["train"])
        test = []
        for held_out in [name for name in ("val", "test") if name in splits]:
            others, files = lister.list_classes(splits[held_out])
            if others != classes:
                differ = ", ".join(sorted(set(classes) ^ set(others))[:FAULTS_SHOWN])
                raise DataError(
                    f"{printable(splits[held_out])} and {printable(splits['train'].name)}/ have "
                    f"different classes: {differ}."
                )
            if held_out == "val" and "test" in splits:
                train += files
            else:
                test = files
    left_out = str(lister.left_out)
    if left_out:
        say(f"Left out of {printable(path.name)}, because they are not images: {left_out}.")
    images = images_of(train + test, path, image_size, say)
    labels = torch.tensor([file.label for file in train + test], dtype=torch.int64)
    train_images, test_images = _parted(images, len(train))
    name = printable(path.resolve().name)
    return RawData(
        name=name,
        train_images=train_images,
        train_targets=labels[: len(train)],
        test_images=test_images,
        test_targets=labels[len(train) :],
        task=Classification(tuple(classes)),
        normalization=measure_normalization(train_images),
        flip=mirrors(images),
        source=name,
    )


def _read_known(path: Path) -> RawData | None:
    """The data set whose own files lie in the folder; None where there are none."""
    if find_idx_files(path):
        return read_idx(path)
    for name, batches in CIFAR_FOLDERS.items():
        if (path / batches).is_dir():
            return read_torchvision(name, path, download=False)
        if path.name == batches:
            return read_torchvision(name, path.parent, download=False)
    return None


def _find_splits(path: Path, say: Callable[[str], None]) -> dict[str, Path]:
    """The folders of "train", "val" and "test"; none where the folder holds classes.

    Raises:
        DataError: there are some of them only, or two of one.
    """
    folders, files = Lister(path).entries(path)
    named: dict[str, list[Path]] = {}
    for folder in folders:
        if folder.name.lower() in SPLITS:
            named.setdefault(SPLITS[folder.name.lower()], []).append(folder)
    if not named:
        return {}
    twice = [names for names in named.values() if len(names) > 1]
    if twice:
        raise DataError(
            f"{printable(path)} holds {_shown(twice[0])}, which name the same split. Remove one, "
            "or merge them."
        )
    splits = {name: found[0] for name, found in named.items()}
    others = [folder for folder in folders if folder not in splits.values()]
    a_class = (
        f" If {_shown(splits.values())} is a class like {_shown(others[:1])}, give the folder "
        "another name."
        if others
        else ""
    )
    if "train" not in splits:
        raise DataError(
            f"{printable(path)} has {_shown(splits.values())} but no train/. Add it, or give a "
            f"folder of class folders; a fifth then becomes the test set.{a_class}"
        )
    if len(splits) == 1:
        raise DataError(
            f"{printable(path)} has {_shown(splits.values())} but neither val/ nor test/. Add "
            f"one, or give {printable(splits['train'])} itself; a fifth then becomes the test "
            f"set.{a_class}"
        )
    beside = [_shown(others)] if others else []
    beside += [f"{len(files):,} files"] if files else []
    if beside:
        say(f"Left out beside {_shown(splits.values())}: {' and '.join(beside)}.")
    return splits


def _shown(folders: Iterable[Path]) -> str:
    """'train/, val/ and test/', the first few of them."""
    names = [f"{printable(folder.name)}/" for folder in folders]
    if len(names) > FAULTS_SHOWN:
        names = [*names[:FAULTS_SHOWN], f"{len(names) - FAULTS_SHOWN} more"]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _split_off_test(
    files: Sequence[ImageFile], classes: int
) -> tuple[list[ImageFile], list[ImageFile]]:
    """A fifth of each class, at least one image, leaves for the test set."""
    generator = torch.Generator().manual_seed(TEST_SEED)
    train, test = [], []
    for label in range(classes):
        members = [file for file in files if file.label == label]
        if len(members) < 2:
            raise DataError(
                f"{printable(members[0].path.parent)} holds only one image. At least two are "
                "needed: one for training and one for testing."
            )
        kept_back = max(1, round(TEST_FRACTION * len(members)))
        order = torch.randperm(len(members), generator=generator).tolist()
        test += [members[index] for index in sorted(order[:kept_back])]
        train += [members[index] for index in sorted(order[kept_back:])]
    return train, test


def _parted(images: Images, first: int) -> tuple[Images, Images]:
    """The first so many images, and the rest."""
    if isinstance(images, Tensor):
        return images[:first], images[first:]
    return images.take(torch.arange(first)), images.take(torch.arange(first, len(images)))
