"""Arrays of images and labels: what is wrong with them, and the line that mends it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compress.data.images import PART
from compress.data.sources.damage import listed
from compress.data.sources.ranges import Range, conversion, joined
from compress.data.sources.raw import (
    LARGEST_INPUT_PIXELS,
    SMALLEST_SIDE,
    RawData,
    measure_normalization,
    mirrors,
    nchw,
)
from compress.errors import DataError
from compress.files import printable
from compress.tasks.classification import Classification

KEYS = ("x_train", "y_train", "x_test", "y_test")
IMAGE_KEYS = ("x_train", "x_test")
# Larger numbers do not number classes, and would not all fit into int64.
LARGEST_LABEL = 2**31


@dataclass(frozen=True)
class Fault:
    """What is wrong with an array.

    Attributes:
        text: which array, what was found and what is needed.
        mend: Python that mends it, where ``d`` is the dictionary of all arrays and ``np`` NumPy;
            empty where nobody can know how.
    """

    text: str
    mend: str = ""


def check_arrays(
    arrays: Mapping[str, NDArray[Any]],
    source: Path,
    *,
    layouts: Sequence[str],
    faults: Sequence[Fault] = (),
    advice: Sequence[str] = (),
) -> dict[str, NDArray[Any]]:
    """Images as uint8 [n, h, w, c] and labels as int64 [n], or one error with every fault.

    Args:
        arrays: the four of ``KEYS``.
        source: where they are from, for the message.
        layouts: of "NHW" and "NHWC" those that images may have.
        faults: what else is wrong with them.
        advice: where all faults can be mended, what is said before and after their mends.

    Raises:
        DataError: something is wrong.
    """
    faults = list(faults)
    checked: dict[str, NDArray[Any]] = {}
    for split in ("train", "test"):
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        image_faults = list(_image_faults(f"x_{split}", images, layouts))
        label_faults = list(_label_faults(f"y_{split}", labels))
        faults += image_faults + label_faults
        if labels.ndim and images.ndim and len(images) != len(labels):
            faults.append(
                Fault(f"x_{split} has {len(images)} images, y_{split} {len(labels)} labels")
            )
        if not image_faults:
            checked[f"x_{split}"] = images if images.ndim == 4 else images[..., None]
        if not label_faults:
            checked[f"y_{split}"] = labels.reshape(len(labels)).astype(np.int64)
    if "x_train" in checked and "x_test" in checked:
        train_shape, test_shape = checked["x_train"].shape[1:], checked["x_test"].shape[1:]
        if train_shape != test_shape:
            faults.append(Fault(f"training images are {train_shape}, test images {test_shape}"))
    if "y_train" in checked:
        faults += _class_faults(checked["y_train"], checked.get("y_test"))
    if faults:
        told = f"{printable(source)} is not a data set: {listed([each.text for each in faults])}."
        mends = [each.mend for each in faults]
        if advice and all(mends):
            # A mend may be that of several faults.
            told += advice[0] + "; ".join(dict.fromkeys(mends)) + advice[1]
        raise DataError(told)
    return checked


def _image_faults(key: str, images: NDArray[Any], layouts: Sequence[str]) -> Iterator[Fault]:
    shape = images.shape
    if not any(len(shape) == len(layout) for layout in layouts):
        yield Fault(f"{key} has shape {shape}, not {' or '.join(layouts)}")
    elif not shape[0]:
        yield Fault(f"{key} is empty")
    elif len(shape) == 4 and shape[3] not in (1, 3):
        found = f"{key} has shape {shape}, the last size must be 1 or 3 channels"
        if shape[1] in (1, 3):
            turned = "transpose(0, 2, 3, 1)"
            yield Fault(f"{found}; use {turned}", f"d['{key}'] = d['{key}'].{turned}")
        else:
            yield Fault(found)
    elif min(shape[1:3]) < SMALLEST_SIDE:
        least = f"{SMALLEST_SIDE}x{SMALLEST_SIDE}"
        yield Fault(f"{key} has images of {shape[1]}x{shape[2]}, they must be {least} or larger")
    elif shape[1] * shape[2] > LARGEST_INPUT_PIXELS:
        most = math.isqrt(LARGEST_INPUT_PIXELS)
        yield Fault(f"{key} has images of {shape[1]}x{shape[2]}, more than {most}x{most}")


def _label_faults(key: str, labels: NDArray[Any]) -> Iterator[Fault]:
    if labels.ndim == 2 and labels.shape[1] > 1:
        yield Fault(
            f"{key} has shape {labels.shape}; one-hot labels need argmax(axis=1)",
            f"d['{key}'] = d['{key}'].argmax(axis=1)",
        )
    elif labels.ndim != 1 and labels.shape[1:] != (1,):
        yield Fault(f"{key} has shape {labels.shape}, but one label per image is needed")
    elif labels.dtype.kind not in "iu":
        whole = labels.dtype.kind == "f" and bool((labels == np.floor(labels)).all())
        yield Fault(
            f"{key} is {labels.dtype}, labels must be whole numbers",
            f"d['{key}'] = d['{key}'].astype(int)" if whole or labels.dtype.kind == "b" else "",
        )
    elif labels.size and max(-int(labels.min()), int(labels.max())) > LARGEST_LABEL:
        yield Fault(
            f"{key} has labels from {labels.min()} to {labels.max()}; number the classes from 0 "
            "without gaps"
        )


def _class_faults(train: NDArray[np.int64], test: NDArray[np.int64] | None) -> Iterator[Fault]:
    present = np.unique(train)
    if not len(present):
        return
    strange = np.setdiff1d(test, present) if test is not None else present[:0]
    if len(present) < 2:
        yield Fault("there is only one class")
    elif present[0] < 0 or present[-1] != len(present) - 1:
        shown = ", ".join(map(str, present[:10])) + (", ..." if len(present) > 10 else "")
        numbered = "; ".join(
            f"d['{key}'] = np.searchsorted(u, d['{key}'])" for key in ("y_train", "y_test")
        )
        yield Fault(
            f"the training labels are {shown}; number the classes from 0 without gaps",
            f"u = np.unique(d['y_train']); {numbered}" if test is not None else "",
        )
    if len(strange):
        shown = ", ".join(map(str, strange[:10]))
        yield Fault(f"the test labels have classes without training images: {shown}")


def raw_of_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], class_names: Sequence[str] | None = None
) -> RawData:
    """``RawData`` of checked arrays from the file or folder ``path``.

    Args:
        path: where they are from, which names them.
        arrays: as ``check_arrays`` gives them.
        class_names: their numbers where None.
    """
    names = class_names or [str(number) for number in range(int(arrays["y_train"].max()) + 1)]
    train_images = nchw(arrays["x_train"])
    folder = printable(path.resolve().name) if path.is_dir() else ""
    return RawData(
        name=folder or printable(path.stem),
        train_images=train_images,
        train_targets=torch.from_numpy(arrays["y_train"].copy()),
        test_images=nchw(arrays["x_test"]),
        test_targets=torch.from_numpy(arrays["y_test"].copy()),
        task=Classification(tuple(names)),
        normalization=measure_normalization(train_images),
        flip=mirrors(train_images),
        source=folder or printable(path.name),
    )


# --- Pixels that are no bytes --------------------------------------------------------------------


def as_bytes(
    arrays: Mapping[str, NDArray[Any]],
) -> tuple[dict[str, NDArray[Any]], list[Fault]]:
    """The same arrays, images that are whole numbers from 0 to 255 as uint8; what is wrong.

    Images in {0, 1} may be black and white, or so dark that nothing is seen: they are not taken.
    Training and test images are looked at together, as they have one range.
    """
    others = [key for key in IMAGE_KEYS if arrays[key].dtype != np.uint8]
    taken = dict(arrays)
    faults = [
        Fault(f"{key} is {arrays[key].dtype}, pixels must be uint8, 0 to 255")
        for key in others
        if arrays[key].dtype.kind not in "biuf"
    ]
    ranges = [_range_of(arrays[key]) for key in others if arrays[key].size] if not faults else []
    if not ranges:
        return taken, faults
    both = joined(ranges)
    if both.whole and both.low >= 0 and 1 < both.high <= 255:
        return taken | {key: arrays[key].astype(np.uint8) for key in others}, []
    what, scaled = conversion(both)
    for key in others:
        found = f"{key} is {arrays[key].dtype} from {both.low:g} to {both.high:g}"
        pixels = scaled.format(x=f"d['{key}'].astype('f8')")
        mend = f"d['{key}'] = np.rint({pixels}).clip(0, 255).astype('u1')" if scaled else ""
        faults.append(Fault(f"{found}, pixels must be uint8, 0 to 255 ({what})", mend))
    return taken, faults


def _range_of(array: NDArray[Any]) -> Range:
    """That of a whole array, a part at a time."""
    low, high, whole = np.inf, -np.inf, True
    flat = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
    for start in range(0, len(flat), PART):
        part = flat[start : start + PART]
        # NaN makes both NaN.
        low, high = np.minimum(low, part.min()), np.maximum(high, part.max())
        whole = whole and (part.dtype.kind != "f" or bool((part == np.floor(part)).all()))
    return Range(float(low), float(high), whole)
