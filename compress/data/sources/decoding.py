"""All images of class folders as one tensor: in memory, or in a file where that has no room."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compress.data.images import PART, PART_BYTES, Images, StreamedImages
from compress.data.memory import fits
from compress.data.sources.damage import listed
from compress.data.sources.listing import ImageFile
from compress.data.sources.pixels import (
    LARGEST_PIXELS,
    Broken,
    Decoded,
    Look,
    decode,
    name_of,
    scaled_size,
)
from compress.data.sources.ranges import conversion, joined
from compress.data.sources.raw import LARGEST_INPUT_PIXELS, SMALLEST_SIDE, nchw
from compress.data.sources.waiting import alone
from compress.environment import cache_folder
from compress.errors import DataError, UsageError
from compress.files import atomic_path, clear_up, printable
from compress.units import format_bytes, format_count

CPU = torch.device("cpu")
# Pillow keeps 4 bytes a pixel, and has an image up to three times while it turns and converts it.
_PILLOW_BYTES = 12
# All images together that are decoded at the same time.
_DECODING_BYTES = 2**31
# Another number makes other files of decoded images: this one's are upright, and grey where they
# were not before.
_DECODER = 2


def images_of(
    files: Sequence[ImageFile], folder: Path, image_size: int | None, say: Callable[[str], None]
) -> Images:
    """All images, uint8 [n, c, h, w]: in memory, or in a file where that has no room for them.

    Args:
        files: the images, in their order.
        folder: that they lie in.
        image_size: the height and width that they are brought to; None where they have one size.
        say: is told what was done to them, and where they have to be decoded into a file.

    Raises:
        DataError: images cannot be read, have several sizes, are larger than is read, or find no
            room on the disk.
        UsageError: the cache cannot be written to, or ``image_size`` is too large.
    """
    if image_size is not None and image_size**2 > LARGEST_INPUT_PIXELS:
        raise UsageError(
            f"--image-size {image_size} makes images of {image_size}x{image_size}, but at most "
            f"{math.isqrt(LARGEST_INPUT_PIXELS)} is allowed."
        )
    looks = {file.path: file.found for file in files if isinstance(file.found, Look)}
    broken = [file.found for file in files if isinstance(file.found, Broken)]
    if broken:
        pixels = sum(
            image_size**2 if image_size else look.height * look.width for look in looks.values()
        )
        if _fits(3 * pixels) and not any(each.pointer for each in broken):
            # All that is wrong is told at once, also what only decoding shows.
            decoded = _decoded(looks, image_size)
            broken += [each for each in decoded if isinstance(each, Broken)]
        raise _broken(broken, len(files), folder)
    height, width = _one_size(looks, folder, image_size)
    shape = (len(looks), height, width, 1 if all(look.grey for look in looks.values()) else 3)
    turned = sum(look.turned for look in looks.values())
    if turned:
        say(f"{turned:,} of {len(looks):,} images were rotated by their EXIF orientation.")
    if _fits(math.prod(shape)):
        return _in_memory(looks, shape, folder, image_size, say)
    return StreamedImages(_in_file(looks, shape, folder, image_size, say))


# Height, width, ... of the images by their files, in order.
Looks = dict[Path, Look]


def _fits(size_bytes: int) -> bool:
    """Whether decoded images find room in memory; while they are put in order, they are twice."""
    return fits(2 * size_bytes, CPU)


def _one_size(looks: Looks, folder: Path, image_size: int | None) -> tuple[int, int]:
    """Height and width of all images.

    Raises:
        DataError: they have several, or are too small or too large.
    """
    sizes: dict[tuple[int, int], Path] = {}
    for path, look in looks.items():
        sizes.setdefault((look.height, look.width), path)
    if image_size is not None:
        for (height, width), path in sizes.items():
            scaled = scaled_size(height, width, image_size)
            if math.prod(scaled) > LARGEST_PIXELS:
                raise DataError(
                    f"{name_of(path)} in {printable(folder)} is {height}x{width}, and would be "
                    f"{scaled[0]}x{scaled[1]} with a shorter side of {image_size}, but at most "
                    f"{format_count(LARGEST_PIXELS)} pixels are allowed. Crop or remove it."
                )
        sizes = {(image_size, image_size): next(iter(looks))}
    if len(sizes) > 1:
        shown = [f"{h}x{w} ({printable(path.name)})" for (h, w), path in sizes.items()]
        raise DataError(
            f"The images in {printable(folder)} have {len(sizes)} sizes: {listed(shown)}. Give "
            "--image-size to resize them to one size."
        )
    height, width = next(iter(sizes))
    if min(height, width) < SMALLEST_SIDE:
        raise DataError(
            f"The images in {printable(folder)} are {height}x{width}, but at least "
            f"{SMALLEST_SIDE}x{SMALLEST_SIDE} is needed. Give --image-size."
        )
    if height * width > LARGEST_INPUT_PIXELS:
        side = math.isqrt(LARGEST_INPUT_PIXELS)
        raise DataError(
            f"The images in {printable(folder)} are {height}x{width}, but at most {side}x{side} "
            "is allowed. Give --image-size to make them smaller."
        )
    return height, width


def _broken(broken: Sequence[Broken], count: int, folder: Path) -> DataError:
    """The error over images that cannot be read, with what to do where that is known."""
    pointers = sum(each.pointer for each in broken)
    if pointers:
        return DataError(
            f"{pointers:,} of {count:,} images in {printable(folder)} are Git LFS pointers "
            f"({next(each.reason for each in broken if each.pointer).split(' (')[0]}, ...): their "
            "content has not been fetched. Run `git lfs pull` in their repository."
        )
    told = (
        f"{len(broken)} images in {printable(folder)} cannot be read: "
        f"{listed([each.reason for each in broken])}."
    )
    ranges = [each.found for each in broken if each.found is not None]
    if ranges:
        what, scaled = conversion(joined(ranges))
        told += f" Nothing says which value is white. Save all in 8 bits: {what}"
        if scaled:
            pixels = scaled.format(x="np.asarray(image).astype('f8')")
            told += f", with Image.fromarray(np.rint({pixels}).clip(0, 255).astype('u1'))"
        told += "."
    return DataError(told)


# --- Decoding ------------------------------------------------------------------------------------


def _decoded(looks: Looks, image_size: int | None) -> Iterator[Decoded | Broken]:
    """All images, in order, several at a time, and no more than there is room for."""
    paths = list(looks)
    largest = max((look.height * look.width for look in looks.values()), default=1)
    workers = max(1, min(8, os.cpu_count() or 1, _DECODING_BYTES // (_PILLOW_BYTES * largest)))
    pixels = image_size**2 if image_size else largest
    some = max(workers, min(PART, PART_BYTES // (3 * pixels)))
    with ThreadPoolExecutor(workers) as pool, warnings.catch_warnings():
        # What Pillow thinks of what it reads is of no use to a user.
        warnings.simplefilter("ignore")
        for start in range(0, len(paths), some):
            part = paths[start : start + some]
            for path, found in zip(
                part, pool.map(lambda path: decode(path, image_size), part), strict=True
            ):
                yield _as_looked(found, path, looks[path], image_size)


def _as_looked(
    found: Decoded | Broken, path: Path, look: Look, image_size: int | None
) -> Decoded | Broken:
    """A decoded image with its pixels as [h, w, 1 or 3], if it is what its header said."""
    if isinstance(found, Broken):
        return found
    pixels = found.pixels
    size = (image_size, image_size) if image_size else (look.height, look.width)
    if pixels.shape[:2] != size or (pixels.ndim == 2) != look.grey:
        return Broken(f"{name_of(path)} (its content does not match its header)")
    return replace(found, pixels=pixels[..., None] if look.grey else pixels)


def _say_transparent(count: int, total: int, say: Callable[[str], None]) -> None:
    if count:
        say(
            f"{count:,} of {total:,} images have transparent pixels; their alpha channel is "
            "dropped."
        )


def _in_memory(
    looks: Looks,
    shape: tuple[int, int, int, int],
    folder: Path,
    image_size: int | None,
    say: Callable[[str], None],
) -> Tensor:
    """All images as one tensor [n, c, h, w]."""
    stacked = np.empty(shape, dtype=np.uint8)
    broken = []
    transparent = 0
    for index, each in enumerate(_decoded(looks, image_size)):
        if isinstance(each, Broken):
            broken.append(each)
        else:
            stacked[index] = each.pixels
            transparent += each.transparent
    if broken:
        raise _broken(broken, len(looks), folder)
    _say_transparent(transparent, len(looks), say)
    return nchw(stacked)


def _in_file(
    looks: Looks,
    shape: tuple[int, int, int, int],
    folder: Path,
    image_size: int | None,
    say: Callable[[str], None],
) -> Tensor:
    """The images in a file of the cache, decoded once and mapped into memory.

    The file's folder is named by a digest of the images' names, sizes and times, so another image
    makes another file.
    """
    digest = hashlib.sha256(f"{_DECODER} {shape} {image_size}".encode())
    for path in looks:
        stat = path.stat()
        line = f"{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    target = cache_folder() / "decoded" / digest.hexdigest()[:32] / "images.npy"
    if target.exists():
        return mapped(target)
    where = printable(folder)
    elsewhere = f"Another process decodes the images of {where} into {target}; waiting for it."
    with alone(target.parent, lambda: say(elsewhere)):
        clear_up(target.parent)
        if not target.exists():
            size_bytes = math.prod(shape)
            say(
                f"The {len(looks):,} images of {printable(folder.name)} take "
                f"{format_bytes(size_bytes)}, which does not fit into memory. They are decoded "
                f"once into {target}."
            )
            free_bytes = shutil.disk_usage(target.parent).free
            if free_bytes < size_bytes:
                raise DataError(
                    f"{target.parent} has {format_bytes(free_bytes)} free, but the images of "
                    f"{where} need {format_bytes(size_bytes)}. Use a smaller --image-size, or set "
                    "COMPRESS_CACHE to a folder on a larger disk."
                )
            _write(target, looks, shape, folder, image_size, say)
    return mapped(target)


def mapped(path: Path) -> Tensor:
    """The images of an .npy file [n, h, w, c] as [n, c, h, w], read where they are looked at.

    Nobody may write to them.
    """
    # Mapped to be written to as well, it would count as memory, and a file that is larger than
    # memory could not be mapped.
    array = np.load(path, mmap_mode="r")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array).permute(0, 3, 1, 2)


def _write(
    target: Path,
    looks: Looks,
    shape: tuple[int, int, int, int],
    folder: Path,
    image_size: int | None,
    say: Callable[[str], None],
) -> None:
    """Decodes into an .npy file, in order."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    transparent = 0
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for each in _decoded(looks, image_size):
            if isinstance(each, Broken):
                raise DataError(f"An image in {printable(folder)} cannot be read: {each.reason}.")
            transparent += each.transparent
            file.write(np.broadcast_to(each.pixels, shape[1:]).tobytes())
    _say_transparent(transparent, len(looks), say)
