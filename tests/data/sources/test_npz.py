from __future__ import annotations

import contextlib
import io
import os
import pickle
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress.data.sources import damage
from compress.data.sources.npz import read_npz
from compress.errors import DataError
from tests.data.sources.made import Arrays, save, small


def test_npz_nhwc_becomes_nchw(tmp_path: Path) -> None:
    arrays = small((9, 8, 3))
    raw = read_npz(save(tmp_path / "blobs.npz", arrays))
    assert raw.name == "blobs"
    assert raw.source == "blobs.npz"
    assert raw.train_images[:].dtype == torch.uint8
    assert raw.train_images.shape == (12, 3, 9, 8)
    assert raw.train_images[:].is_contiguous()
    assert np.array_equal(raw.train_images[:][5, 2].numpy(), arrays["x_train"][5, :, :, 2])
    assert raw.train_targets.dtype == torch.int64
    assert raw.test_targets.tolist() == [0, 1, 2, 0, 1, 2]
    assert raw.task.classes == ("0", "1", "2")
    assert raw.flip


def test_npz_grey_and_column_labels_and_names(tmp_path: Path) -> None:
    arrays = small((8, 8))
    arrays["y_train"] = arrays["y_train"].astype(np.uint8)[:, None]
    arrays["class_names"] = np.array(["a", "b", "ç"])
    raw = read_npz(save(tmp_path / "a.npz", arrays))
    assert raw.test_images.shape == (6, 1, 8, 8)
    assert raw.train_targets.tolist() == [0, 1, 2] * 4
    assert raw.task.classes == ("a", "b", "ç")
    assert not raw.flip  # digits and letters are grey, and a mirrored one is another or none


def test_npz_normalisation_is_that_of_the_training_images(tmp_path: Path) -> None:
    arrays = small()
    raw = read_npz(save(tmp_path / "a.npz", arrays))
    scaled = arrays["x_train"].astype(np.float64) / 255
    assert raw.normalization.mean == pytest.approx(scaled.mean((0, 1, 2)), abs=1e-6)
    assert raw.normalization.std == pytest.approx(scaled.std((0, 1, 2)), abs=1e-6)


def changed(key: str, value: NDArray[Any]) -> Arrays:
    return small() | {key: value}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (changed("x_train", np.zeros((12, 8, 8, 3), np.float32)), "x_train is float32.*by 255"),
        (changed("x_train", np.zeros((12, 8, 8, 3), np.int64)), "x_train is int64"),
        (changed("x_train", np.zeros((12, 3, 8, 8), np.uint8)), r"transpose\(0, 2, 3, 1\)"),
        (changed("x_train", np.zeros((12, 8, 8, 4), np.uint8)), "1 or 3 channels"),
        (changed("x_train", np.zeros((12, 192), np.uint8)), "not NHW or NHWC"),
        (changed("x_train", np.zeros((11, 8, 8, 3), np.uint8)), "11 images, y_train 12 labels"),
        (changed("x_test", np.zeros((6, 9, 8, 3), np.uint8)), "test images"),
        (changed("x_test", np.zeros((6, 4, 4, 3), np.uint8)), "8x8 or larger"),
        (changed("x_test", np.zeros((0, 8, 8, 3), np.uint8)), "x_test is empty"),
        (changed("x_test", np.zeros((1, 2, 10**7), np.uint8)), "8x8 or larger"),
        (changed("x_test", np.zeros((1, 8, 3 * 10**6), np.uint8)), "8x3000000, more than 4096x"),
        (changed("y_train", np.arange(12) % 3 + 1), "labels are 1, 2, 3; number the classes from"),
        (changed("y_train", np.arange(12) % 3 - 1), "from 0 without gaps"),
        (changed("y_train", np.arange(12) % 3 * 2), "labels are 0, 2, 4"),
        (changed("y_train", np.zeros(12, np.int64)), "only one class"),
        (changed("y_train", np.eye(3)[np.arange(12) % 3].astype(int)), r"argmax\(axis=1\)"),
        (changed("y_train", np.arange(12) % 3 / 1.0), "y_train is float64"),
        (changed("y_train", np.array(3)), "but one label per image"),
        (changed("y_test", np.array([0, 1, 2, 7, 1, 2])), "without training images: 7"),
        (changed("y_test", np.array(["a", "b", "c"] * 2)), "y_test is <U1"),
        (changed("y_test", np.array([{}] * 6)), "y_test cannot be read.*allow_pickle"),
        (changed("class_names", np.array(["a", "b"])), "not 3 strings"),
    ],
)
def test_npz_faults_are_named(tmp_path: Path, arrays: Arrays, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_npz(save(tmp_path / "a.npz", arrays))


def test_npz_tells_all_faults_at_once(tmp_path: Path) -> None:
    arrays = small() | {
        "x_train": np.zeros((12, 8, 8, 3), np.float64),
        "y_train": np.zeros(5, np.int64),
        "x_test": np.zeros((6, 5, 5, 3), np.uint8),
        "y_test": np.zeros(6, np.float32),
    }
    with pytest.raises(DataError) as caught:
        read_npz(save(tmp_path / "a.npz", arrays))
    for words in ("x_train is float64", "5 labels", "only one class", "5x5", "y_test is float32"):
        assert words in str(caught.value)


def test_npz_missing_keys_and_those_there_are_named(tmp_path: Path) -> None:
    arrays = small()
    arrays["train_images"] = arrays.pop("x_train")
    with pytest.raises(DataError, match=r"x_train missing \(it has .*train_images\).*savez"):
        read_npz(save(tmp_path / "a.npz", arrays))


def npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def damaged_files(folder: Path) -> Iterator[Path]:
    """Files that are no data set, each in its own way."""
    whole = save(folder / "whole.npz", small()).read_bytes()
    contents = {
        "empty.npz": b"",
        "text.npz": b"x_train, y_train\n1, 2\n",
        "half.npz": whole[: len(whole) // 2],
        "flipped.npz": whole[:400] + bytes(byte ^ 255 for byte in whole[400:500]) + whole[500:],
        "pickle.npz": pickle.dumps({"x_train": [1]}),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        yield folder / name
    np.save(folder / "single.npy", np.zeros(3))
    yield folder / "single.npy"
    for name, member in {
        "huge.npz": npy_header((10**9, 10**9)),
        "short.npz": npy_header((50, 8, 8, 3)) + b"abc",
        "not-npy.npz": b"hello",
    }.items():
        with zipfile.ZipFile(folder / name, "w") as archive:
            for key in ("x_train", "y_train", "x_test", "y_test"):
                archive.writestr(f"{key}.npy", member)
        yield folder / name


def test_damaged_npz_files_are_data_errors(tmp_path: Path) -> None:
    for path in damaged_files(tmp_path):
        with pytest.raises(DataError, match=path.name):
            read_npz(path)
    with pytest.raises(DataError, match=r"text\.npz is not .*: it begins with b'x_trai'"):
        read_npz(tmp_path / "text.npz")
    with pytest.raises(DataError, match=r"it is empty"):
        read_npz(tmp_path / "empty.npz")
    with pytest.raises(DataError, match=r"There is no data file .*none\.npz"):
        read_npz(tmp_path / "none.npz")
    with pytest.raises(DataError):
        read_npz(tmp_path)


def test_what_is_advised_over_a_damaged_file_makes_one_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        read_npz(tmp_path / "a.npz")
    call = str(caught.value).partition("Make it with ")[2].rstrip(".")
    arrays = small()
    for key in arrays:
        call = call.replace(f"{key}=...", f"{key}=arrays['{key}']")
    eval(call, {"numpy": np, "FILE": tmp_path / "a.npz", "arrays": arrays})
    assert read_npz(tmp_path / "a.npz").task.classes == ("0", "1", "2")


def test_npz_never_unpickles(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (marker,)

    arrays = changed("y_train", np.array([Touch()] * 12, dtype=object))
    path = save(tmp_path / "a.npz", arrays)
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Touch()))
    for file in (path, tmp_path / "b.npz"):
        with pytest.raises(DataError):
            read_npz(file)
    assert not marker.exists()


# --- Pixels and labels in other types ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i2", "i8", "u4", ">f4"])
def test_whole_numbers_of_another_type_are_the_same_images(tmp_path: Path, kind: str) -> None:
    arrays = small()
    expected = read_npz(save(tmp_path / "a.npz", arrays))
    other = {key: arrays[key].astype(kind) for key in ("x_train", "x_test")}
    raw = read_npz(save(tmp_path / "a.npz", arrays | other))
    assert torch.equal(raw.train_images[:], expected.train_images[:])
    assert torch.equal(raw.test_images[:], expected.test_images[:])


def run_advice(said: str) -> str:
    """Runs the line that is printed under a fault; the file that it writes."""
    line = said.splitlines()[-1]
    assert line.startswith("python -c ")
    words = shlex.split(line)
    subprocess.run([sys.executable, *words[1:]], check=True, timeout=60)
    return words[-1]


FLOATS = {
    "0 to 1": lambda x: x / 255,
    "-1 to 1": lambda x: x / 127.5 - 1,
    "-1 to 255": lambda x: x * (256 / 255) - 1,
    "0 to 65535": lambda x: x.astype(np.uint16) * 257,
    "-128 to 127": lambda x: (x.astype(np.int16) - 128).astype(np.int8),
    "-2.1179 to 2.64": lambda x: x * ((2.64 + 2.1179) / 255) - 2.1179,
}


@pytest.mark.parametrize("found", FLOATS)
@pytest.mark.parametrize("name", ["a.npz", 'it\'s a "set" $HOME.npz'])
def test_what_is_advised_over_a_range_makes_the_file_that_is_read(
    tmp_path: Path, found: str, name: str
) -> None:
    arrays = small()
    arrays["x_train"][0, 0, 0] = (0, 128, 255)  # the range is that of all
    expected = read_npz(save(tmp_path / "expected.npz", arrays))
    other = {key: FLOATS[found](arrays[key]) for key in ("x_train", "x_test")}
    names = {"class_names": np.array(["a", "b", "c"]), "others": np.array([{}])}
    with pytest.raises(DataError, match=f"x_train is .* from {found}, .*; x_test is") as caught:
        read_npz(save(tmp_path / name, arrays | other | names))
    raw = read_npz(Path(run_advice(str(caught.value))))
    assert raw.task.classes == ("a", "b", "c")
    assert torch.equal(raw.train_images[:], expected.train_images[:])
    assert torch.equal(raw.test_images[:], expected.test_images[:])


def test_floats_between_whole_numbers_are_rounded_by_the_advice(tmp_path: Path) -> None:
    arrays = small()
    shifted = {key: (arrays[key] * 0.99 + 0.25).astype("f4") for key in ("x_train", "x_test")}
    with pytest.raises(DataError, match=r"\(round\)") as caught:
        read_npz(save(tmp_path / "a.npz", arrays | shifted))
    raw = read_npz(Path(run_advice(str(caught.value))))
    expected = np.rint(shifted["x_test"]).transpose(0, 3, 1, 2)
    assert np.array_equal(raw.test_images[:].numpy(), expected)


def test_what_is_advised_over_several_faults_mends_them_all(tmp_path: Path) -> None:
    arrays = small()
    expected = read_npz(save(tmp_path / "expected.npz", arrays))
    faulty = arrays | {
        "x_train": (arrays["x_train"] / 255).astype("f4").transpose(0, 3, 1, 2),
        "x_test": (arrays["x_test"] / 255).astype("f4").transpose(0, 3, 1, 2),
        "y_train": np.eye(3)[arrays["y_train"]],
        "y_test": arrays["y_test"] / 1.0,
    }
    with pytest.raises(DataError) as caught:
        read_npz(save(tmp_path / "a.npz", faulty))
    said = str(caught.value)
    for words in (
        "multiply by 255",
        "transpose(0, 2, 3, 1)",
        "argmax(axis=1)",
        "y_test is float64",
    ):
        assert words in said
    raw = read_npz(Path(run_advice(said)))
    assert torch.equal(raw.train_images[:], expected.train_images[:])
    assert torch.equal(raw.train_targets, expected.train_targets)


@pytest.mark.parametrize("number", [lambda y: y + 1, lambda y: y * 10 - 5])
def test_what_is_advised_over_labels_numbers_the_classes(tmp_path: Path, number: Any) -> None:
    arrays = small()
    labels = {key: number(arrays[key]) for key in ("y_train", "y_test")}
    with pytest.raises(DataError, match="number the classes from 0") as caught:
        read_npz(save(tmp_path / "a.npz", arrays | labels))
    assert read_npz(Path(run_advice(str(caught.value)))).train_targets.tolist() == [0, 1, 2] * 4


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (changed("x_train", np.full((12, 8, 8, 3), np.nan)), "some are not finite"),
        (changed("x_train", np.full((12, 8, 8, 3), np.inf, "f2")), "some are not finite"),
        (changed("x_train", np.full((12, 8, 8, 3), -7.5)), "all are the same"),
        (changed("x_train", np.zeros((12, 8, 8, 3), complex)), "x_train is complex128"),
        (changed("x_train", np.full((12, 8, 8, 3), "a")), "x_train is <U1"),
        (changed("x_train", np.array(0.5)), r"x_train has shape \(\)"),
        (
            changed("y_train", np.zeros((12, 0), int)),
            r"\(12, 0\), but one label per image is needed",
        ),
        (changed("y_train", np.zeros((12, 1, 1), int)), r"\(12, 1, 1\), but one label per image"),
        (changed("y_train", np.full(12, 2**63, np.uint64)), "to 9223372036854775808; number"),
        (changed("y_train", np.full(12, -(2**63))), "labels from -9223372036854775808"),
        (changed("y_test", np.full(6, np.nan)), "y_test is float64"),
        (changed("x_train", np.zeros(12, "u1,f4")), "neither a number nor a text type"),
        (changed("y_train", np.zeros(12, "M8[s]")), "neither a number nor a text type"),
    ],
)
def test_strange_arrays_are_named_without_a_line_that_would_not_help(
    tmp_path: Path, arrays: Arrays, words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_npz(save(tmp_path / "a.npz", arrays))
    assert "python -c" not in str(caught.value)


# --- What the headers claim ----------------------------------------------------------------------


def with_member(folder: Path, content: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    """A data set with other bytes for x_train.npy."""
    path = save(
        folder / "a.npz", {key: value for key, value in small().items() if key != "x_train"}
    )
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr("x_train.npy", content)
    return path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy_header((10**9, 10**9)), "claims 1000000000000000000 bytes .* but 0 follow"),
        (npy_header((-1, 8, 8, 3)), r"claims the shape \(-1, 8, 8, 3\)"),
        (npy_header((12, 8, 8, 3)) + bytes(3000), "claims 2304 bytes .* but 3000 follow"),
        (npy_header((12,)).replace(b"'|u1'", b"'|O8'"), "allow_pickle"),
        (npy_header((12,)).replace(b"'|u1'", b"'oO0'"), "x_train cannot be read"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{" + b" " * 100_000, "x_train cannot be read"),
        (b"\x93NUMPY\x03\x00\x02\x00\x00\x00{}", "version"),
        (b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000, "x_train cannot be read"),
        (b"", "x_train is not an array"),
    ],
)
def test_headers_that_claim_what_is_not_there(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_npz(with_member(tmp_path, content))


def test_other_ways_of_packing_are_refused(tmp_path: Path) -> None:
    content = npy_header((12, 8, 8, 3)) + bytes(2304)
    assert read_npz(with_member(tmp_path, content, zipfile.ZIP_DEFLATED)).train_images[:].sum() == 0
    with pytest.raises(DataError, match=r"a compression method \(14\)"):
        read_npz(with_member(tmp_path, content, zipfile.ZIP_LZMA))


def test_a_bomb_is_told_from_its_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 40_000
    arrays = small() | {"x_train": np.zeros((count, 8, 8, 3), np.uint8)}
    arrays["y_train"] = np.arange(count) % 3
    np.savez_compressed(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    read_npz(tmp_path / "a.npz")  # small enough to be of one colour
    monkeypatch.setattr(damage, "FREELY_BYTES", 1_000_000)
    monkeypatch.setattr(
        "numpy.lib.format.read_array", lambda *_, **__: pytest.fail("it was unpacked")
    )
    with pytest.raises(DataError, match=r"a\.npz would unpack to 8\.00 MB from a file of"):
        read_npz(tmp_path / "a.npz")


def test_what_memory_has_no_room_for_is_told_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.npz", small())
    monkeypatch.setattr(damage, "free_bytes", lambda device: 6000)
    with pytest.raises(DataError, match=r"unpacks to 3\.60 kB.* 6\.00 kB of memory are free"):
        read_npz(path)


@pytest.mark.parametrize("place", range(0, 220, 3))
def test_a_damaged_byte_is_never_more_than_a_data_error(tmp_path: Path, place: int) -> None:
    np.savez_compressed(tmp_path / "a.npz", **small())  # type: ignore[arg-type]
    whole = (tmp_path / "a.npz").read_bytes()
    for at in (place, len(whole) - place - 1):
        for byte in (0, 255):
            damaged = whole[:at] + bytes([byte]) + whole[at + 1 :]
            (tmp_path / "a.npz").write_bytes(damaged)
            with contextlib.suppress(DataError):
                read_npz(tmp_path / "a.npz")


def test_names_that_no_file_can_keep_are_escaped(tmp_path: Path) -> None:
    arrays = changed("class_names", np.array(["a\n", "\ud800", "ç"]))
    assert read_npz(save(tmp_path / "a.npz", arrays)).task.classes == (r"a\n", r"\ud800", "ç")
    wild = np.array([2**31 - 1, 98, 99], np.uint32).view("U1")
    with pytest.raises(DataError, match=r"a\.npz cannot be read"):
        read_npz(save(tmp_path / "a.npz", changed("class_names", wild)))


def test_what_is_no_npz_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "pointer.npz").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    )
    os.mkfifo(tmp_path / "pipe.npz")
    for path, words in {
        tmp_path / "pointer.npz": r"pointer\.npz is a Git LFS pointer.*`git lfs pull`",
        tmp_path / "pipe.npz": "is a named pipe; a regular file is needed",
        Path("/dev/zero"): "/dev/zero is a character device",
        tmp_path / ("a" * 300 + ".npz"): "File name too long",
    }.items():
        with pytest.raises(DataError, match=words):
            read_npz(path)
