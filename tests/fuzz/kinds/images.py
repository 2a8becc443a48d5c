"""Image files, right ones and such as lie about themselves."""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from typing import Any

import numpy as np

FORMATS = ("png", "jpg", "bmp", "gif", "tif", "webp", "ppm")
MODES = ("L", "RGB", "RGBA", "P", "LA", "1", "I;16", "I", "F", "CMYK", "YCbCr")
SIZE = 10
PNG = b"\x89PNG\r\n\x1a\n"


@functools.cache
def image(form: str, mode: str = "RGB", *, size: int = SIZE, shade: int = 128) -> bytes:
    """A small image; in another mode where the format does not have the one asked for."""
    from PIL import Image

    rng = np.random.default_rng(shade)
    pixels = (shade + rng.integers(0, 40, (size, size, 3))).clip(0, 255).astype(np.uint8)
    content = io.BytesIO()
    name = {"jpg": "jpeg", "tif": "tiff"}.get(form, form)
    made = Image.fromarray(pixels)
    if mode == "I;16":
        made = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256)
    elif mode == "LA":
        made = made.convert("L").convert("LA")
    else:
        made = made.convert(mode)
    try:
        made.save(content, name)
    except (OSError, ValueError):
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, name)
    return content.getvalue()


def chunk(kind: bytes, content: bytes, *, length: int | None = None) -> bytes:
    """A chunk of a PNG file, its checksum right and its length perhaps not."""
    told = len(content) if length is None else length
    return struct.pack(">I", told) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    width: int = SIZE,
    height: int = SIZE,
    depth: int = 8,
    colour: int = 2,
    *,
    interlaced: int = 0,
    data: bytes | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A PNG file that says what it is told to say."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    packed = zlib.compress(bytes(SIZE * (SIZE * 3 + 1))) if data is None else data
    end = chunk(b"IEND", b"")
    return PNG + chunk(b"IHDR", header) + before + chunk(b"IDAT", packed) + after + end


def png_by_chance(rng: random.Random) -> bytes:
    """A PNG file of odd sizes, depths or chunks."""
    odd = (0, 1, 7, SIZE, 10**5, 2**31 - 1, 2**32 - 1)
    more = rng.choice(
        (
            b"",
            chunk(
                rng.choice((b"tRNS", b"PLTE", b"gAMA", b"iCCP", b"eXIf", b"acTL", b"pHYs")),
                rng.randbytes(rng.randrange(40)),
            ),
            chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(rng.choice((10, 10**8))))),
            chunk(b"tEXt", b"x", length=rng.choice((2**31 - 1, 2**32 - 1, 5))),
        )
    )
    return png(
        rng.choice((SIZE, SIZE, *odd)),
        rng.choice((SIZE, SIZE, *odd)),
        rng.choice((8, 8, 1, 2, 4, 16, 3, 0)),
        rng.choice((2, 2, 0, 3, 4, 6, 7)),
        interlaced=rng.choice((0, 0, 1, 2)),
        before=more,
        after=rng.choice((b"", more)),
    )


def tiff(
    tags: list[tuple[int, int, int, bytes]],
    data: bytes = bytes(SIZE * SIZE * 3),
    *,
    next_at: int | None = None,
) -> bytes:
    """A TIFF file of (tag, type, count, value) entries; ``data`` begins at byte 8."""
    at = 8 + len(data)
    entries = b"".join(
        struct.pack("<HHI", tag, kind, count) + value[:4].ljust(4, b"\0")
        for tag, kind, count, value in sorted(tags)
    )
    start = b"II*\0" + struct.pack("<I", at) + data
    tail = struct.pack("<I", at if next_at == -1 else next_at or 0)
    return start + struct.pack("<H", len(tags)) + entries + tail


def tiff_tags(**changes: Any) -> list[tuple[int, int, int, bytes]]:
    """Those of a right file, with changes: tNUMBER=(type, count, value)."""

    def short(value: int) -> tuple[int, int, bytes]:
        return 4, 1, struct.pack("<I", value)

    known: dict[int, tuple[int, int, bytes]] = {
        256: short(SIZE),
        257: short(SIZE),
        258: (3, 1, struct.pack("<H", 8)),
        259: short(1),
        262: short(1),
        273: short(8),
        277: short(1),
        278: short(SIZE),
        279: short(SIZE * SIZE),
        282: (5, 1, struct.pack("<I", 8)),
    }
    known |= {int(name[1:]): value for name, value in changes.items()}
    return [(tag, *value) for tag, value in known.items()]


def tiff_by_chance(rng: random.Random) -> bytes:
    """A TIFF file of which one or two entries are something else."""
    tags = tiff_tags()
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(tags))
        tag = rng.choice(
            (
                tags[at][0],
                tags[at][0],
                254,
                274,
                284,
                317,
                320,
                322,
                324,
                330,
                338,
                339,
                34665,
                34675,
                33432,
            )
        )
        count = rng.choice((0, 1, 1, 2, 3, 10**6, 2**31, 2**32 - 1))
        value = rng.choice((0, 1, 2, 8, 16, 32, 5, 7, 34712, 50000, 10**6, 2**32 - 1))
        tags[at] = (tag, rng.randrange(0, 19), count, struct.pack("<I", value))
    return tiff(tags, next_at=rng.choice((None, None, -1, 8, 10**9)))


def exif_oriented(value: int) -> bytes:
    """A JPEG file that says that it is turned, or says something that cannot be."""
    from PIL import Image

    content = io.BytesIO()
    exif = Image.Exif()
    exif[274] = value
    Image.new("RGB", (SIZE, SIZE + 4), (200, 30, 30)).save(content, "jpeg", exif=exif)
    return content.getvalue()


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG file whose header tells another size than it has."""
    content = bytearray(image("jpg"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def bmp_of(
    width: int, height: int, bits: int = 24, compression: int = 0, colours: int = 0
) -> bytes:
    """A BMP file that says what it is told to say."""
    head = struct.pack("<2sIHHI", b"BM", 54 + 300, 0, 0, 54)
    info = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, compression, 300, 1, 1, colours, 0
    )
    return head + info + bytes(320)


@functools.cache
def large_png(side: int) -> bytes:
    """A square of one colour: large in memory, small on the disk."""
    packer = zlib.compressobj(9)
    row = bytes(side * 3 + 1)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return png(side, side, data=data)
