"""compress.files: a file is whole or not there at all."""

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from compress.errors import InputError, UsageError
from compress.files import (
    atomic_path,
    is_lfs_pointer,
    read_json,
    regular_file,
    sha256_of,
    write_json,
    write_text,
)


def test_a_text_is_written_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_text(path, "fünf\n")
    assert path.read_text(encoding="utf-8") == "fünf\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["b.txt"]


def test_others_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail_in_the_middle() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("new")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail_in_the_middle()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_the_temporary_name_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "student.onnx") as temporary:
        assert temporary.suffix == ".onnx"
        assert temporary.parent == tmp_path


def test_a_folder_that_cannot_be_made_is_an_error_of_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="Cannot write"):
        write_text(tmp_path / "file" / "below.txt", "x")


def test_a_full_disk_is_told_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"a.txt: No space left on device. Make room there"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_of_another_file_is_not_blamed_on_this_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"), atomic_path(tmp_path / "a.txt"):
        (tmp_path / "none").read_text()


def test_json_goes_round(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, 2.5, None]})
    assert read_json(path) == {"a": [1, 2.5, None]}


def test_json_refuses_what_json_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot read"):
        read_json(tmp_path / "none.json")
    for content in (b"", b"{", b"\xff\xfe"):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.json is not a JSON file"):
            read_json(tmp_path / "bad.json")


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    plain, pipe, link = tmp_path / "plain", tmp_path / "pipe", tmp_path / "link"
    plain.write_bytes(b"")
    link.symlink_to(plain)
    os.mkfifo(pipe)
    assert regular_file(plain) == plain
    assert regular_file(link) == link
    for path, kind in (
        (pipe, "is a named pipe"),
        (tmp_path, "is a folder"),
        (Path("/dev/zero"), "is a character device"),
        (tmp_path / "none", "No such file"),
        (Path("a\0b"), "null"),
    ):
        for read in (regular_file, sha256_of):
            with pytest.raises(InputError, match=kind):
                read(path)


def test_a_git_lfs_pointer_is_known() -> None:
    assert is_lfs_pointer(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    assert not is_lfs_pointer(b"version 3")
