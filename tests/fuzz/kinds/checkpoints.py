"""Checkpoints as files: .pt (zip), legacy .pth, .safetensors."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

from tests.fuzz.case import Bench, Kind
from tests.fuzz.damage import damaged
from tests.fuzz.kinds.packing import archive_of, bomb, zip_damaged
from tests.fuzz.kinds.special import LFS, add_special
from tests.fuzz.values import DEEP, nested, to_json
from tests.fuzz.values import damaged as damaged_values

KIND = Kind("checkpoint")
FILES = ("teacher.pt", "teacher.pth", "teacher.safetensors")
DISTILL = (
    "distill --teacher FILE --data data.npz --student wrn-10-1 --epochs 1 --out out --device cpu"
)
COMMANDS = (
    "evaluate FILE --data data.npz --device cpu",
    "export FILE --output out.onnx --data data.npz",
    "select --teacher FILE --speedup 1.1 --tradeoff none.csv --data data.npz",
    "profile FILE --batch 1 --threads 1 --runtime onnxruntime",
    DISTILL,
    "train --arch wrn-10-1 --init FILE --data data.npz --epochs 1 --out out --device cpu",
)


def _words(bench: Bench, file: str, command: int = 0) -> list[str]:
    bench.copy("data.npz")
    return COMMANDS[command].replace("FILE", file).split()


def safetensors(header: Any, data: bytes, *, length: int | None = None) -> bytes:
    """A file whose header may say anything, and whose length, too."""
    text = header if isinstance(header, bytes) else to_json(header).encode()
    told = len(text) if length is None else length
    return struct.pack("<Q", told % 2**64) + text + data


def parted(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a valid file."""
    (length,) = struct.unpack("<Q", content[:8])
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    return header, content[8 + length :]


def _repacked(content: bytes, rng: random.Random) -> bytes:
    """A zip checkpoint of which one member is damaged, missing, renamed or cut."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    target = rng.choice([*members, *[name for name in members if name.endswith(".pkl")] * 4])
    way = rng.random()
    if way < 0.6:
        members[target] = damaged(members[target], rng)
    elif way < 0.7:
        del members[target]
    elif way < 0.8:
        members[f"x/{target}"] = members.pop(target)
    else:
        members[target] = members[target][: len(members[target]) // 2]
    kind = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    return archive_of(members, kind)


@KIND.damaged
def damage(bench: Bench) -> Sequence[str]:
    """Bytes, members, or fields of a header."""
    rng = bench.rng
    name = rng.choice(FILES)
    content = bench.stock.path(name).read_bytes()
    other = bench.stock.path(rng.choice(FILES)).read_bytes()
    way = rng.random()
    if name == "teacher.pt" and way < 0.5:
        content = _repacked(content, rng)
    elif name == "teacher.pt" and way < 0.6:
        content = zip_damaged(content, rng)
    elif name == "teacher.safetensors" and way < 0.6:
        header, data = parted(content)
        if rng.random() < 0.3:
            own = json.loads(header["__metadata__"]["compress"])
            header["__metadata__"]["compress"] = to_json(damaged_values(own, rng))
        else:
            header = damaged_values(header, rng)
        length = rng.choice((None, None, None, 0, 5, 2**40, 2**63, -1))
        content = safetensors(header, data, length=length)
    else:
        content = damaged(content, rng, other)
    suffix = rng.choice((name[7:], name[7:], ".pt", ".th", ".PTH", ".bin", ".ckpt", ""))
    bench.write(f"own{suffix}", content)
    return _words(bench, f"own{suffix}", rng.choice((0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 3, 4, 5)))


def _header(
    name: str, /, *, refused: bool = True, length: int | None = None, **changes: Any
) -> None:
    """Adds a .safetensors file whose first tensor or metadata say something else."""

    def make(bench: Bench) -> Sequence[str]:
        header, data = parted(bench.stock.path("teacher.safetensors").read_bytes())
        first = next(key for key in header if key != "__metadata__")
        for key, value in changes.items():
            if key == "own":
                described = json.loads(header["__metadata__"]["compress"]) | value
                header["__metadata__"]["compress"] = to_json(described)
            elif key == "spec":
                described = json.loads(header["__metadata__"]["compress"])
                described["spec"] |= value
                header["__metadata__"]["compress"] = to_json(described)
            elif key == "metadata":
                header["__metadata__"] = value
            else:
                header[first][key] = value
        bench.write("own.safetensors", safetensors(header, data, length=length))
        return _words(bench, "own.safetensors")

    KIND.add(f"safetensors: {name}", make, refused=refused)


_header("a header of 2^62 bytes", length=2**62)
_header("a header of 0 bytes", length=0)
_header("a shape of 10^12", shape=[10**12])
_header("a shape of -1", shape=[-1])
_header("a shape of 2^32 x 2^32", shape=[2**32, 2**32])
_header("a shape that is null", shape=None)
_header("offsets that are reversed", data_offsets=[100, 0])
_header("offsets of 10^18", data_offsets=[0, 10**18])
_header("offsets of -1", data_offsets=[-1, 0])
_header("a type that is unknown", dtype="F7")
_header("metadata that are a list", metadata=[1, 2])
_header("metadata 100,000 deep", metadata=nested("lists", DEEP))
_header("metadata whose text is 100,000 deep", metadata={"compress": "[" * DEEP})
_header("metadata whose text is a number", metadata={"compress": "5"})
_header("a depth of 10^12", spec={"depth": 10**12})
_header("a width of 10^12", spec={"width": 10**12})
_header("a specification that is nested", own={"spec": nested("tables", 1500)})
_header("an input shape of 10^12", spec={"input_shape": [1, 10**12, 10**12]})
_header("an infinite dropout", spec={"dropout": float("inf")})
_header("a normalisation of infinity", own={"normalization": {"mean": [float("inf")], "std": [1]}})
_header("a normalisation of NaN", own={"normalization": {"mean": [float("nan")], "std": [0]}})
_header("classes of 10^12", spec={"num_classes": 10**12})
_header("class names that are a number", own={"classes": 5})


def _bytes(name: str, file: str, content: bytes) -> None:
    def make(bench: Bench) -> Sequence[str]:
        bench.write(file, content)
        return _words(bench, file)

    KIND.add(name, make)


_bytes("a header that is nothing but nesting", "own.safetensors", safetensors(b"[" * DEEP, b""))
_bytes("a header of tables that nest", "own.safetensors", safetensors(b'{"a":' * DEEP, b""))
_bytes("a header without tensors", "own.safetensors", safetensors({}, b""))
_bytes(
    "a legacy file that ends after its number",
    "own.pth",
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
)
_bytes(
    "20,000 tensors in a header",
    "own.safetensors",
    safetensors(
        {
            f"layer{number}.weight": {
                "dtype": "F32",
                "shape": [1],
                "data_offsets": [4 * number, 4 * number + 4],
            }
            for number in range(20_000)
        },
        bytes(80_000),
    ),
)
_bytes("a zip file without members", "own.pt", b"PK\x05\x06" + bytes(18))


@KIND.by_hand("a pickle of 6 GB in 6 MB")
def pickle_bomb(bench: Bench) -> Sequence[str]:
    """The member that has to be read first."""
    bench.write("own.pt", bomb("archive/data.pkl", b"\x80\x02X\xff\xff\xff\x7f", 6144))
    return _words(bench, "own.pt")


@KIND.by_hand("a pickle of 6 GB that says it is small")
def small_bomb(bench: Bench) -> Sequence[str]:
    """The directory lies."""
    content = bomb("archive/data.pkl", b"\x80\x02X\xff\xff\xff\x7f", 6144, told=1000)
    bench.write("own.pt", content)
    return _words(bench, "own.pt")


@KIND.by_hand("a storage of 6 GB in 6 MB")
def storage_bomb(bench: Bench) -> Sequence[str]:
    """Compressed, which torch's own files are not."""
    from tests.fuzz.kinds.pickles import tensor_pickle

    bench.write("own.pt", bomb("archive/data/0", b"", 6144))
    with zipfile.ZipFile(bench.files / "own.pt", "a") as archive:
        archive.writestr("archive/data.pkl", tensor_pickle((6144 << 18,), (1,), count=6144 << 18))
        archive.writestr("archive/version", "3\n")
    return _words(bench, "own.pt")


@KIND.by_hand("a name of 255 letters", refused=False)
def long_name(bench: Bench) -> Sequence[str]:
    """As long as a file system takes."""
    name = "x" * 243 + ".safetensors"
    bench.copy("teacher.safetensors", name)
    return _words(bench, name, 1)


@KIND.by_hand("a name that is too long")
def too_long(bench: Bench) -> Sequence[str]:
    """There cannot be such a file."""
    return _words(bench, "x" * 5000 + ".pt")


@KIND.by_hand("a name with colours and lines", refused=False)
def strange_name(bench: Bench) -> Sequence[str]:
    """It is printed."""
    bench.copy("teacher.safetensors", "\x1b[31m\n[bold].safetensors")
    words = _words(bench, "NAME")
    return ["\x1b[31m\n[bold].safetensors" if word == "NAME" else word for word in words]


@KIND.by_hand("a name that is not UTF-8", refused=False)
def bytes_name(bench: Bench) -> Sequence[str]:
    """A byte that no text has."""
    bench.copy("teacher.safetensors", "t\udce4.safetensors")
    return _words(bench, "t\udce4.safetensors")


@KIND.by_hand("threads of 1,000,000", refused=False)
def threads(bench: Bench) -> Sequence[str]:
    """More than a system has."""
    bench.copy("teacher.safetensors")
    return [*_words(bench, "teacher.safetensors"), "--threads", "1000000"]


def _teacher(name: str, content: Callable[[Bench], bytes]) -> None:
    def make(bench: Bench) -> Sequence[str]:
        bench.write("own.pt", content(bench))
        return _words(bench, "own.pt", COMMANDS.index(DISTILL))

    KIND.add(f"a teacher that is {name}", make)


_teacher("text", lambda bench: b"These are not the weights.")
_teacher("a pointer of Git LFS", lambda bench: LFS.encode())
_teacher("cut", lambda bench: bench.stock.path("teacher.pt").read_bytes()[:9000])
_teacher("empty of tensors", lambda bench: safetensors({}, b""))

for _name in ("own.pt", "own.safetensors"):
    add_special(KIND, _name, lambda name: COMMANDS[0].replace("FILE", name).split(), "data.npz")
