from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compress.data import dataset
from compress.data.augment import Augmenter
from compress.data.dataset import Split, load_dataset, to_device
from compress.data.images import StreamedImages, ahead, part_length
from compress.data.sources import decoding
from compress.errors import DataError, UsageError
from compress.files import try_lock

IMAGES = torch.arange(10 * 3 * 8 * 9).remainder(251).to(torch.uint8).reshape(10, 3, 8, 9)
CPU = torch.device("cpu")


def test_streamed_images_read_like_a_tensor() -> None:
    streamed = StreamedImages(IMAGES)
    index = torch.tensor([7, 0, 7])
    assert (streamed.shape, len(streamed), streamed.device) == (IMAGES.shape, 10, CPU)
    assert torch.equal(streamed[index], IMAGES[index])
    assert torch.equal(streamed[2:5], IMAGES[2:5])
    assert torch.equal(streamed[:], IMAGES)
    assert [len(part) for part in streamed.split(4)] == [4, 4, 2]
    assert torch.equal(torch.cat(list(streamed.split(4))), IMAGES)
    some = streamed.take(torch.tensor([9, 3, 5]))
    assert torch.equal(some[:], IMAGES[[9, 3, 5]])
    assert torch.equal(some[torch.tensor([2, 0])], IMAGES[[5, 9]])
    assert torch.equal(some.take(torch.tensor([1]))[:], IMAGES[[3]])
    assert torch.equal(some.to(CPU)[1:], IMAGES[[3, 5]])
    taken = Split(streamed, torch.arange(10)).take(torch.tensor([4, 1]))
    assert isinstance(taken.images, StreamedImages)
    assert torch.equal(taken.images[:], IMAGES[[4, 1]])
    assert taken.targets.tolist() == [4, 1]


def test_large_images_are_gone_through_a_few_at_once() -> None:
    assert part_length(torch.empty(1, 3, 32, 32)) == 4096
    assert part_length(torch.empty(1, 3, 1024, 1024)) == 21
    assert part_length(torch.empty(1, 3, 4096, 8192, device="meta")) == 1
    assert part_length(torch.empty(5)) == 4096


def test_views_of_streamed_images_are_those_of_the_images() -> None:
    near, far = (Augmenter(each, seed=3, flip=True) for each in (IMAGES, StreamedImages(IMAGES)))
    assert (near.streams, far.streams) == (False, True)
    for view in (0, 1, 2):
        index = torch.tensor([3, 9, 0])
        assert torch.equal(near(index, view), far(index, view))


def test_what_comes_next_is_made_ahead() -> None:
    made: list[int] = []
    second = threading.Event()

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    found = ahead(items())
    assert next(found) == 0
    assert second.wait(20)  # while the first one is worked on
    assert [*found] == [1, 2, 3, 4]
    assert made == [0, 1, 2, 3, 4]


def test_a_failure_ahead_comes_where_its_item_would_have() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise DataError("damaged")

    found = ahead(items())
    assert next(found) == 0
    with pytest.raises(DataError, match="damaged"):
        next(found)


# --- Folders that memory has no room for ----------------------------------------------------------


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Lets memory have no room for anything; the cache."""
    for module in (decoding, dataset):
        monkeypatch.setattr(module, "fits", lambda size_bytes, device: False)
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/decoded"


def write(
    folder: Path, *, grey: bool = False, sizes: tuple[tuple[int, int], ...] = ((9, 8),)
) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            width, height = sizes[number % len(sizes)]
            shape = (height, width) if grey else (height, width, 3)
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.mark.parametrize("kind", ["colour", "grey", "both", "scaled"])
def test_a_folder_is_the_same_data_set_in_a_file(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    folder = tmp_path / "images"
    sizes = ((9, 8), (30, 20)) if kind == "scaled" else ((9, 8),)
    write(folder, grey=kind in ("grey", "both"), sizes=sizes)
    if kind == "both":
        Image.new("RGB", (9, 8), (1, 2, 3)).save(folder / "cat/0.png")
    size = 8 if kind == "scaled" else None
    near = load_dataset(str(folder), image_size=size, validation=4)
    cache = request.getfixturevalue("no_room")
    said: list[str] = []
    far = load_dataset(str(folder), image_size=size, validation=4, say=said.append)
    (file,) = cache.glob("*/*.npy")
    assert "20 images of images take" in said[0]
    assert str(file) in said[0]
    assert far == replace(near, train=far.train, validation=far.validation, test=far.test)
    for mine, other in (
        (far.train, near.train),
        (far.validation, near.validation),
        (far.test, near.test),
    ):
        assert isinstance(mine.images, StreamedImages)
        assert torch.equal(mine.images[:], other.images[:])
        assert torch.equal(mine.targets, other.targets)
    assert isinstance(to_device(far, CPU).train.images, StreamedImages)
    before = file.stat().st_mtime_ns
    again = load_dataset(str(folder), image_size=size, validation=4, say=said.append)
    assert again.sha256 == near.sha256
    assert file.stat().st_mtime_ns == before
    assert len(said) == 1


def test_another_image_makes_another_file(tmp_path: Path, no_room: Path) -> None:
    write(tmp_path / "images")
    first = load_dataset(str(tmp_path / "images"), validation=4)
    Image.new("RGB", (9, 8), (1, 2, 3)).save(tmp_path / "images/cat/0.png")
    assert load_dataset(str(tmp_path / "images"), validation=4).sha256 != first.sha256
    assert len(list(no_room.glob("*/*.npy"))) == 2


def test_what_is_wrong_with_a_large_folder_is_told(
    tmp_path: Path, no_room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images"
    write(folder, sizes=((9, 8), (10, 12)))
    with pytest.raises(DataError, match=r"2 sizes: 8x9 .*12x10 .*Give --image-size"):
        load_dataset(str(folder))
    (folder / "cat/3.png").write_text("no image")
    (folder / "dog/4.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 images in .*cat/3.png.*dog/4.png"):
        load_dataset(str(folder))
    whole = (folder / "cat/2.png").read_bytes()
    for name in ("cat/3.png", "dog/4.png"):
        (folder / name).write_bytes(whole)
    (folder / "cat/2.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"An image in .* cannot be read: cat/2.png"):
        load_dataset(str(folder), image_size=8)
    assert not list(no_room.glob("*/*.npy"))
    with pytest.raises(DataError, match="4x4, but at least 8x8"):
        load_dataset(str(folder), image_size=4)


def test_what_a_killed_process_left_is_removed_and_another_at_work_is_waited_for(
    tmp_path: Path, no_room: Path
) -> None:
    folder = tmp_path / "images"
    write(folder)
    load_dataset(str(folder), validation=4)
    (file,) = no_room.glob("*/*.npy")
    file.rename(file.with_name(".images.npy.abcdefgh.npy"))
    said: list[str] = []
    with ThreadPoolExecutor(1) as other:
        with try_lock(file.parent):
            loaded = other.submit(load_dataset, str(folder), validation=4, say=said.append)
            while not said and not loaded.done():
                time.sleep(0.01)
            assert not loaded.done()
        loaded.result(timeout=60)
    assert "Another process decodes the images" in said[0]
    assert said[0].endswith("waiting for it.")
    assert list(no_room.glob("*/*.npy")) == [file]
    # What is there whole is read, whoever is at the folder.
    with try_lock(file.parent):
        load_dataset(str(folder), validation=4)


def test_a_file_that_is_larger_than_memory_is_mapped(tmp_path: Path) -> None:
    image_bytes = 3 * 1024 * 1024
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    shape = (8 * memory_bytes // image_bytes, 1024, 1024, 3)
    path = tmp_path / "images.npy"
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        try:
            file.truncate(file.tell() + shape[0] * image_bytes)  # holes, which take no room
        except OSError as error:
            pytest.skip(f"no such files here: {error}")
    images = StreamedImages(decoding.mapped(path))
    assert images.shape == (shape[0], 3, 1024, 1024)
    assert not images[torch.tensor([shape[0] - 1])].any()


def test_a_cache_that_cannot_be_written_to_is_told(tmp_path: Path, no_room: Path) -> None:
    write(tmp_path / "images")
    no_room.parent.mkdir(parents=True)
    no_room.write_text("in the way")
    with pytest.raises(UsageError, match="Cannot write"):
        load_dataset(str(tmp_path / "images"))


def test_a_disk_without_room_is_told_beforehand(
    tmp_path: Path, no_room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "images")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=4000))
    with pytest.raises(DataError, match=r"has 4.00 kB free.* need 4.32 kB.*smaller --image-size"):
        load_dataset(str(tmp_path / "images"))
