from __future__ import annotations

import re
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from compress.data.sources import decoding
from compress.data.sources.folders import read_folder
from compress.data.sources.pixels import Broken, Decoded, decode
from compress.errors import DataError, UsageError
from tests.data.sources.made import write_images


def refusal(folder: Path, image_size: int | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read_folder(folder, image_size=image_size)
    return str(caught.value)


def claim_size(path: Path, side: int) -> None:
    """Lets the header of a PNG say that it has side x side pixels."""
    content = path.read_bytes()
    header = struct.pack(">II", side, side) + content[24:29]
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    path.write_bytes(content[:16] + header + crc + content[33:])


def test_sixteen_bits_are_the_data_set_of_eight(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 9, 8), dtype=np.uint8)
    for index, image in enumerate(pixels):
        for folder, stored in (("8", image), ("16", image.astype(np.uint16) * 257)):
            path = tmp_path / folder / "ab"[index % 2] / f"{index:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(stored).save(path)
    eight, sixteen = read_folder(tmp_path / "8"), read_folder(tmp_path / "16")
    assert torch.equal(eight.train_images[:], sixteen.train_images[:])
    assert torch.equal(eight.test_images[:], sixteen.test_images[:])
    assert eight.normalization == sixteen.normalization


def test_turned_and_transparent_images_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, {"cat": 5, "dog": 5})
    exif = Image.Exif()
    exif[0x0112] = 6
    for index in range(3):
        Image.new("RGB", (8, 10)).save(tmp_path / f"cat/0{index}.png", exif=exif)
    Image.new("RGBA", (10, 8), (9, 8, 7, 6)).save(tmp_path / "dog/00.png")
    said: list[str] = []
    near = read_folder(tmp_path, say=said.append)
    assert near.train_images.shape[1:] == (3, 8, 10)
    assert said == [
        "3 of 10 images were rotated by their EXIF orientation.",
        "1 of 10 images have transparent pixels; their alpha channel is dropped.",
    ]
    monkeypatch.setattr(decoding, "fits", lambda size_bytes, device: False)
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "../cache"))
    far: list[str] = []
    mapped = read_folder(tmp_path, say=far.append)
    assert [far[0], far[2]] == said
    assert torch.equal(mapped.train_images[:], near.train_images[:])


def test_grey_of_every_mode_stays_grey(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 3, "dog": 3}, mode="L")
    for index, mode in enumerate(("LA", "P", "1")):
        path = tmp_path / f"cat/0{index}.png"
        Image.open(path).convert(mode).save(path)
    assert read_folder(tmp_path).train_images.shape[1] == 1


def test_what_is_larger_than_a_network_takes_is_told_from_the_headers(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 2, "dog": 2}, mode="L")
    for path in tmp_path.glob("*/*.png"):
        claim_size(path, 9000)
    assert "are 9000x9000, but at most 4096x4096" in refusal(tmp_path)
    for path in tmp_path.glob("*/*.png"):
        claim_size(path, 13000)
    said = refusal(tmp_path, image_size=32)
    assert said.startswith("4 images in")
    assert "cat/00.png (13000x13000 pixels, but at most 89.5 M are allowed" in said
    with pytest.raises(
        UsageError, match="--image-size 5000 makes images of 5000x5000, but at most 4096"
    ):
        read_folder(tmp_path, image_size=5000)


def test_a_thin_image_is_not_blown_up(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 2, "dog": 2}, mode="L")
    Image.new("L", (1_000_000, 1)).save(tmp_path / "cat/thin.png")
    said = refusal(tmp_path, image_size=32)
    assert "cat/thin.png in" in said
    assert "is 1x1000000, and would be 32x32000000" in said


def test_few_large_images_are_decoded_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, {"cat": 4, "dog": 4}, mode="L")
    workers: list[int] = []

    def counted(count: int) -> ThreadPoolExecutor:
        workers.append(count)
        return ThreadPoolExecutor(count)

    monkeypatch.setattr(decoding, "ThreadPoolExecutor", counted)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    read_folder(tmp_path)
    monkeypatch.setattr(decoding, "_DECODING_BYTES", 3 * 12 * 10 * 8)
    read_folder(tmp_path)
    assert workers == [8, 3]


def test_a_file_that_changes_while_it_is_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, {"cat": 3, "dog": 3}, mode="L")

    def late(path: Path, image_size: int | None) -> Decoded | Broken:
        if path.name == "01.png":
            Image.new("RGB", (10, 8)).save(path)
        return decode(path, image_size)

    monkeypatch.setattr(decoding, "decode", late)
    assert "cat/01.png (its content does not match its header)" in refusal(tmp_path)


def test_git_lfs_pointers_are_counted(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 5, "dog": 5})
    for index in range(3):
        (tmp_path / f"cat/0{index}.png").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
        )
    said = refusal(tmp_path)
    assert "3 of 10 images in" in said
    assert "are Git LFS pointers (cat/00.png, ...)" in said
    assert "`git lfs pull`" in said


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 255), (-3.5, 2), (0, 65535)])
def test_what_is_advised_over_floats_makes_images_that_are_read(
    tmp_path: Path, low: float, high: float
) -> None:
    pixels = np.linspace(low, high, 80).reshape(10, 8).astype("<f4")
    if high == 65535:
        pixels = pixels.round()
    stored: dict[Path, NDArray[np.float32]] = {}
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(2):
            path = tmp_path / name / f"{index}.tif"
            Image.fromarray(pixels).save(path)
            stored[path] = pixels
    said = refusal(tmp_path)
    assert "mode F, values from" in said
    assert "Nothing says which value is white" in said
    (line,) = re.findall(r"with (Image\.fromarray\(.*\))\.$", said)
    for path in stored:
        mended = eval(line, {"Image": Image, "np": np, "image": Image.open(path)})
        mended.save(path)
    images = read_folder(tmp_path).train_images[:]
    assert (int(images.min()), int(images.max())) == (0, 255)
    assert images.shape[1:] == (1, 10, 8)
