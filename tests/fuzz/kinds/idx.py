"""The idx files of the MNIST family, plain and gzipped."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence

from tests.fuzz.case import Bench, Kind
from tests.fuzz.damage import damaged
from tests.fuzz.kinds.packing import zeros_deflated
from tests.fuzz.kinds.special import SPECIAL
from tests.fuzz.stock import arrays

KIND = Kind("idx")
FILES = {
    "train-images-idx3-ubyte": "x_train",
    "train-labels-idx1-ubyte": "y_train",
    "t10k-images-idx3-ubyte": "x_test",
    "t10k-labels-idx1-ubyte": "y_test",
}
ODD = (0, 1, 7, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
GZIP = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"


def idx(name: str, *sizes: int) -> bytes:
    """One of the files; its header may tell other sizes than it has."""
    array = arrays()[FILES[name]].astype("uint8")
    told = sizes or array.shape
    return bytes((0, 0, 8, len(told))) + struct.pack(f">{len(told)}I", *told) + array.tobytes()


def _write(bench: Bench, *, packed: bool = False) -> None:
    for name in FILES:
        content = idx(name)
        bench.write(
            f"set/{name}.gz" if packed else f"set/{name}",
            gzip.compress(content, mtime=0) if packed else content,
        )


def _words(bench: Bench) -> Sequence[str]:
    bench.copy("model.onnx")
    return ["evaluate", "model.onnx", "--data", "set"]


@KIND.damaged
def damage(bench: Bench) -> Sequence[str]:
    """Sizes that lie, or bytes, before or after they are packed."""
    rng = bench.rng
    packed = rng.random() < 0.5
    _write(bench, packed=packed)
    name = rng.choice(sorted(FILES))
    content = idx(name)
    if rng.random() < 0.4:
        sizes = arrays()[FILES[name]].shape
        content = idx(name, *(rng.choice((size, *ODD)) for size in sizes))
    elif rng.random() < 0.5:
        content = damaged(content, rng, idx("t10k-labels-idx1-ubyte"))
    if packed:
        content = gzip.compress(content, mtime=0)
    if rng.random() < 0.6:
        content = damaged(content, rng)
    bench.write(f"set/{name}.gz" if packed else f"set/{name}", content)
    return _words(bench)


@KIND.by_hand("6 GB in 6 MB")
def bomb(bench: Bench) -> Sequence[str]:
    """A gzip file of zeros behind a header that fits."""
    name = "train-images-idx3-ubyte"
    _write(bench, packed=True)
    start = bytes((0, 0, 8, 3)) + struct.pack(">3I", 6144 << 14, 8, 8)
    content = gzip.compress(start, mtime=0) + GZIP + zeros_deflated(6144)
    bench.write(f"set/{name}.gz", content + struct.pack("<II", 0, 0))
    return _words(bench)


@KIND.by_hand("100,000 empty members")
def members(bench: Bench) -> Sequence[str]:
    """Gzip files may follow each other."""
    _write(bench, packed=True)
    bench.write("set/train-labels-idx1-ubyte.gz", gzip.compress(b"", mtime=0) * 100_000)
    return _words(bench)


def _sizes(what: str, name: str, *sizes: int) -> None:
    def make(bench: Bench) -> Sequence[str]:
        _write(bench)
        bench.write(f"set/{name}", idx(name, *sizes))
        return _words(bench)

    KIND.add(what, make)


_sizes("2^96 images", "train-images-idx3-ubyte", 2**32 - 1, 2**32 - 1, 2**32 - 1)
_sizes("no images", "train-images-idx3-ubyte", 0, 8, 8)
_sizes("images of no width", "train-images-idx3-ubyte", 2**32 - 1, 0, 8)
_sizes("2^32 labels", "train-labels-idx1-ubyte", 2**32 - 1)


def _special(what: str, suffix: str) -> None:
    def make(bench: Bench) -> Sequence[str]:
        _write(bench, packed=bool(suffix))
        target = bench.files / f"set/train-images-idx3-ubyte{suffix}"
        target.unlink()
        SPECIAL[what](target)
        return _words(bench)

    KIND.add(f"{what} as images{suffix}", make)


for _what in SPECIAL:
    _special(_what, "")
    _special(_what, ".gz")
