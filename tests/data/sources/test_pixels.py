from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from compress.data.sources.pixels import LARGEST_PIXELS, Broken, Decoded, Look, decode, look

# Where many images are read, all that Pillow warns of is ignored.
pytestmark = pytest.mark.filterwarnings("ignore")

GREY = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
COLOUR = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
SIXTEEN = GREY.astype(np.uint16) * 257
BEST: dict[str, dict[str, Any]] = {".webp": {"lossless": True}, ".jpg": {"quality": 100}}
L, RGB = Image.fromarray(GREY), Image.fromarray(COLOUR)

# Older ones write half of such a file.
WRITES_YCBCR = pytest.mark.skipif(
    int(PIL.__version__.partition(".")[0]) < 13, reason="Pillow writes no TIFF in YCbCr"
)


def tiff(bits: int, photometric: int, pixels: bytes, sample_format: int = 1) -> bytes:
    """An uncompressed grey TIFF of 12 rows of 20 pixels."""
    tags = [
        (256, 4, 20),
        (257, 4, 12),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, 12),
        (279, 4, len(pixels)),
        (339, 3, sample_format),
    ]
    directory = struct.pack("<H", len(tags))
    for number, kind, value in tags:
        directory += struct.pack("<HHI", number, kind, 1)
        directory += struct.pack("<HH", value, 0) if kind == 3 else struct.pack("<I", value)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory + bytes(4)


def png(colour: int, bits: int, pixels: NDArray[Any], behind: tuple[bytes, bytes] | None) -> bytes:
    """A PNG from its rows, with a chunk behind its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + (chunk(*behind) if behind else b"")
        + chunk(b"IEND", b"")
    )


def twelve_bits(values: NDArray[Any]) -> bytes:
    packed = bytearray()
    for row in values.tolist():
        for first, second in zip(row[::2], row[1::2], strict=True):
            packed += bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    return bytes(packed)


def lab() -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    made = ImageCms.profileToProfile(RGB, *profiles, outputMode="LAB")
    if made is None:
        raise ValueError("no image")
    return made


def decoded(path: Path) -> Decoded:
    """The pixels, whose shape is the one that the header told."""
    found, told = decode(path, None), look(path)
    assert isinstance(found, Decoded), found
    assert isinstance(told, Look), told
    assert found.pixels.shape[:2] == (told.height, told.width)
    assert (found.pixels.ndim == 2) == told.grey
    return found


@pytest.mark.parametrize(
    ("name", "image", "options"),
    [
        ("l.png", L, {}),
        ("la.png", L.convert("LA"), {}),
        ("p.png", L.convert("P"), {}),
        ("l.gif", L, {}),
        ("l.bmp", L, {}),
        ("p.tif", L.convert("P"), {}),
        ("pa.tif", L.convert("PA"), {}),
        ("i16.png", Image.fromarray(SIXTEEN), {}),
        ("i16.tif", Image.fromarray(SIXTEEN), {}),
        ("i16-lzw.tif", Image.fromarray(SIXTEEN), {"compression": "tiff_lzw"}),
        ("i16b.tif", Image.fromarray(SIXTEEN.astype(">u2")), {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_grey_images_of_every_mode_are_the_same_one(
    tmp_path: Path, name: str, image: Image.Image, options: dict[str, Any]
) -> None:
    image.save(tmp_path / name, **options)
    assert np.array_equal(decoded(tmp_path / name).pixels, GREY)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("16-bit white is zero.tif", tiff(16, 0, (65535 - SIXTEEN).astype("<u2").tobytes())),
        ("16-bit.pgm", b"P5 20 12 65535\n" + SIXTEEN.astype(">u2").tobytes()),
        ("12-bit.tif", tiff(12, 1, twelve_bits(np.round(GREY / 255 * 4095).astype(int)))),
        (
            "16-bit with alpha.png",
            png(4, 16, np.stack([SIXTEEN, SIXTEEN // 2], -1).astype(">u2"), None),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_grey_files_that_pillow_cannot_write_are_the_same_image(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    assert np.array_equal(decoded(tmp_path / name).pixels, GREY)


def test_sixteen_bits_are_rounded_to_eight(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / "a.png")
    expected = np.round(values.astype(np.float64) * 255 / 65535)
    assert np.array_equal(decoded(tmp_path / "a.png").pixels, expected)


@pytest.mark.parametrize(
    ("name", "image", "near"),
    [
        ("rgb.png", RGB, 0),
        ("rgba.png", RGB.convert("RGBA"), 0),
        ("cmyk.tif", RGB.convert("CMYK"), 0),
        pytest.param("ycc.tif", RGB.convert("YCbCr"), 3, marks=WRITES_YCBCR),
        ("lab.tif", lab(), 40),  # of which some colours cannot be kept
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_colours_of_every_mode_are_the_same_image(
    tmp_path: Path, name: str, image: Image.Image, near: int
) -> None:
    image.save(tmp_path / name)
    pixels = decoded(tmp_path / name).pixels.astype(int)
    assert np.abs(pixels - COLOUR).max() <= near
    RGB.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.gif")
    assert decoded(tmp_path / "p.gif").pixels.shape == (12, 20, 3)


def test_bilevel_images_are_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(GREY > 100).save(tmp_path / "1.png")
    assert np.array_equal(decoded(tmp_path / "1.png").pixels, np.where(GREY > 100, 255, 0))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("f.tif", tiff(32, 1, (GREY / 255).astype("<f4").tobytes(), 3), "mode F, values from 0 to"),
        ("i.tif", tiff(32, 1, SIXTEEN.astype("<u4").tobytes()), "mode I, values from 0 to 61423"),
        ("s16.tif", tiff(16, 1, (SIXTEEN // 2).tobytes(), 2), "mode I, signed, values from 0"),
        ("s8.tif", tiff(8, 1, GREY.tobytes(), 2), "signed bytes, -128 to 127"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mode_whose_white_nothing_says_is_refused(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    for found in (look(tmp_path / name), decode(tmp_path / name, None)):
        assert isinstance(found, Broken)
        assert f"/{name} ({words}" in found.reason


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_images_are_turned_upright(tmp_path: Path, suffix: str) -> None:
    stored = GREY if suffix == ".jpg" else COLOUR
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(stored),
        9: stored,  # there is none such
    }
    for number, expected in upright.items():
        exif = Image.Exif()
        exif[0x0112] = number
        path = tmp_path / f"{number}{suffix}"
        Image.fromarray(stored).save(path, exif=exif, **BEST.get(suffix, {}))
        pixels = decoded(path).pixels
        assert pixels.shape == expected.shape
        assert np.abs(pixels.astype(int) - expected).max() <= (8 if suffix == ".jpg" else 0)
        told = look(path)
        assert isinstance(told, Look)
        assert told.turned == (2 <= number <= 8)


def test_an_orientation_behind_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    behind = (b"eXIf", exif.tobytes()[len(b"Exif\0\0") :])
    (tmp_path / "a.png").write_bytes(png(0, 8, GREY, behind))
    assert np.array_equal(decoded(tmp_path / "a.png").pixels, np.rot90(GREY, -1))


def test_an_exif_block_that_cannot_be_read_turns_nothing(tmp_path: Path) -> None:
    L.save(tmp_path / "a.jpg", quality=100, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    assert decoded(tmp_path / "a.jpg").pixels.shape == GREY.shape


def test_transparency_is_dropped_and_told(tmp_path: Path) -> None:
    alpha = np.full(GREY.shape, 255, np.uint8)
    for name, level, expected in (("opaque.png", 255, False), ("one.png", 254, True)):
        alpha[0, 0] = level
        Image.fromarray(np.dstack([COLOUR, alpha])).save(tmp_path / name)
        found = decoded(tmp_path / name)
        assert np.array_equal(found.pixels, COLOUR)
        assert found.transparent is expected
    L.convert("P").save(tmp_path / "p.png", transparency=3)
    L.save(tmp_path / "l.png", transparency=3)
    L.save(tmp_path / "none.png", transparency=255)
    for name, expected in (("p.png", True), ("l.png", True), ("none.png", False)):
        found = decoded(tmp_path / name)
        assert np.array_equal(found.pixels, GREY)
        assert found.transparent is expected


def test_the_content_says_what_an_image_is(tmp_path: Path) -> None:
    L.save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    for name in ("a", "a.txt", "a.JFIF"):
        (tmp_path / name).write_bytes(whole)
        assert isinstance(look(tmp_path / name), Look)
    for name, content in {
        "notes.txt": b"P3 is a car",
        "b": b"BMW is one, too",
        "c.xml": b"",
        "page.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "pointer.bin": b"version https://git-lfs.github.com/spec/v1\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert look(tmp_path / name) is None
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    assert look(tmp_path / "broken") is None


@pytest.mark.parametrize("name", ["a.png", "a"])
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)  # to open it would wait for ever
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "link.png").symlink_to(tmp_path / "nothing")
    for path, words in ((name, "a named pipe"), ("zero", "a character device")):
        found = look(tmp_path / path)
        assert isinstance(found, Broken)
        assert words in found.reason
    found = look(tmp_path / "link.png")
    assert isinstance(found, Broken)
    assert "a broken link" in found.reason


@pytest.mark.parametrize("side", [9460, 13000, 15000])
def test_too_many_pixels_are_told_from_the_header(tmp_path: Path, side: int) -> None:
    assert side**2 > LARGEST_PIXELS
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    small = png(0, 8, GREY, None)
    content = small[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + small[33:]
    for name in ("a.png", "a.dat"):
        (tmp_path / name).write_bytes(content)
        for found in (look(tmp_path / name), decode(tmp_path / name, 32)):
            assert isinstance(found, Broken)
            assert "89.5 M" in found.reason


@pytest.mark.parametrize("kind", [5, 10, 2, 12])
def test_a_tiff_whose_numbers_are_of_another_kind_is_damaged(tmp_path: Path, kind: int) -> None:
    whole = tiff(8, 1, GREY.tobytes())
    offset = struct.pack("<HHI", 273, 4, 1)  # where the pixels lie
    (tmp_path / "a.tif").write_bytes(whole.replace(offset, struct.pack("<HHI", 273, kind, 1)))
    found = decode(tmp_path / "a.tif", None)
    assert isinstance(found, Broken)
    assert "cannot be interpreted as an integer" in found.reason


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, struct.error, MemoryError])
def test_whatever_pillow_raises_is_damage(
    tmp_path: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    L.save(tmp_path / "a.png")

    def fail(*_: object, **__: object) -> None:
        raise error("inside of Pillow")

    monkeypatch.setattr("PIL.Image.open", fail)
    found = look(tmp_path / "a.png")
    assert isinstance(found, Broken)
    assert "inside of Pillow" in found.reason
