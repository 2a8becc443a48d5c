"""One image: what its file says of it, and its pixels as bytes.

What a mode of Pillow becomes:

    1, L, LA, P and PA with a palette of greys      grey
    P, PA, RGB, RGBA, CMYK, YCbCr, LAB               colour
    I;16, I from a 16-bit PNG or PGM                 grey, 0 to 65535 scaled to 0 to 255 and rounded
    I;16 of 12 bits                                  grey, 0 to 4095 scaled the same way
    F, I of 32 bits or with a sign                   refused: no file says where its white is

Transparency is dropped: an image has the colours that are stored in it, as if it were opaque. An
image is turned upright as its EXIF orientation says. Colours of 16 bits a channel lose their lower
8 bits, as Pillow reads them.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.data.sources.damage import foreign
from compress.data.sources.ranges import Range
from compress.errors import DataError
from compress.files import LFS_POINTER_BYTES, REGULAR, is_lfs_pointer, kind_of_file, printable
from compress.units import format_count

if TYPE_CHECKING:
    from PIL import Image

# Formats that are told by how a file begins, and that Pillow reads by itself: it gives EPS to
# Ghostscript.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
# A file that is called so is meant to be an image, and damaged where it is none.
SUFFIXES = frozenset(
    {
        ".apng",
        ".avif",
        ".bmp",
        ".gif",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pfm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    }
)
# As Pillow has it, which only warns up to twice that.
LARGEST_PIXELS = 89_478_485

_ORIENTATION = 0x0112
_TURNED = range(2, 9)
_WIDTH_AND_HEIGHT_SWAPPED = range(5, 9)
_TIFF_SIZE = (256, 257)
_TIFF_PHOTOMETRIC = 262
_TIFF_SAMPLE_FORMAT = 339
_SIGNED = 2
_WHITE_IS_ZERO = 0
_NOTHING = "a broken link"
# What may stand behind the pixels of a PNG and say how they are turned.
_PNG_NOTES = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
_PNG_CHUNKS = 100_000


@dataclass(frozen=True)
class Look:
    """What the header of an image says.

    Attributes:
        height, width: in pixels, once it is upright.
        grey: whether it has one channel.
        turned: whether its EXIF orientation says that it lies.
    """

    height: int
    width: int
    grey: bool
    turned: bool


@dataclass(frozen=True)
class Broken:
    """A file that is to be an image and cannot be read.

    Attributes:
        reason: file and fault, for people.
        pointer: whether it is a Git LFS pointer.
        found: its values, where nothing says which of them is white.
    """

    reason: str
    pointer: bool = False
    found: Range | None = None


@dataclass(frozen=True)
class Decoded:
    """Pixels uint8, [h, w] of a grey image, [h, w, 3] of any other.

    ``transparent``: whether some of them were to be seen through.
    """

    pixels: NDArray[np.uint8]
    transparent: bool


def look(path: Path) -> Look | Broken | None:
    """What a file's header says; None for a file that is no image and is not called like one.

    A file that is no regular one is not opened, and is broken whatever it is called.
    """
    name = name_of(path)
    meant = path.suffix.lower() in SUFFIXES
    wrong = _not_regular(path)
    if wrong:
        return Broken(f"{name} ({wrong})") if meant or wrong != _NOTHING else None
    try:
        with _opened(path) as opened:
            kind = _kind_of(opened)
            turned = _orientation(opened)
            height, width = _size(opened, turned)
            return Look(height, width, kind.grey, turned in _TURNED)
    except _NoWhiteError as error:
        return Broken(f"{name} ({error})", found=error.found)
    except _RefusedError as error:
        return Broken(f"{name} ({error})")
    except DataError as error:
        pointer = isinstance(error, _PointerError)
        return Broken(f"{name} ({error})", pointer=pointer) if meant else None


def decode(path: Path, image_size: int | None) -> Decoded | Broken:
    """An image's pixels, upright.

    Args:
        path: of the file.
        image_size: scales the shorter side to this and crops the middle square.
    """
    from PIL import ImageOps

    try:
        with _opened(path) as opened, foreign(str):
            kind = _kind_of(opened)
            turned = _orientation(opened)
            opened.load()
            transparent = _is_transparent(opened)
            # Pillow itself turns a TIFF when it is loaded.
            lies = turned in _TURNED and opened.format != "TIFF"
            image = _eight_bits(ImageOps.exif_transpose(opened) if lies else opened, kind)
            if image_size is not None:
                image = _shorter_side(image, image_size)
            return Decoded(np.asarray(image), transparent)
    except DataError as error:
        return Broken(f"{name_of(path)} ({error})")


def name_of(path: Path) -> str:
    """A file's name with that of its folder, for messages."""
    return printable(f"{path.parent.name}/{path.name}")


def scaled_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width of an image whose shorter side is scaled to ``size``."""
    scale = size / min(height, width)
    return max(size, round(height * scale)), max(size, round(width * scale))


# --- Opening -------------------------------------------------------------------------------------


class _RefusedError(DataError):
    """It is an image, and is not read."""


class _PointerError(DataError):
    """The content is a Git LFS pointer."""


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of ``FORMATS`` that the installed Pillow knows."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _not_regular(path: Path) -> str:
    """What lies in the place of a regular file, in words; empty where one does."""
    try:
        found = kind_of_file(path.stat().st_mode)
    except FileNotFoundError:
        return _NOTHING
    except OSError as error:
        return error.strerror or str(error)
    return "" if found == REGULAR else found


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image of a file, of which the header is read.

    Raises:
        DataError: it is none, is damaged, or has too many pixels.
    """
    from PIL import Image, UnidentifiedImageError

    with foreign(str), path.open("rb") as file:
        head = file.read(LFS_POINTER_BYTES)
        if is_lfs_pointer(head):
            raise _PointerError("a Git LFS pointer")
        file.seek(0)
        try:
            opened = Image.open(file, formats=_formats())
        except UnidentifiedImageError as error:
            begins = f"it begins with {head[:8]!r}" if head else "it is empty"
            raise DataError(f"not a readable image: {begins}") from error
        except Image.DecompressionBombError as error:
            raise _RefusedError(
                f"over {format_count(LARGEST_PIXELS)} pixels, the most that is allowed; make it "
                "smaller"
            ) from error
        if opened.width * opened.height > LARGEST_PIXELS:
            raise _RefusedError(
                f"{opened.width}x{opened.height} pixels, but at most "
                f"{format_count(LARGEST_PIXELS)} are allowed; make it smaller"
            )
        yield opened


def _orientation(opened: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or none that can be read."""
    try:
        with foreign(str):
            if opened.format != "PNG" or _has_notes(opened):
                found = opened.getexif().get(_ORIENTATION, 1)
                return found if found in _TURNED else 1
    except DataError:
        pass
    return 1


def _has_notes(opened: Image.Image) -> bool:
    """Whether a PNG says anything beside its pixels, before or behind them.

    Pillow decodes it to look behind them.
    """
    if opened.info.keys() & {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}:
        return True
    file: Any = opened.fp  # type: ignore[attr-defined]
    there = file.tell()
    try:
        file.seek(len(b"\x89PNG\r\n\x1a\n"))
        pixels = False
        for _ in range(_PNG_CHUNKS):
            header = file.read(8)
            if len(header) < 8:
                return False
            length, kind = struct.unpack(">I4s", header)
            pixels = pixels or kind == b"IDAT"
            if pixels and kind in _PNG_NOTES:
                return True
            file.seek(length + 4, 1)
        return False
    finally:
        file.seek(there)


def _size(opened: Image.Image, orientation: int) -> tuple[int, int]:
    """Height and width of an image once it is upright, from its header."""
    width, height = opened.size
    if opened.format == "TIFF":
        # Some versions of Pillow have swapped them already.
        width, height = (int(_tag(opened, number) or 0) for number in _TIFF_SIZE)
    if orientation in _WIDTH_AND_HEIGHT_SWAPPED:
        width, height = height, width
    if min(width, height) < 1:
        raise DataError(f"{width}x{height} pixels")
    return height, width


# --- Modes ---------------------------------------------------------------------------------------


class _NoWhiteError(_RefusedError):
    """Nothing says which value of the image is white."""

    def __init__(self, what: str, found: Range) -> None:
        super().__init__(f"{what}, values from {found.low:g} to {found.high:g}")
        self.found = found


@dataclass(frozen=True)
class _Kind:
    """What an image's mode means.

    Attributes:
        grey: whether it has one channel.
        white: the value of white where Pillow does not know it; None where it does.
        inverted: whether that is the value of black, and 0 is white.
    """

    grey: bool
    white: int | None = None
    inverted: bool = False


def _kind_of(opened: Image.Image) -> _Kind:
    """What the mode of an image means, from its header.

    Raises:
        DataError: nothing says which value is white.
    """
    mode = opened.mode
    raw_mode = _raw_mode(opened)
    if _tag(opened, _TIFF_SAMPLE_FORMAT) == _SIGNED:
        if mode == "L":  # Pillow knows nothing of the sign
            raise _RefusedError("signed bytes, -128 to 127; save it with pixels from 0 to 255")
        raise _NoWhiteError(f"mode {mode}, signed", _range_of(opened))
    if mode.startswith("I;16"):
        white = 4095 if raw_mode.startswith("I;12") else 65535
        return _Kind(True, white, _tag(opened, _TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO)
    if mode == "I" and opened.format in ("PNG", "PPM"):
        return _Kind(True, 65535)  # of 16 bits, of which older versions of Pillow make this
    if mode in ("I", "F"):
        raise _NoWhiteError(f"mode {mode}", _range_of(opened))
    if mode in ("P", "PA"):
        return _Kind(_is_grey_palette(opened))
    # Pillow makes RGBA of a PNG that is grey with transparency, of 16 bits each.
    return _Kind(mode in ("1", "L", "LA", "La") or raw_mode == "LA;16B")


def _raw_mode(opened: Image.Image) -> str:
    """How the pixels lie in the file, in Pillow's words; empty where its decoder does not tell."""
    tile = getattr(opened, "tile", None)
    args = tile[0][3] if tile else ""
    found = args[0] if isinstance(args, tuple) and args else args
    return found if isinstance(found, str) else ""


def _tag(opened: Image.Image, number: int) -> Any:
    """A tag of a TIFF, its first value where it has several; None of other images."""
    found = getattr(opened, "tag_v2", {}).get(number)
    return found[0] if isinstance(found, tuple) and found else found


def _range_of(opened: Image.Image) -> Range:
    pixels = np.asarray(opened)
    whole = pixels.dtype.kind != "f" or bool((pixels == np.floor(pixels)).all())
    return Range(float(pixels.min()), float(pixels.max()), whole)


def _is_grey_palette(opened: Image.Image) -> bool:
    """Whether all colours of a palette are greys, without decoding the image."""
    from PIL import Image

    palette: Any = opened.palette
    probe = Image.new("P", (1, 1))
    probe.putpalette(bytes(palette.palette), palette.rawmode or palette.mode)
    colours = np.array(probe.getpalette()).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _is_transparent(image: Image.Image) -> bool:
    """Whether something of a decoded image is to be seen through."""
    if image.mode in ("RGBA", "LA", "PA"):
        return _lowest_of_last(image) < 255
    if "transparency" not in image.info or image.mode not in ("P", "L", "RGB"):
        return False
    return _lowest_of_last(image.convert("RGBA")) < 255


def _lowest_of_last(image: Image.Image) -> float:
    """The lowest value of an image's last channel."""
    low, _ = image.getchannel(image.getbands()[-1]).getextrema()
    return float(low)  # type: ignore[arg-type]


def _eight_bits(image: Image.Image, kind: _Kind) -> Image.Image:
    """A decoded image in mode L or RGB."""
    from PIL import Image

    if kind.white is None:
        if image.mode in ("La", "RGBa"):  # colours multiplied by their opacity
            image = image.convert(image.mode.upper())
        return image.convert("L" if kind.grey else "RGB")
    values = np.asarray(image).clip(0, kind.white).astype(np.uint32)
    if kind.inverted:
        values = kind.white - values
    # Half of white more, rounded down, is rounding.
    scaled = (values * 255 + kind.white // 2) // kind.white
    return Image.fromarray(scaled.astype(np.uint8))


def _shorter_side(image: Image.Image, size: int) -> Image.Image:
    """Scales the shorter side to ``size`` and crops the middle square."""
    height, width = scaled_size(image.height, image.width, size)
    scaled = image.resize((width, height))
    left, top = (width - size) // 2, (height - size) // 2
    return scaled.crop((left, top, left + size, top + size))
