"""A data set: uint8 images, their targets, its task and normalisation, and its splits."""

from __future__ import annotations

import difflib
import hashlib
import math
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from compress import defaults
from compress.data.images import Images, StreamedImages, part_length
from compress.data.memory import fits
from compress.data.seeds import generator
from compress.data.sources import (
    TORCHVISION_NAMES,
    RawData,
    read_embedded,
    read_folder,
    read_npz,
    read_torchvision,
)
from compress.errors import DataError, UsageError
from compress.files import printable
from compress.spec import Normalization
from compress.tasks.task import Targets, Task

EMBEDDED = defaults.DATA
VALIDATION_FRACTION = 0.1
LARGEST_DEFAULT_VALIDATION = 5000


@dataclass(frozen=True)
class Split:
    """Images uint8 [n, c, h, w] and what they are to be answered with, a row an image."""

    images: Images
    targets: Targets

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: Tensor) -> Split:
        """The images and targets at ``index``, int64 [k]."""
        images, targets = self.images, self.targets[index.to(self.targets.device)]
        if isinstance(images, StreamedImages):
            return Split(images.take(index), targets)
        return Split(images[index.to(images.device)], targets)

    def part(self, part: slice) -> Split:
        """Those of a range; nothing is copied or fetched."""
        images = self.images
        if isinstance(images, StreamedImages):
            rows = torch.arange(len(self))[part]
            return Split(images.take(rows), self.targets[part])
        return Split(images[part], self.targets[part])


@dataclass(frozen=True)
class Dataset:
    """One data set, split.

    Attributes:
        name: "cifar10", or what the file or folder is called; never a path.
        train: what a student learns from.
        validation: taken from the training data; every choice looks at this and at nothing else.
        test: looked at once, at the end.
        task: what its images ask of a network, and how the answers are scored.
        normalization: part of the data set, recorded with every model trained on it.
        flip: whether a mirrored image still has its target.
        sha256: of the images and targets of all splits before they were split.
        train_sha256: of that and of which images were taken to train on.
        source: where it came from, in words.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    task: Task
    normalization: Normalization
    flip: bool
    sha256: str
    train_sha256: str
    source: str

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def identity(self) -> dict[str, str | int | bool]:
        """What a result depends on: which images, how many of them, mirrored or not."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "train": len(self.train),
            "validation": len(self.validation),
            "flip": self.flip,
        }


def load_dataset(
    name: str,
    *,
    root: Path | None = None,
    seed: int = 0,
    validation: int | None = None,
    limit_train: int | None = None,
    flip: bool | None = None,
    image_size: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Dataset:
    """Reads a data set and takes a stratified validation split from its training images.

    Args:
        name: "default" (embedded), "cifar10", "cifar100", "fashion-mnist", an .npz file or a
            folder of class folders.
        root: where torchvision's data sets lie or are downloaded to.
        seed: of the split. The same seed always takes the same images.
        validation: validation images; by default a tenth of the training images, at most 5,000.
        limit_train: keep only so many training images (after the split), stratified.
        flip: overrides whether mirroring is allowed.
        image_size: brings the images of class folders to this height and width.
        say: is told of what takes long.

    Raises:
        DataError: the data is missing, damaged or too small for what was asked.
        UsageError: ``image_size`` is given and the data is no folder of images.
    """
    raw = read_source(name, root=root, image_size=image_size, say=say)
    digest = hashlib.sha256()
    for tensor in (raw.train_images, raw.train_targets, raw.test_images, raw.test_targets):
        digest.update(str(tuple(tensor.shape)).encode())
        length = part_length(tensor)
        for part in tensor.split(length):
            digest.update(part.contiguous().numpy().data)
    count = len(raw.train_targets)
    if validation is None:
        validation = min(int(count * VALIDATION_FRACTION), LARGEST_DEFAULT_VALIDATION)
    if not 0 <= validation < count:
        raise DataError(
            f"{validation} validation images cannot be taken from {count} training images of "
            f"{printable(name)}. Ask for fewer."
        )
    everything = Split(raw.train_images, raw.train_targets)
    strata = raw.task.strata(everything.targets)
    kept, held_out = _stratified(strata, validation, seed, "validation")
    if limit_train is not None:
        if not 1 <= limit_train <= len(kept):
            raise DataError(
                f"{limit_train} training images were requested, but {printable(name)} has only "
                f"{len(kept)} besides {validation} validation images. Lower --limit-train or "
                "--validation."
            )
        _, chosen = _stratified(strata[kept], limit_train, seed, "limit")
        kept = kept[chosen]
    return Dataset(
        name=raw.name,
        train=_near(everything.take(kept)),
        validation=_near(everything.take(held_out)),
        test=_near(Split(raw.test_images, raw.test_targets)),
        task=raw.task,
        normalization=raw.normalization,
        flip=raw.flip if flip is None else flip,
        sha256=digest.hexdigest(),
        train_sha256=_train_sha256(digest.hexdigest(), kept),
        source=raw.source,
    )


def to_device(dataset: Dataset, device: torch.device) -> Dataset:
    """The same data set with its images and targets on ``device``.

    Images that it has no room for stay where they are and are fetched when they are asked for.
    """

    def moved(split: Split) -> Split:
        images = split.images
        if (
            isinstance(images, Tensor)
            and device != images.device
            and not fits(_bytes(images), device)
        ):
            images = StreamedImages(images)
        return Split(images.to(device), split.targets.to(device))

    return replace(
        dataset,
        train=moved(dataset.train),
        validation=moved(dataset.validation),
        test=moved(dataset.test),
    )


def _train_sha256(sha256: str, kept: Tensor) -> str:
    """Identifies the training images without reading them once more."""
    digest = hashlib.sha256(sha256.encode())
    digest.update(kept.contiguous().numpy().data)
    return digest.hexdigest()


def _near(split: Split) -> Split:
    """The same split, its images in memory where there is room."""
    images = split.images
    if isinstance(images, StreamedImages) and fits(_bytes(images), images.device):
        return Split(images[:], split.targets)
    return split


def _bytes(images: Images) -> int:
    return math.prod(images.shape)


def read_source(
    name: str,
    *,
    root: Path | None,
    image_size: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> RawData:
    """Reads the named data set, the .npz file or the folder of class folders.

    ``say`` is told of what takes long.

    Raises:
        DataError: there is no such data set or file.
        UsageError: ``image_size`` is given and the data is no folder of images.
    """
    path = Path(name)
    mode = _mode(path)
    if image_size is not None and not stat.S_ISDIR(mode):
        raise UsageError(
            f"--image-size is for folders of images, and '{printable(name)}' is not one. "
            "Leave it out."
        )
    if name == EMBEDDED:
        return read_embedded()
    if name in TORCHVISION_NAMES:
        return read_torchvision(name, root)
    if stat.S_ISDIR(mode):
        return read_folder(path, image_size=image_size, say=say)
    if mode or path.suffix.lower() == ".npz":
        return read_npz(path)
    raise unknown_data(name)


def unknown_data(name: str) -> DataError:
    """The error for a data set that is neither known nor a file or folder; the nearest is named."""
    known = (EMBEDDED, *TORCHVISION_NAMES)
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return DataError(
        f"There is no data set, file or folder '{printable(name)}'.{hint} --data takes "
        f"{', '.join(known)}, an .npz file or a folder of class folders."
    )


def _mode(path: Path) -> int:
    """What lies at a path, as ``os.stat`` says it; 0 where nothing can be found."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # too long a name, a zero byte in it
        return 0


def _stratified(strata: Tensor, count: int, seed: int, purpose: str) -> tuple[Tensor, Tensor]:
    """Splits indices into (rest, taken), ``count`` taken in proportion to each stratum.

    Each stratum gives the floor of its share; what is missing comes from those with the
    largest remainders. Both halves keep the order of the data set.
    """
    kinds, sizes = torch.unique(strata, return_counts=True)
    shares = sizes.double() * count / len(strata)
    quota = shares.floor().long()
    missing = count - int(quota.sum())
    quota[torch.argsort(shares - quota, descending=True, stable=True)[:missing]] += 1
    taken = torch.zeros(len(strata), dtype=torch.bool)
    rng = generator(seed, purpose)
    for kind, wanted in zip(kinds.tolist(), quota.tolist(), strict=True):
        members = torch.nonzero(strata == kind).flatten()
        taken[members[torch.randperm(len(members), generator=rng)[:wanted]]] = True
    return torch.nonzero(~taken).flatten(), torch.nonzero(taken).flatten()
