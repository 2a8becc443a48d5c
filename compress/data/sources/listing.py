"""Which files of a folder of class folders are images, and of which class."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from compress.data.sources.damage import FAULTS_SHOWN, foreign, listed
from compress.data.sources.pixels import SUFFIXES, Broken, Look, look
from compress.errors import DataError
from compress.files import printable

# What file managers, archives and network drives leave beside people's files.
LITTER = frozenset(
    {
        "#recycle",
        "$recycle.bin",
        ".ds_store",
        ".fseventsd",
        ".ipynb_checkpoints",
        ".spotlight-v100",
        ".trashes",
        "@eadir",
        "__macosx",
        "desktop.ini",
        "ehthumbs.db",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)
_APPLE_DOUBLE = "._"

# The names that a split goes by, in any case.
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass
class LeftOut:
    """What lies in a folder and is not read.

    Attributes:
        suffixes: how many files that are no images there are of each suffix.
        hidden: how many files and folders whose names begin with a dot, litter apart.
    """

    suffixes: Counter[str] = field(default_factory=Counter)
    hidden: int = 0

    def __str__(self) -> str:
        told = [f"{count:,} {suffix}" for suffix, count in self.suffixes.most_common(FAULTS_SHOWN)]
        more = self.suffixes.total() - sum(
            count for _, count in self.suffixes.most_common(FAULTS_SHOWN)
        )
        told += [f"{more:,} of other suffixes"] if more else []
        told += [f"{self.hidden:,} hidden"] if self.hidden else []
        return ", ".join(told)


@dataclass(frozen=True)
class ImageFile:
    """An image in a class folder.

    Attributes:
        path: of the file.
        label: the number of its class.
        found: what its header says, or what is wrong with it.
    """

    path: Path
    label: int
    found: Look | Broken


class Lister:
    """Lists class folders, and keeps in mind where it was: a folder belongs to one class only.

    Links are followed.

    Args:
        root: the folder of the whole data set.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        real = root.resolve()
        self._above = [_identity(folder) for folder in (real, *real.parents)]
        self._owners: dict[_Identity, Path] = {}
        self.left_out = LeftOut()

    def entries(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """The folders and the other files in a folder, by name, without hidden ones and litter.

        Raises:
            DataError: the folder cannot be read.
        """
        folders, files = [], []
        with foreign(lambda said: f"{printable(folder)} cannot be read: {said}."):
            for path in sorted(folder.iterdir()):
                name = path.name
                if name.lower() in LITTER or name.startswith(_APPLE_DOUBLE):
                    continue
                if name.startswith("."):
                    self.left_out.hidden += 1
                elif path.is_dir():
                    folders.append(path)
                else:
                    files.append(path)
        return folders, files

    def list_classes(self, folder: Path) -> tuple[list[str], list[ImageFile]]:
        """Names of the classes, and the images of each, both in the order of the names.

        Raises:
            DataError: it is no folder of class folders; all that is wrong is told.
        """
        class_folders, beside = self.entries(folder)
        faults = []
        loose = [
            path
            for path, found in self._looked(beside)
            if isinstance(found, Look) or path.suffix.lower() in SUFFIXES
        ]
        if loose:
            faults.append(
                f"{len(loose)} images are beside the class folders ({printable(loose[0].name)}, "
                "...); move them into their class's folder"
            )
        if len(class_folders) < 2:
            faults.append(f"it holds {len(class_folders)} class folders, but at least 2 are needed")
        names = [printable(path.name) for path in class_folders]
        faults += [
            f"{count} class folders have the same name apart from case, {name}; rename one"
            for name, count in Counter(names).items()
            if count > 1
        ]
        if len(class_folders) > 1:
            faults += self._inside_out(class_folders)
        images: list[ImageFile] = []
        for label, class_folder in enumerate(class_folders):
            try:
                found = self._looked(sorted(self._files(class_folder)))
            except DataError as error:
                faults.append(str(error))
                continue
            if not found:
                faults.append(f"{printable(class_folder.name)}/ holds no images")
            images += [ImageFile(path, label, what) for path, what in found]
        if faults:
            raise DataError(
                f"{printable(folder)} is not a folder of class folders: {listed(faults)}."
            )
        return names, images

    def _looked(self, paths: Iterable[Path]) -> list[tuple[Path, Look | Broken]]:
        """What the headers of those files say that are images or called so; others are counted."""
        paths = list(paths)
        with (
            ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool,
            warnings.catch_warnings(),
        ):
            # What Pillow thinks of what it reads is of no use to a user.
            warnings.simplefilter("ignore")
            images = []
            for path, found in zip(paths, pool.map(look, paths), strict=True):
                if found is None:
                    suffix = printable(path.suffix.lower()) or "without a suffix"
                    self.left_out.suffixes[suffix] += 1
                else:
                    images.append((path, found))
        return images

    def _inside_out(self, class_folders: list[Path]) -> Iterator[str]:
        """What is wrong where the class folders hold splits, or seem to be splits themselves."""
        quiet = Lister(self._root)
        inside = {path: quiet.entries(path) for path in class_folders}
        below = {
            path: sorted(folder.name for folder in folders) for path, (folders, _) in inside.items()
        }
        split = [
            path
            for path, names in below.items()
            if len({SPLITS[name.lower()] for name in names if name.lower() in SPLITS}) > 1
        ]
        if split:
            name, splits = printable(split[0].name), below[split[0]]
            splits = [printable(each) for each in splits if each.lower() in SPLITS]
            yield (
                f"{len(split)} of its class folders hold splits ({name}/{splits[0]}/, "
                f"{name}/{splits[1]}/, ...); put the splits on top and the classes below: "
                f"{splits[0]}/{name}/, {splits[1]}/{name}/"
            )
            return
        first = below[class_folders[0]]
        files = any(files for _, files in inside.values())
        if len(first) > 1 and not files and all(names == first for names in below.values()):
            shown = ", ".join(f"{printable(name)}/" for name in first[:3])
            top = printable(class_folders[0].name)
            yield (
                f"all its folders hold the same folders ({shown}) and nothing else, so the "
                f"classes are ambiguous. If {shown} are, call {top}/ and the others train/, val/ "
                f"and test/; if {top}/ is one, move the images straight into it"
            )

    def _files(self, class_folder: Path) -> Iterator[Path]:
        """All files below a class folder, by whatever links they are reached, each folder once.

        Raises:
            DataError: a link leads back to where it lies, or the folder is another class's, too.
        """
        waiting: list[tuple[Path, tuple[_Identity, ...]]] = [(class_folder, ())]
        while waiting:
            folder, chain = waiting.pop()
            identity = _identity(folder)
            shown = printable(folder.relative_to(self._root))
            if identity in self._above or identity in chain:
                raise DataError(f"{shown}/ is a link to a folder that contains it; remove the link")
            owner = self._owners.get(identity)
            if owner == class_folder:
                continue
            if owner is not None:
                raise DataError(
                    f"{shown}/ and a folder in {printable(owner.relative_to(self._root))}/ are "
                    "the same folder, so its images would be counted twice; remove one link"
                )
            self._owners[identity] = class_folder
            folders, files = self.entries(folder)
            yield from files
            waiting += [(below, (*chain, identity)) for below in reversed(folders)]


_Identity = tuple[int, int] | str


def _identity(folder: Path) -> _Identity:
    """What is the same for a folder and all links to it."""
    with foreign(lambda said: f"{printable(folder)} cannot be read: {said}."):
        status = folder.stat()
        return (status.st_dev, status.st_ino) if status.st_ino else str(folder.resolve())
