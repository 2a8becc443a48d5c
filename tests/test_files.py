"""compress.files: a file is whole or not there at all."""

import errno
import hashlib
import json
import os
import socket
import stat
from pathlib import Path

import pytest

from compress.errors import DataError, InputError, ModelFileError, UsageError
from compress.files import (
    LFS_POINTER_BYTES,
    atomic_path,
    is_lfs_pointer,
    printable,
    read_json,
    read_toml,
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


def test_what_is_not_utf8_is_written_as_json_has_it(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xc3\xa9")
    write_text(tmp_path / "a.json", json.dumps([name], ensure_ascii=False))
    assert (tmp_path / "a.json").read_bytes() == rb'["caf\udce9 ' + "é".encode() + b'"]'
    assert read_json(tmp_path / "a.json") == [name]


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
    with pytest.raises(UsageError, match=r"a.txt: No space left on device. Free space there"):
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
    with pytest.raises(InputError, match="There is no file"):
        read_json(tmp_path / "none.json")
    for content in (b"", b"{", b"\xff\xfe"):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.json is not a JSON file"):
            read_json(tmp_path / "bad.json")


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_a_full_disk_names_the_file_that_is_written(tmp_path: Path) -> None:
    source, target = tmp_path / "source.onnx", tmp_path / "target.onnx"

    def copy() -> None:
        # What shutil.copyfile raises names the file that it reads.
        raise OSError(errno.ENOSPC, "No space left on device", str(source))

    with pytest.raises(UsageError, match="No space left") as raised, atomic_path(target):
        copy()
    assert str(target) in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_only_a_regular_file_or_a_link_to_one_is_let_through(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("x")
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "broken").symlink_to(tmp_path / "none")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert regular_file(file) == file
    assert regular_file(tmp_path / "link") == tmp_path / "link"
    for name, words in {
        "none": "There is no file",
        "broken": "There is no file",
        "loop": "cannot be read: Too many levels of symbolic links",
        "folder": "is a folder; a regular file is needed",
        "pipe": "is a named pipe",
        "nul\0": r"nul\\x00 cannot be read",
    }.items():
        with pytest.raises(InputError, match=words):
            regular_file(tmp_path / name)
    with pytest.raises(DataError, match="/dev/zero is a character device"):
        regular_file(Path("/dev/zero"), DataError)


def test_a_git_lfs_pointer_is_recognised_by_how_it_begins() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    assert is_lfs_pointer(pointer)
    assert len(pointer) < LFS_POINTER_BYTES
    assert not is_lfs_pointer(b"")
    assert not is_lfs_pointer(b"PK\x03\x04" + pointer)


def test_any_name_can_be_printed() -> None:
    assert printable("çé 日本 \u200d.png") == "çé 日本 \u200d.png"
    assert printable(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
    assert printable("a\nb\x1b[1m") == r"a\nb\x1b[1m"
    assert printable("\ud800") == r"\ud800"
    printable(Path(os.fsdecode(bytes(range(1, 256))))).encode()


def test_only_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        assert regular_file(tmp_path / name) == tmp_path / name
        assert read_json(tmp_path / name) == {}
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "turn").symlink_to("turn")
    for path, words in (
        (tmp_path / "pipe", "is a named pipe; a regular file is needed"),
        (Path("/dev/zero"), "is a character device; a regular file is needed"),
        (tmp_path, "is a folder; a regular file is needed"),
        (tmp_path / "none", "There is no file .*none"),
        (tmp_path / "turn", "turn cannot be read: Too many levels"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
        (tmp_path / "nul\0", "cannot be read: .*embedded null byte"),
    ):
        for read in (regular_file, read_json, read_toml, sha256_of):
            with pytest.raises(InputError, match=words):
                read(path)


def test_a_socket_is_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has to be short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("s")
        with pytest.raises(InputError, match="s is a socket; a regular file is needed"):
            regular_file(Path("s"))


def test_a_pointer_of_git_lfs_is_told(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    assert is_lfs_pointer(pointer)
    assert not is_lfs_pointer(b"{}")
    (tmp_path / "a.json").write_bytes(pointer)
    with pytest.raises(
        ModelFileError, match=r"not a JSON file but a Git LFS pointer.*`git lfs pull`"
    ):
        read_json(tmp_path / "a.json", error=ModelFileError)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(5 << 30)
    with pytest.raises(
        InputError, match=r"has 5\.37 GB, but a JSON file may have at most 8\.39 MB"
    ):
        read_json(tmp_path / "a.json")


def test_a_mark_of_the_byte_order_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json") == [1]
