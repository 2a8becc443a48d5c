from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from compress.data.sources.folders import read_folder
from compress.errors import DataError
from tests.data.sources.made import write_images


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_a_folder_with_two_splits(tmp_path: Path, held_out: str) -> None:
    write_images(tmp_path / "train", {"cat": 3, "dog": 2})
    write_images(tmp_path / held_out, {"cat": 1, "dog": 1})
    raw = read_folder(tmp_path)
    assert raw.task.classes == ("cat", "dog")
    assert raw.train_images.shape == (5, 3, 8, 10)
    assert raw.train_targets.tolist() == [0, 0, 0, 1, 1]
    assert raw.train_images[:][:, 0, 0, 0].tolist() == [0, 1, 2, 20, 21]
    assert raw.test_targets.tolist() == [0, 1]
    assert raw.name == raw.source == tmp_path.name
    assert raw.flip


def test_with_three_splits_val_joins_the_training_images(tmp_path: Path) -> None:
    for split, count in (("train", 2), ("val", 3), ("test", 1)):
        write_images(tmp_path / split, {"cat": count, "dog": count})
    raw = read_folder(tmp_path)
    assert len(raw.train_targets) == 10
    assert len(raw.test_targets) == 2


def test_a_folder_without_splits_keeps_a_fifth_back(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 10, "dog": 15})
    first, second = read_folder(tmp_path), read_folder(tmp_path)
    assert first.test_targets.bincount().tolist() == [2, 3]
    assert first.train_targets.bincount().tolist() == [8, 12]
    assert torch.equal(first.test_images[:], second.test_images[:])
    levels = torch.cat([first.train_images[:], first.test_images[:]])[:, 0, 0, 0]
    assert sorted(levels.tolist()) == [*range(10), *range(20, 35)]


def test_grey_images_stay_grey_only_if_all_are(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 2, "dog": 2}, mode="L")
    grey = read_folder(tmp_path)
    assert grey.train_images.shape[1] == 1
    assert not grey.flip
    Image.new("RGBA", (10, 8), (9, 8, 7, 6)).save(tmp_path / "cat" / "00.png")
    raw = read_folder(tmp_path)
    pixels = torch.cat([raw.train_images[:], raw.test_images[:]])[:, :, 0, 0].tolist()
    assert sorted(pixels) == [[1, 1, 1], [9, 8, 7], [20, 20, 20], [21, 21, 21]]


def test_sizes_must_agree_unless_one_is_given(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 3, "dog": 3})
    Image.new("RGB", (40, 20)).save(tmp_path / "dog" / "big.png")
    with pytest.raises(DataError, match=r"2 sizes: 8x10 .*20x40 \(big\.png\).*--image-size"):
        read_folder(tmp_path)
    raw = read_folder(tmp_path, image_size=16)
    assert raw.train_images.shape[1:] == (3, 16, 16)


def test_unreadable_images_are_all_named(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 3, "dog": 3})
    whole = (tmp_path / "cat" / "00.png").read_bytes()
    (tmp_path / "cat" / "00.png").write_bytes(whole[:-30])
    (tmp_path / "cat" / "01.png").write_bytes(b"")
    (tmp_path / "dog" / "02.png").write_text("no image")
    with pytest.raises(DataError) as caught:
        read_folder(tmp_path)
    message = str(caught.value)
    assert message.startswith("3 images in")
    for name in ("cat/00.png", "cat/01.png", "dog/02.png"):
        assert name in message


def test_folders_that_are_no_data_sets(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        read_folder(tmp_path / "none")
    with pytest.raises(DataError, match="0 class folders"):
        read_folder(tmp_path)
    (tmp_path / "a").mkdir()
    write_images(tmp_path, {"b": 2})
    Image.new("RGB", (8, 8)).save(tmp_path / "loose.png")
    with pytest.raises(DataError, match=r"loose\.png.*a/ holds no images"):
        read_folder(tmp_path)


def test_a_folder_that_may_not_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, {"cat": 2, "dog": 2})
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(DataError, match="cannot be read: permission denied"):
        read_folder(tmp_path)


def test_one_image_cannot_be_split(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 1, "dog": 3})
    with pytest.raises(DataError, match="cat holds only one image"):
        read_folder(tmp_path)


def test_splits_must_have_the_same_classes(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"cat": 2, "dog": 2})
    with pytest.raises(DataError, match="neither val/ nor test/"):
        read_folder(tmp_path)
    write_images(tmp_path / "val", {"cat": 2, "wolf": 2})
    with pytest.raises(DataError, match="different classes: dog, wolf"):
        read_folder(tmp_path)
