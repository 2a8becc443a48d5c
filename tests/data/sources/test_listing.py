from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from compress.data.sources.folders import read_folder
from compress.data.sources.listing import SPLITS
from compress.errors import DataError
from tests.data.sources.made import write_images

CLASSES = {"cat": 5, "dog": 5}


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_folder(folder)
    return str(caught.value)


# --- Splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", ["train", "Training", "TRAIN"])
@pytest.mark.parametrize("held_out", ["val", "valid", "Validation", "test", "Testing"])
def test_splits_are_known_by_all_their_names(tmp_path: Path, train: str, held_out: str) -> None:
    write_images(tmp_path / train, {"cat": 3, "dog": 2})
    write_images(tmp_path / held_out, {"cat": 1, "dog": 1})
    raw = read_folder(tmp_path)
    assert raw.task.classes == ("cat", "dog")
    assert (len(raw.train_targets), len(raw.test_targets)) == (5, 2)


@pytest.mark.parametrize("val", [name for name, split in SPLITS.items() if split == "val"])
def test_with_three_splits_validation_images_join_the_training_images(
    tmp_path: Path, val: str
) -> None:
    for split, count in (("Train", 2), (val, 3), ("Test", 1)):
        write_images(tmp_path / split, {"cat": count, "dog": count})
    raw = read_folder(tmp_path)
    assert (len(raw.train_targets), len(raw.test_targets)) == (10, 2)


def test_two_names_of_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("train", "Training", "val"):
        write_images(tmp_path / name, CLASSES)
    assert "holds Training/ and train/, which name the same split" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["test", "Valid"])
def test_a_split_without_training_images_is_no_class(tmp_path: Path, name: str) -> None:
    write_images(tmp_path / name, CLASSES)
    assert f"has {name}/ but no train/" in refusal(tmp_path)
    write_images(tmp_path, CLASSES)
    assert f"If {name}/ is a class like cat/, give the folder another name" in refusal(tmp_path)
    (tmp_path / name).rename(tmp_path / "another name")
    assert read_folder(tmp_path).task.classes == ("another name", "cat", "dog")


def test_what_is_advised_over_training_images_alone_is_read(tmp_path: Path) -> None:
    write_images(tmp_path / "Train", CLASSES)
    said = refusal(tmp_path)
    assert "has Train/ but neither val/ nor test/" in said
    assert f"give {tmp_path / 'Train'} itself; a fifth then becomes the test" in said
    raw = read_folder(tmp_path / "Train")
    assert (len(raw.train_targets), len(raw.test_targets)) == (8, 2)


def test_splits_inside_of_classes_are_refused(tmp_path: Path) -> None:
    for name in CLASSES:
        write_images(tmp_path / name, {"train": 3, "Val": 2})
    said = refusal(tmp_path)
    assert "2 of its class folders hold splits (cat/Val/, cat/train/, ...)" in said
    # What is advised is read.
    for split in ("train", "Val"):
        for name in CLASSES:
            (tmp_path / split).mkdir(exist_ok=True)
            (tmp_path / name / split).rename(tmp_path / split / name)
    for name in CLASSES:
        (tmp_path / name).rmdir()
    assert len(read_folder(tmp_path).train_targets) == 6


def test_folders_that_all_hold_the_same_folders_are_refused(tmp_path: Path) -> None:
    for name in ("fold1", "fold2"):
        write_images(tmp_path / name, CLASSES)
    said = refusal(tmp_path)
    assert "all its folders hold the same folders (cat/, dog/)" in said
    # Either advice makes a data set.
    assert "If cat/, dog/ are, call fold1/ and the others train/, val/ and test/" in said
    (tmp_path / "fold1").rename(tmp_path / "train")
    (tmp_path / "fold2").rename(tmp_path / "val")
    assert read_folder(tmp_path).task.classes == ("cat", "dog")
    (tmp_path / "train").rename(tmp_path / "fold1")
    (tmp_path / "val").rename(tmp_path / "fold2")
    assert "if fold1/ is one, move the images straight into it" in said
    for image in list(tmp_path.glob("*/*/*.png")):
        image.rename(image.parent.parent / f"{image.parent.name} {image.name}")
    for folder in ("fold1/cat", "fold1/dog", "fold2/cat", "fold2/dog"):
        (tmp_path / folder).rmdir()
    assert read_folder(tmp_path).task.classes == ("fold1", "fold2")


def test_folders_below_a_class_belong_to_it(tmp_path: Path) -> None:
    for name in CLASSES:  # as Tiny ImageNet has them
        write_images(tmp_path / "one" / name, {"images": 4})
        write_images(tmp_path / "other" / name, {f"of {name}": 2, "all": 2})
    for folder in ("one", "other"):
        raw = read_folder(tmp_path / folder)
        assert raw.task.classes == ("cat", "dog")
        assert len(raw.train_targets) + len(raw.test_targets) == 8


def test_what_lies_beside_splits_is_told(tmp_path: Path) -> None:
    for name in ("train", "val"):
        write_images(tmp_path / name, CLASSES)
    (tmp_path / "labels.csv").write_text("")
    (tmp_path / "unlabelled").mkdir()
    said: list[str] = []
    read_folder(tmp_path, say=said.append)
    assert said == ["Left out beside train/ and val/: unlabelled/ and 1 files."]


# --- Which files count ---------------------------------------------------------------------------


def test_litter_and_hidden_files_are_no_images(tmp_path: Path) -> None:
    write_images(tmp_path, CLASSES)
    image = tmp_path / "cat/00.png"
    for litter in (
        "__MACOSX/cat/._00.png",
        "@eaDir/00.png",
        ".git/a.png",
        "cat/.ipynb_checkpoints/00-checkpoint.png",
        "cat/@eaDir/00.png/SYNOPHOTO.jpg",
        "cat/._00.png",
        "dog/.hidden.png",
        "dog/Thumbs.db",
        ".DS_Store",
    ):
        (tmp_path / litter).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, tmp_path / litter)
    said: list[str] = []
    raw = read_folder(tmp_path, say=said.append)
    assert raw.task.classes == ("cat", "dog")
    assert len(raw.train_targets) + len(raw.test_targets) == 10
    assert said == [f"Left out of {tmp_path.name}, because they are not images: 2 hidden."]


def test_files_that_are_no_images_are_counted_by_suffix(tmp_path: Path) -> None:
    write_images(tmp_path, CLASSES)
    for name in ("cat/a.txt", "dog/b.TXT", "dog/c.xml", "dog/readme", "labels.csv"):
        (tmp_path / name).write_text("no image")
    Image.new("RGB", (10, 8)).save(tmp_path / "cat/05.jfif", "jpeg")
    Image.new("RGB", (10, 8)).save(tmp_path / "cat/06", "png")
    said: list[str] = []
    raw = read_folder(tmp_path, say=said.append)
    assert len(raw.train_targets) + len(raw.test_targets) == 12
    (told,) = said
    assert told.startswith(f"Left out of {tmp_path.name}, because they are not images: 2 .txt, ")
    for part in ("1 .xml", "1 .csv", "1 without a suffix"):
        assert part in told


def test_links_are_followed(tmp_path: Path) -> None:
    write_images(tmp_path / "store", CLASSES)
    folder = tmp_path / "set"
    (folder / "dog").mkdir(parents=True)
    (folder / "cat").symlink_to(tmp_path / "store/cat")
    (folder / "dog/all").symlink_to(tmp_path / "store/dog")
    (folder / "dog/again").symlink_to(tmp_path / "store/dog")  # and read once
    (folder / "dog/one.png").symlink_to(tmp_path / "store/dog/00.png")
    raw = read_folder(folder)
    assert torch.cat([raw.train_targets, raw.test_targets]).bincount().tolist() == [5, 6]


@pytest.mark.parametrize("target", ["..", ".", "../..", "/"])
def test_a_link_to_a_folder_that_it_lies_in_is_refused(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "set"
    write_images(folder, CLASSES)
    (folder / "cat/loop").symlink_to(target)
    assert "cat/loop/ is a link to a folder that contains it" in refusal(folder)
    (folder / "cat/loop").unlink()
    (folder / "bird").symlink_to(folder)
    assert "bird/ is a link to a folder that contains it" in refusal(folder)


def test_a_folder_belongs_to_one_class_and_one_split(tmp_path: Path) -> None:
    write_images(tmp_path / "a", CLASSES)
    (tmp_path / "a/wolf").symlink_to(tmp_path / "a/dog")
    assert "wolf/ and a folder in dog/ are the same folder" in refusal(tmp_path / "a")
    write_images(tmp_path / "b/train", CLASSES)
    (tmp_path / "b/val").symlink_to("train")
    assert "val/cat/ and a folder in train/cat/ are the same folder" in refusal(tmp_path / "b")


def test_what_is_no_regular_file_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, CLASSES)
    os.mkfifo(tmp_path / "cat/pipe")
    (tmp_path / "dog/zero.png").symlink_to("/dev/zero")
    said = refusal(tmp_path)
    assert said.startswith("2 images in")
    assert "cat/pipe (a named pipe)" in said
    assert "dog/zero.png (a character device)" in said


# --- Names ---------------------------------------------------------------------------------------


def test_names_that_are_not_utf8_are_kept_readable(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"n\xe4mes")
    try:
        write_images(folder, {os.fsdecode(b"caf\xe9"): 5, "dog": 5})
    except OSError as error:
        pytest.skip(f"no such names here: {error}")
    raw = read_folder(folder)
    assert raw.task.classes == (r"caf\xe9", "dog")
    assert raw.name == raw.source == r"n\xe4mes"
    json.dumps([raw.name, *raw.task.classes], ensure_ascii=False).encode()
    write_images(folder, {r"caf\xe9": 2})
    said = refusal(folder)
    said.encode()
    assert r"2 class folders have the same name apart from case, caf\xe9; rename one" in said
