"""Where images come from: known data sets, .npz files, folders of class folders, the wheel.

Each reader gives ``RawData``: every image as 8-bit pixels, in memory or, where a folder holds more
than that has room for, in a file that is mapped. A data set is checked whole before anything is
made of it, and all its faults are told at once.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import shutil
import struct
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from compress.data.images import PART, Images, StreamedImages
from compress.data.memory import fits
from compress.data.normalization import KNOWN
from compress.errors import DataError, UnknownName, UsageError, first_line
from compress.files import atomic_path, clear_up, try_lock
from compress.spec import Normalization
from compress.units import format_bytes

if TYPE_CHECKING:
    from PIL import Image

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

# Of the pixels of its 60,000 training images: MNIST's files have the same names and sizes.
FASHION_SHA256 = "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012"

TORCHVISION_NAMES = ("cifar10", "cifar100", "fashion-mnist")
# Another process that fetches the same is asked again after so long.
WAIT_S = 0.5

# Debian's package dataset-fashion-mnist puts the four files here.
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
)

# A folder without val/ or test/ gives this share of each class to the test set. The seed is not
# the run's: the test images must be the same ones in every run.
TEST_FRACTION = 0.2
TEST_SEED = 20171

# How many faults a message lists before it only counts.
FAULTS_SHOWN = 8


@dataclass(frozen=True)
class RawData:
    """A data set as its source has it: training and test images, nothing chosen yet.

    Attributes:
        name: "cifar10", or what the file or folder is called.
        train_images: uint8 [n, c, h, w].
        train_labels: int64 [n], 0 to the number of classes less 1.
        test_images: uint8 [m, c, h, w].
        test_labels: int64 [m].
        class_names: one a class.
        normalization: the data set's own, or that of the training images.
        flip: whether a mirrored image is still one of its class. Known data sets say it; of others
            colour images are taken to be, and grey ones, which may show letters, not to be.
        source: what the images were read from, for people: a file's or folder's name, no path.
    """

    name: str
    train_images: Images
    train_labels: Tensor
    test_images: Images
    test_labels: Tensor
    class_names: tuple[str, ...]
    normalization: Normalization
    flip: bool
    source: str


def default_root() -> Path:
    """Where downloaded data sets are kept: $XDG_CACHE_HOME/compress/datasets or ~/.cache/..."""
    return _cache() / "datasets"


def _cache() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "compress"


def measure_normalization(images: Images) -> Normalization:
    """Mean and standard deviation of each channel of uint8 [n, c, h, w], scaled to [0, 1].

    They are worked out from the 256 counts, so that neither the order of the images nor the
    number of threads changes them. A channel of one colour gets the deviation of one grey level.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    channels = range(images.shape[1])
    all_counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for part in images.split(PART):
        for channel in channels:
            all_counts[channel] += torch.bincount(part[:, channel].flatten(), minlength=256)
    means, deviations = [], []
    for channel in channels:
        counts = all_counts[channel].double()
        share = counts / counts.sum()
        mean = float((share * levels).sum())
        variance = float((share * (levels - mean) ** 2).sum())
        means.append(round(mean, 6))
        deviations.append(round(max(math.sqrt(variance), 1 / 255), 6))
    return Normalization(tuple(means), tuple(deviations))


# --- Known data sets -----------------------------------------------------------------------------


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

    def read(train: bool) -> Any:
        return kind(root, train=train, download=download)

    train, test = _torchvision_or_explain(name, root, download, read)
    return RawData(
        name=name,
        train_images=torch.from_numpy(train.data).permute(0, 3, 1, 2).contiguous(),
        train_labels=torch.tensor(train.targets, dtype=torch.int64),
        test_images=torch.from_numpy(test.data).permute(0, 3, 1, 2).contiguous(),
        test_labels=torch.tensor(test.targets, dtype=torch.int64),
        class_names=tuple(train.classes),
        normalization=KNOWN[name],
        flip=True,
        source=kind.base_folder,
    )


def _read_fashion(root: Path, download: bool) -> RawData:
    for folder in (root, root / "FashionMNIST" / "raw", root / "fashion-mnist", DEBIAN_FASHION):
        if _find_idx_files(folder):
            return _as_fashion(read_idx(folder), folder)
    from torchvision import datasets

    def fetch(train: bool) -> Any:
        return datasets.FashionMNIST(root, train=train, download=download)

    _torchvision_or_explain("fashion-mnist", root, download, fetch)
    fetched = root / "FashionMNIST" / "raw"
    return _as_fashion(read_idx(fetched), fetched)


def _as_fashion(raw: RawData, folder: Path) -> RawData:
    """What is known of Fashion-MNIST, added to the images of ``folder``."""
    if len(raw.class_names) != len(FASHION_CLASSES) or raw.train_images.shape[1:] != (1, 32, 32):
        raise DataError(
            f"The idx files in {folder} are not Fashion-MNIST: {len(raw.class_names)} classes "
            f"of images of shape {tuple(raw.train_images.shape[1:])}."
        )
    return replace(
        raw,
        name="fashion-mnist",
        class_names=FASHION_CLASSES,
        normalization=KNOWN["fashion-mnist"],
        flip=True,
    )


@contextmanager
def _alone(root: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Waits until no other process fetches into a folder; one that is read alone needs no wait.

    Args:
        root: the folder.
        waiting: is called once where there is another.
    """
    if root.exists() and not os.access(root, os.W_OK):
        yield
        return
    told = False
    while True:
        with try_lock(root) as mine:
            if mine:
                yield
                return
        if not told:
            waiting()
        told = True
        time.sleep(WAIT_S)


def _torchvision_or_explain(
    name: str, root: Path, download: bool, read: Callable[[bool], Any]
) -> tuple[Any, Any]:
    """The training and the test set as torchvision reads them, its failures as ``DataError``."""
    try:
        with warnings.catch_warnings():
            # CIFAR's files were pickled by a NumPy whose arrays make a later one complain.
            warnings.simplefilter("ignore")
            with _alone(root) if download else nullcontext():
                return read(True), read(False)
    # urllib's URLError is an OSError; torchvision raises RuntimeError for a wrong checksum.
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        reason = getattr(error, "reason", error)
        done = "cannot be fetched" if download else "is not there whole"
        raise DataError(
            f"The data set {name} {done} ({_short(reason)}). Put torchvision's copy of it "
            f"into {root}, name the folder that has it, or give the images as an .npz file."
        ) from error


# --- The idx files of the MNIST family -----------------------------------------------------------

_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def read_idx(folder: Path) -> RawData:
    """The four idx files of the MNIST family, plain or gzipped; 28x28 is padded to 32x32.

    Fashion-MNIST is recognised by its images.

    Raises:
        DataError: a file is missing, damaged, or does not fit the others.
    """
    found = _find_idx_files(folder)
    if not found:
        raise DataError(f"{folder} does not hold the four files {', '.join(_IDX_FILES)}(.gz).")
    arrays = [_read_idx_file(path, 3 if "idx3" in path.name else 1) for path in found]
    checked = _check_arrays(dict(zip(_KEYS, arrays, strict=True)), str(folder), layouts=("NHW",))
    raw = _from_arrays(folder, checked, class_names=None)
    if raw.train_images.shape[2:] == (28, 28):
        raw = replace(
            raw,
            train_images=_padded(raw.train_images),
            test_images=_padded(raw.test_images),
        )
    if hashlib.sha256(arrays[0].data).hexdigest() == FASHION_SHA256:
        return _as_fashion(raw, folder)
    return raw


def _padded(images: Images) -> Tensor:
    """28x28 -> 32x32, with zeros around."""
    return functional.pad(images[:], (2, 2, 2, 2))


def _find_idx_files(folder: Path) -> list[Path]:
    """The four files in the order of ``_IDX_FILES``, or nothing if one is missing."""
    found = []
    for name in _IDX_FILES:
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.is_file():
                found.append(candidate)
                break
    return found if len(found) == len(_IDX_FILES) else []


def _read_idx_file(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An idx file: two zero bytes, 8 for uint8, the number of dimensions, their sizes, the data."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {_short(error)}. Fetch it again.") from error
    header = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, 8, dimensions)) or len(content) < header:
        raise DataError(
            f"{path} is no idx file of {dimensions}-dimensional bytes: it begins with "
            f"{content[:4].hex(' ') or 'nothing'}. Fetch it again."
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path} says that it holds {' x '.join(map(str, shape))} bytes, "
            f"but {len(content) - header} follow. Fetch it again."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


# --- .npz files ----------------------------------------------------------------------------------

_KEYS = ("x_train", "y_train", "x_test", "y_test")


def read_npz(path: Path) -> RawData:
    """An .npz file with x_train, y_train, x_test and y_test.

    Images are uint8, [n, h, w] or [n, h, w, c] with 1 or 3 channels; labels are whole numbers
    from 0 without gaps, [n] or [n, 1]. ``class_names`` may be there too. Pickled arrays are
    refused.

    Raises:
        DataError: the file is missing, damaged, or holds something else; all faults are named.
    """
    arrays = _load_npz(path)
    checked = _check_arrays(arrays, str(path), layouts=("NHW", "NHWC"))
    names = arrays.get("class_names")
    return _from_arrays(path, checked, class_names=names)


def _load_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of the file that are wanted, whatever they hold."""
    advice = "Make it with numpy.savez(FILE, x_train=..., y_train=..., x_test=..., y_test=...)."
    try:
        # Opened here: numpy leaves the file open where it finds the archive damaged.
        with path.open("rb") as file:
            start = file.read(6)
            if not start.startswith((b"PK", b"\x93NUMPY")):
                found = f"begins with {start!r}" if start else "is empty"
                raise DataError(f"{path} is not an .npz file: it {found}. {advice}")
            file.seek(0)
            return _arrays_of(np.load(file, allow_pickle=False), path, advice)
    except FileNotFoundError as error:
        raise DataError(f"There is no data file {path}.") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        raise DataError(
            f"{path} is not an .npz file, or is damaged ({_short(error)}). {advice}"
        ) from error


def _arrays_of(loaded: Any, path: Path, advice: str) -> dict[str, NDArray[Any]]:
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        raise DataError(f"{path} holds a single array, not an archive of them. {advice}")
    arrays: dict[str, NDArray[Any]] = {}
    faults = []
    missing = [key for key in _KEYS if key not in loaded.files]
    if missing:
        there = ", ".join(loaded.files[:20]) or "nothing"
        faults.append(f"{', '.join(missing)} missing (it has {there})")
    for key in (*_KEYS, "class_names"):
        if key not in loaded.files:
            continue
        try:
            array: Any = loaded[key]  # bytes, where the member is no .npy
        except (
            OSError,
            ValueError,
            EOFError,
            RuntimeError,  # an encrypted member
            NotImplementedError,  # an unknown compression
            MemoryError,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:
            faults.append(f"{key} cannot be read ({_short(error)})")
            continue
        if isinstance(array, np.ndarray):
            arrays[key] = array
        else:
            faults.append(f"{key} is no array")
    if faults:
        raise DataError(f"{path} is no data set: {'; '.join(faults)}. {advice}")
    return arrays


def _check_arrays(
    arrays: dict[str, NDArray[Any]], source: str, *, layouts: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Images as uint8 [n, h, w, c] and labels as int64 [n], or one error with every fault."""
    faults: list[str] = []
    checked: dict[str, NDArray[Any]] = {}
    for split in ("train", "test"):
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        image_faults = list(_image_faults(f"x_{split}", images, layouts))
        label_faults = list(_label_faults(f"y_{split}", labels))
        faults += image_faults + label_faults
        if labels.ndim and images.ndim and len(images) != len(labels):
            faults.append(f"x_{split} has {len(images)} images, y_{split} {len(labels)} labels")
        if not image_faults:
            checked[f"x_{split}"] = images if images.ndim == 4 else images[..., None]
        if not label_faults:
            checked[f"y_{split}"] = labels.reshape(len(labels)).astype(np.int64)
    if "x_train" in checked and "x_test" in checked:
        train_shape, test_shape = checked["x_train"].shape[1:], checked["x_test"].shape[1:]
        if train_shape != test_shape:
            faults.append(f"training images are {train_shape}, test images {test_shape}")
    if "y_train" in checked:
        faults += _class_faults(checked["y_train"], checked.get("y_test"))
    if faults:
        raise DataError(f"{source} is no data set: {_listed(faults)}.")
    return checked


def _image_faults(key: str, images: NDArray[Any], layouts: Sequence[str]) -> Iterator[str]:
    shape = images.shape
    if images.dtype != np.uint8:
        scale = " (multiply by 255 and round)" if images.dtype.kind == "f" else ""
        yield f"{key} is {images.dtype}, pixels must be uint8, 0 to 255{scale}"
    if not any(len(shape) == len(layout) for layout in layouts):
        yield f"{key} has shape {shape}, not {' or '.join(layouts)}"
    elif not shape[0]:
        yield f"{key} is empty"
    elif len(shape) == 4 and shape[3] not in (1, 3):
        hint = "; use transpose(0, 2, 3, 1)" if shape[1] in (1, 3) else ""
        yield f"{key} has shape {shape}, the last size must be 1 or 3 channels{hint}"
    elif min(shape[1:3]) < 8:
        yield f"{key} has images of {shape[1]}x{shape[2]}, they must be 8x8 or larger"


def _label_faults(key: str, labels: NDArray[Any]) -> Iterator[str]:
    if labels.dtype.kind not in "iu":
        yield f"{key} is {labels.dtype}, labels must be whole numbers"
    if labels.ndim == 2 and labels.shape[1] > 1:
        yield f"{key} has shape {labels.shape}; one-hot labels need argmax(axis=1)"
    elif labels.ndim not in (1, 2):
        yield f"{key} has shape {labels.shape}, one label an image is needed"


def _class_faults(train: NDArray[np.int64], test: NDArray[np.int64] | None) -> Iterator[str]:
    present = np.unique(train)
    if not len(present):
        return
    if present[0] < 0 or present[-1] != len(present) - 1:
        shown = ", ".join(map(str, present[:10])) + (", ..." if len(present) > 10 else "")
        yield f"the training labels are {shown}; number the classes from 0 without gaps"
    elif len(present) < 2:
        yield "there is only one class"
    elif test is not None:
        strange = np.setdiff1d(test, present)
        if len(strange):
            shown = ", ".join(map(str, strange[:10]))
            yield f"test labels that no training image has: {shown}"


def _from_arrays(
    path: Path, arrays: dict[str, NDArray[Any]], *, class_names: NDArray[Any] | None
) -> RawData:
    """``RawData`` of checked arrays from the file or folder ``path``."""
    count = int(arrays["y_train"].max()) + 1
    names = tuple(map(str, range(count)))
    if class_names is not None:
        if class_names.dtype.kind != "U" or class_names.shape != (count,):
            raise DataError(
                f"{path} is no data set: class_names is {class_names.dtype} of shape "
                f"{class_names.shape}, not {count} strings."
            )
        names = tuple(map(str, class_names))
    train_images = _nchw(arrays["x_train"])
    folder = path.resolve().name if path.is_dir() else ""
    return RawData(
        name=folder or path.stem,
        train_images=train_images,
        train_labels=torch.from_numpy(arrays["y_train"].copy()),
        test_images=_nchw(arrays["x_test"]),
        test_labels=torch.from_numpy(arrays["y_test"].copy()),
        class_names=names,
        normalization=measure_normalization(train_images),
        flip=_mirrors(train_images),
        source=folder or path.name,
    )


def _mirrors(images: Images) -> bool:
    """Whether images [n, c, h, w] that nobody has said anything of are mirrored in training."""
    return images.shape[1] > 1


def _nchw(images: NDArray[np.uint8]) -> Tensor:
    """uint8 [n, h, w, c] -> a tensor [n, c, h, w] with memory of its own."""
    return torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C"))


# --- Folders of class folders --------------------------------------------------------------------


def read_folder(
    path: Path, *, image_size: int | None = None, say: Callable[[str], None] = lambda _: None
) -> RawData:
    """Images in one folder a class, under train/ and val/ (or test/), or straight under ``path``.

    A folder with the idx files of the MNIST family or with CIFAR's batches is read as what it is.

    Without val/ or test/, a fifth of each class, always the same images, is the test set. With
    both, test/ is the test set and val/ joins the training images. Grey images stay so if all
    are; otherwise all become RGB. Classes are numbered in the order of their names.

    Args:
        path: the folder.
        image_size: scales the shorter side to this and crops the middle; None demands that all
            images have one size.
        say: is told where the images have to be decoded into a file.

    Raises:
        DataError: folders are empty or mixed up, classes differ, images are damaged or of several
            sizes.
        UsageError: ``image_size`` is given for files that are no images.
    """
    if not path.is_dir():
        raise DataError(f"There is no folder {path}.")
    known = _read_known_folder(path)
    if known is not None:
        if image_size is not None:
            raise UsageError(f"--image-size is for folders of images; {path} holds {known.name}.")
        return known
    folders = {name: path / name for name in ("train", "val", "test") if (path / name).is_dir()}
    if "train" in folders and len(folders) == 1:
        raise DataError(
            f"{path} has train/ but neither val/ nor test/. Add one, or give {path / 'train'} "
            "itself, of which a fifth is then kept for the test."
        )
    if "train" not in folders:
        classes, listed = _list_images(path)
        train, test = _split_off_test(listed, len(classes))
    else:
        classes, train = _list_images(folders["train"])
        test = []
        for name in [name for name in ("val", "test") if name in folders]:
            others, listed = _list_images(folders[name])
            if others != classes:
                differ = ", ".join(sorted(set(classes) ^ set(others))[:FAULTS_SHOWN])
                raise DataError(f"{folders[name]} has not the classes of train/: {differ} differ.")
            if name == "val" and "test" in folders:
                train += listed
            else:
                test = listed
    images = _images([file for file, _ in train + test], path, image_size, say)
    labels = torch.tensor([label for _, label in train + test], dtype=torch.int64)
    train_images, test_images = _parted(images, len(train))
    return RawData(
        name=path.resolve().name,
        train_images=train_images,
        train_labels=labels[: len(train)],
        test_images=test_images,
        test_labels=labels[len(train) :],
        class_names=tuple(classes),
        normalization=measure_normalization(train_images),
        flip=_mirrors(images),
        source=path.resolve().name,
    )


def _read_known_folder(path: Path) -> RawData | None:
    """The data set whose own files lie in the folder; None where there are none."""
    if _find_idx_files(path):
        return read_idx(path)
    for name, batches in (("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")):
        if (path / batches).is_dir():
            return read_torchvision(name, path, download=False)
        if path.name == batches:
            return read_torchvision(name, path.parent, download=False)
    return None


def _list_images(folder: Path) -> tuple[list[str], list[tuple[Path, int]]]:
    """Class names and (file, class) pairs, both in the order of the names."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    loose = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES]
    class_folders = [entry for entry in entries if entry.is_dir()]
    faults = []
    if loose:
        faults.append(
            f"{len(loose)} images lie beside the class folders ({loose[0].name}, ...); "
            "move them into their class's folder"
        )
    if len(class_folders) < 2:
        faults.append(f"it holds {len(class_folders)} class folders, 2 or more are needed")
    listed = []
    for label, class_folder in enumerate(class_folders):
        found = sorted(
            file
            for file in class_folder.rglob("*")
            if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
        )
        if not found:
            faults.append(f"{class_folder.name}/ holds no images")
        listed += [(file, label) for file in found]
    if faults:
        raise DataError(f"{folder} is no folder of class folders: {_listed(faults)}.")
    return [entry.name for entry in class_folders], listed


def _split_off_test(
    listed: list[tuple[Path, int]], classes: int
) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
    """A fifth of each class, at least one image, leaves for the test set."""
    generator = torch.Generator().manual_seed(TEST_SEED)
    train, test = [], []
    for label in range(classes):
        members = [pair for pair in listed if pair[1] == label]
        if len(members) < 2:
            raise DataError(
                f"{members[0][0].parent} holds one image. Two or more are needed, "
                "one to train on and one to test."
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


def _images(
    paths: list[Path], folder: Path, image_size: int | None, say: Callable[[str], None]
) -> Images:
    """All images, uint8 [n, c, h, w]: in memory, or in a file where that has no room for them."""
    looked = _look(paths[0])
    if not isinstance(looked, str):
        side = (image_size, image_size) if image_size is not None else (looked[0], looked[1])
        # While they are decoded, they are there twice.
        if not fits(2 * 3 * math.prod(side) * len(paths), torch.device("cpu")):
            return StreamedImages(_decode_to_file(paths, folder, image_size, say))
    return _decode(paths, folder, image_size)


def _look(path: Path) -> tuple[int, int, bool] | str:
    """Height, width, and whether an image is grey, from its header; or what is wrong with it."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            return opened.height, opened.width, opened.mode in ("1", "L")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        return f"{path.parent.name}/{path.name} ({_short(error)})"


def _decode_to_file(
    paths: list[Path], folder: Path, image_size: int | None, say: Callable[[str], None]
) -> Tensor:
    """The images in a file of the cache, decoded once and mapped into memory.

    The file's folder is named by a digest of the images' names, sizes and times, so another image
    makes another file.

    Raises:
        DataError: images cannot be read, have several sizes, or find no room on the disk.
        UsageError: the cache cannot be written to.
    """
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        looked = list(pool.map(_look, paths))
    faults = [found for found in looked if isinstance(found, str)]
    if faults:
        raise DataError(f"{len(faults)} images in {folder} cannot be read: {_listed(faults)}.")
    sizes: dict[tuple[int, int], Path] = {}
    grey = True
    for found, path in zip(looked, paths, strict=True):
        if not isinstance(found, str):
            sizes.setdefault(found[:2], path)
            grey = grey and found[2]
    if image_size is not None:
        sizes = {(image_size, image_size): paths[0]}
    height, width = _one_size(sizes, folder)
    shape = (len(paths), height, width, 1 if grey else 3)
    digest = hashlib.sha256(f"{shape} {image_size}".encode())
    for path in paths:
        stat = path.stat()
        line = f"{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    target = _cache() / "decoded" / digest.hexdigest()[:32] / "images.npy"
    if target.exists():
        return _mapped(target)
    elsewhere = f"Another process decodes the images of {folder} into {target}; waiting for it."
    with _alone(target.parent, lambda: say(elsewhere)):
        clear_up(target.parent)
        if not target.exists():
            size_bytes = math.prod(shape)
            say(
                f"The {len(paths):,} images of {folder.name} take {format_bytes(size_bytes)}, more "
                f"than memory has room for. They are decoded once, into {target}."
            )
            free_bytes = shutil.disk_usage(target.parent).free
            if free_bytes < size_bytes:
                raise DataError(
                    f"{target.parent} has room for {format_bytes(free_bytes)}, the images of "
                    f"{folder} take {format_bytes(size_bytes)}. Take a smaller --image-size, or "
                    "set XDG_CACHE_HOME to a folder on a larger disk."
                )
            _write_decoded(target, paths, shape, image_size, folder)
    return _mapped(target)


def _mapped(path: Path) -> Tensor:
    """The images of an .npy file [n, h, w, c] as [n, c, h, w], read where they are looked at.

    Nobody may write to them.
    """
    # Mapped to be written to as well, it would count as memory, and a file that is larger than
    # memory could not be mapped.
    mapped = np.load(path, mmap_mode="r")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(mapped).permute(0, 3, 1, 2)


def _write_decoded(
    target: Path,
    paths: list[Path],
    shape: tuple[int, int, int, int],
    image_size: int | None,
    folder: Path,
) -> None:
    """Decodes into an .npy file, in order, some thousands at a time."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with (
        ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool,
        atomic_path(target) as temporary,
        temporary.open("wb") as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(paths), PART):
            some = paths[start : start + PART]
            for found in pool.map(lambda path: _decode_one(path, image_size), some):
                if isinstance(found, str):
                    raise DataError(f"An image in {folder} cannot be read: {found}.")
                pixels = found[..., None] if found.ndim == 2 else found
                # A grey image among coloured ones becomes one.
                file.write(np.broadcast_to(pixels, shape[1:]).tobytes())


def _one_size(sizes: dict[tuple[int, int], Path], folder: Path) -> tuple[int, int]:
    """Height and width of all images.

    Raises:
        DataError: they have several, or are too small.
    """
    if len(sizes) > 1:
        shown = [f"{h}x{w} ({path.name})" for (h, w), path in sizes.items()]
        raise DataError(
            f"The images in {folder} have {len(sizes)} sizes: {_listed(shown)}. "
            "Give --image-size to bring them to one."
        )
    height, width = next(iter(sizes))
    if min(height, width) < 8:
        raise DataError(f"The images in {folder} are {height}x{width}; 8x8 is the smallest.")
    return height, width


def _decode(paths: list[Path], folder: Path, image_size: int | None) -> Tensor:
    """All images as one uint8 tensor [n, c, h, w]."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        results = list(pool.map(lambda path: _decode_one(path, image_size), paths))
    faults = [result for result in results if isinstance(result, str)]
    if faults:
        raise DataError(f"{len(faults)} images in {folder} cannot be read: {_listed(faults)}.")
    images = [result for result in results if not isinstance(result, str)]
    grey = all(image.ndim == 2 for image in images)
    sizes: dict[tuple[int, int], Path] = {}
    for image, path in zip(images, paths, strict=True):
        sizes.setdefault((image.shape[0], image.shape[1]), path)
    height, width = _one_size(sizes, folder)
    stacked = np.empty((len(images), height, width, 1 if grey else 3), dtype=np.uint8)
    for index, image in enumerate(images):
        stacked[index] = image[..., None] if image.ndim == 2 else image
    return _nchw(stacked)


def _decode_one(path: Path, image_size: int | None) -> NDArray[np.uint8] | str:
    """uint8 [h, w] of a grey image, [h, w, 3] of any other, or what is wrong with the file."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            image = opened.convert("L" if opened.mode in ("1", "L") else "RGB")
        if image_size is not None:
            image = _shorter_side(image, image_size)
    # Pillow raises SyntaxError for broken PNG chunks, ValueError for impossible headers.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        return f"{path.parent.name}/{path.name} ({_short(error)})"
    return np.asarray(image)


def _shorter_side(image: Image.Image, size: int) -> Image.Image:
    """Scales the shorter side to ``size`` and crops the middle square."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    scaled = image.resize((width, height))
    left, top = (width - size) // 2, (height - size) // 2
    return scaled.crop((left, top, left + size, top + size))


# --- The embedded default ------------------------------------------------------------------------


def read_embedded() -> RawData:
    """The subset of Fashion-MNIST inside the package: 8,000 training and 2,000 test images.

    Raises:
        DataError: the installed package lacks the file or it is damaged.
    """
    with as_file(files("compress.data") / "embedded" / "fashion-mnist-subset.npz") as path:
        raw = read_npz(path)
    return replace(
        raw,
        name="fashion-mnist-subset",
        train_images=_padded(raw.train_images),
        test_images=_padded(raw.test_images),
        class_names=FASHION_CLASSES,
        normalization=KNOWN["fashion-mnist"],
        flip=True,
        source="embedded in the package (Fashion-MNIST, MIT licence)",
    )


def embedded_teacher_path() -> Path:
    """The checkpoint of the teacher inside the package.

    Raises:
        DataError: the installed package lacks it.
    """
    path = Path(str(files("compress.data") / "embedded" / "teacher.safetensors"))
    if not path.is_file():
        raise DataError(f"The embedded teacher is missing at {path}. Install the package again.")
    return path


# --- Messages ------------------------------------------------------------------------------------


def _listed(faults: Sequence[str]) -> str:
    """'a; b; c', at most ``FAULTS_SHOWN`` of them."""
    more = len(faults) - FAULTS_SHOWN
    return "; ".join(faults[:FAULTS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _short(error: object) -> str:
    """An exception's message, short enough for the middle of a sentence."""
    return first_line(error).rstrip(".")[:200]
