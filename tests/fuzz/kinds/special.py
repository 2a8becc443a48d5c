"""Things that stand where a file should, and that no program may wait for or read to the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.fuzz.case import Bench, Kind

LFS = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "x").write_text("x")


def _text(path: Path, text: str) -> None:
    path.write_text(text)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _socket(path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as one:
        # A path that is too long for a socket can be named by its folder's descriptor.
        folder = os.open(path.parent, os.O_RDONLY)
        one.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "a FIFO": _fifo,
    "a link to /dev/zero": _link("/dev/zero"),
    "a link to /dev/urandom": _link("/dev/urandom"),
    "a link to /dev/stdin": _link("/dev/stdin"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": _link("nothing-here"),
    "a link to a folder": _link("/proc"),
    "a folder": _folder,
    "an empty file": lambda path: path.touch(),
    "a terabyte of nothing": _sparse,
    "a socket": _socket,
    "a pointer of Git LFS": lambda path: _text(path, LFS),
    "text": lambda path: _text(path, "These are not the bytes.\n" * 40),
}


def add_special(
    kind: Kind,
    name: str,
    words: Callable[[str], Sequence[str]],
    *stock: str,
    skip: Sequence[str] = (),
) -> None:
    """Adds, for each of ``SPECIAL``, a case in which it stands where a file of the kind should.

    Args:
        kind: gets the cases.
        name: of the file.
        words: of the command line, for the file's name.
        stock: valid files that lie beside it.
        skip: those of them that may pass here.
    """
    for what, place in SPECIAL.items():
        if what in skip:
            continue

        def make(bench: Bench, place: Callable[[Path], None] = place) -> Sequence[str]:
            for each in stock:
                bench.copy(each)
            place(bench.files / name)
            return words(name)

        kind.add(f"{what} as {name}", make)
