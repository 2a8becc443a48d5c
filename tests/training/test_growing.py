"""compress.training.growing: whole in the end, whoever was killed on the way."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from compress.errors import UsageError
from compress.training.growing import GrowingArray

VALUES = np.random.default_rng(0).normal(size=(50, 3, 2)).astype(np.float16)


def grow(path: Path, rows: int, dtype: npt.DTypeLike = np.float16) -> GrowingArray:
    """An array that goes on behind so many rows."""
    array = GrowingArray(path, len(VALUES), dtype)
    array.begin(rows)
    return array


def written(path: Path) -> npt.NDArray[Any]:
    """The whole array; nothing else is in its folder."""
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    found: npt.NDArray[Any] = np.load(path)
    return found


def test_rows_become_a_file(tmp_path: Path) -> None:
    path = tmp_path / "values.npy"
    with grow(path, 0) as array:
        for part in np.split(VALUES, [10, 11, 40]):
            assert not path.exists()
            array.append(part.astype(np.float32))
            array.save()
        assert array.finish() == hashlib.sha256(path.read_bytes()).hexdigest()
    found = written(path)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, VALUES)


@pytest.mark.parametrize("rows", [0, 1, 20, 25])
def test_it_goes_on_behind_any_of_its_rows(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "values.npy"
    with grow(path, 0, np.float32) as array:
        array.append(VALUES[:25])
    there = GrowingArray(path, len(VALUES), np.float16)
    assert there.rows == 25
    assert there.dtype == np.dtype(np.float32)
    with there:
        there.begin(rows)
        assert GrowingArray(path, len(VALUES), np.float16).rows == rows
        there.append(VALUES[rows:])
        there.finish()
    np.testing.assert_array_equal(written(path), VALUES)


def save_and_die(path: Path, saved: int) -> None:
    """Writes all rows, one by one, and is killed before they are in their place."""
    array = grow(path, 0)
    for number, row in enumerate(VALUES, start=1):
        array.append(row[None])
        if number == saved:
            array.save()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("saved", [0, 1, 30, 50])
def test_what_was_saved_outlives_a_kill(tmp_path: Path, saved: int) -> None:
    path = tmp_path / "values.npy"
    process = multiprocessing.get_context("spawn").Process(target=save_and_die, args=(path, saved))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    there = GrowingArray(path, len(VALUES), np.float16)
    assert there.rows == saved
    with there:
        there.begin(saved)
        there.append(VALUES[saved:])
        there.finish()
    np.testing.assert_array_equal(written(path), VALUES)


@pytest.mark.parametrize("damage", ["a bit", "the end", "no rows", "no note", "half a note"])
def test_what_is_damaged_is_not_there(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "values.npy"
    with grow(path, 0) as array:
        array.append(VALUES[:25])
    part, note = tmp_path / "values.npy.part", tmp_path / "values.npy.part.json"
    content = bytearray(part.read_bytes())
    if damage == "a bit":
        content[-5] ^= 64
        part.write_bytes(content)
    elif damage == "the end":
        part.write_bytes(content[:-1])
    elif damage == "no rows":
        part.unlink()
    elif damage == "no note":
        note.unlink()
    else:
        note.write_text('{"rows": 2')
    assert GrowingArray(path, len(VALUES), np.float16).rows == 0


def test_an_array_of_another_length_is_not_there(tmp_path: Path) -> None:
    with grow(tmp_path / "values.npy", 0) as array:
        array.append(VALUES[:25])
    assert GrowingArray(tmp_path / "values.npy", len(VALUES) + 1, np.float16).rows == 0


def test_what_is_not_whole_is_not_put_in_its_place(tmp_path: Path) -> None:
    with grow(tmp_path / "values.npy", 0) as array:
        array.append(VALUES[:25])
        with pytest.raises(ValueError, match="25 of 50"):
            array.finish()
    assert not (tmp_path / "values.npy").exists()


def test_what_is_discarded_is_gone(tmp_path: Path) -> None:
    with grow(tmp_path / "values.npy", 0) as array:
        array.append(VALUES[:25])
        array.save()
        array.discard()
    assert not list(tmp_path.iterdir())


def grow_on_a_full_disk(path: Path, said: Any) -> None:
    """Saves 10 rows, and writes on until the file may not grow any more."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
    try:
        with grow(path, 0) as array:
            array.append(VALUES[:10])
            array.save()
            for row in VALUES[10:]:
                array.append(row[None])
            array.finish()
    except UsageError as error:
        said.put(str(error))


def test_a_full_disk_leaves_what_was_saved(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    context = multiprocessing.get_context("spawn")
    said, path = context.Queue(), tmp_path / "values.npy"
    process = context.Process(target=grow_on_a_full_disk, args=(path, said))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert "Cannot write" in said.get(timeout=10)
    assert GrowingArray(path, len(VALUES), np.float16).rows == 10
