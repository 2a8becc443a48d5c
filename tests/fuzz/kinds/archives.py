""".npz files: arrays in a zip file."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fuzz.case import Bench, Kind
from tests.fuzz.damage import damaged
from tests.fuzz.kinds.packing import BLOCK, archive_of, bomb, zip_damaged
from tests.fuzz.kinds.pickles import Executes
from tests.fuzz.kinds.special import add_special
from tests.fuzz.stock import CLASSES, SIZE, TEST, TRAIN, arrays

KIND = Kind("npz")
SIZES = (-1, 0, 1, 7, 2**31, 2**32, 10**12, 2**63 - 1, 2**64)
TYPES = ("|u1", "<u8", "<f4", "<f8", "|O", "|b1", "<U3", "|S9", "<M8[s]", "|V4", "<c16", ">i8")


def _words(bench: Bench, content: bytes) -> Sequence[str]:
    bench.write("own.npz", content)
    bench.copy("model.onnx")
    return ["evaluate", "model.onnx", "--data", "own.npz"]


def npy(header: str, content: bytes) -> bytes:
    """An .npy file whose header may say anything."""
    text = header.encode("latin1", "replace") + b"\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text + content


def header_of(array: NDArray[Any], **changes: Any) -> str:
    """The header of an array, with changes."""
    known = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    return repr(known | changes)


def zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The .npz file of .npy files."""
    named = {f"{name}.npy": member for name, member in members.items()}
    return archive_of(named, compression)


def members() -> dict[str, bytes]:
    """The .npy files of a data set."""
    return {name: npy(header_of(each), each.tobytes()) for name, each in arrays().items()}


@KIND.damaged
def damage(bench: Bench) -> Sequence[str]:
    """A header that lies, arrays of other types and shapes, damage to the archive."""
    rng = bench.rng
    way, made = rng.random(), members()
    name = rng.choice(sorted(made))
    array = arrays()[name]
    if way < 0.3:
        shape: Any = tuple(rng.choice((*SIZES, *array.shape)) for _ in range(rng.randrange(6)))
        changes: dict[str, Any] = rng.choice(
            (
                {"shape": shape},
                {"shape": rng.choice((None, "x", [1, 2], (1.5,), (None,), ((1,),)))},
                {"descr": rng.choice((*TYPES, "x", "", None, [("a", "<i8")], "|u1" * 50))},
                {"fortran_order": rng.choice((True, None, "yes", 5))},
                {"more": 1},
            )
        )
        made[name] = npy(header_of(array, **changes), array.tobytes())
    elif way < 0.5:
        kind = np.dtype(rng.choice([one for one in TYPES if one != "|O"]))
        count = len(array)
        tail = rng.choice(
            ((), (0,), (1,), (SIZE, SIZE), (SIZE, SIZE, 3), (3, SIZE, SIZE), (5, 4, 3))
        )
        values = np.frombuffer(rng.randbytes(count * max(1, int(np.prod(tail))) * 64), np.uint8)
        values = values[: count * int(np.prod(tail)) * kind.itemsize]
        made[name] = npy(
            f"{{'descr': {kind.str!r}, 'fortran_order': False, 'shape': {(count, *tail)}}}",
            values.tobytes(),
        )
    elif way < 0.6:
        made[name] = damaged(made[name], rng, made["y_test"])
    elif way < 0.65:
        del made[name]
    content = zipped(made, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    if way >= 0.85:
        content = zip_damaged(content, rng)
    elif way >= 0.65:
        content = damaged(content, rng, bench.stock.path("teacher.pt").read_bytes())
    return _words(bench, content)


def _content(name: str, *, refused: bool = True, **replaced: bytes | NDArray[Any]) -> None:
    """Adds a data set in which some arrays are others."""

    def make(bench: Bench) -> Sequence[str]:
        made = members()
        for key, value in replaced.items():
            made[key] = (
                value if isinstance(value, bytes) else npy(header_of(value), value.tobytes())
            )
        return _words(bench, zipped(made))

    KIND.add(name, make, refused=refused)


_images = arrays()["x_train"]
_labels = arrays()["y_train"]
_huge = {"descr": "|u1", "fortran_order": False}
_content("labels of shape (n, 0)", y_train=np.zeros((TRAIN, 0), np.int64))
_content("test labels of shape (n, 0)", y_test=np.zeros((TEST, 0), np.int64))
_content("labels of shape (n, 1)", y_train=_labels[:, None], refused=False)
_content("labels that are one number", y_train=np.array(3))
_content("labels of 2^63", y_train=(_labels.astype(np.uint64) + 2**63))
_content("labels up to 10^12", y_train=_labels * 10**12)
_content("labels of -1", y_train=_labels - 1)
_content("no images", x_train=np.zeros((0, SIZE, SIZE), np.uint8), y_train=_labels[:0])
_content("no test images", x_test=np.zeros((0, SIZE, SIZE), np.uint8), y_test=_labels[:0])
_content("images of no width", x_train=np.zeros((TRAIN, SIZE, 0), np.uint8))
_content("images of 40 dimensions", x_train=npy(repr(_huge | {"shape": (1,) * 40}), b"\0"))
_content("images of 10^12", x_train=npy(repr(_huge | {"shape": (10**12, 8, 8)}), b"\0" * 64))
_content("images of -1", x_train=npy(repr(_huge | {"shape": (-1, 8, 8)}), b"\0" * 640))
_content(
    "images of no width and 2^62 of them",
    x_train=npy(repr(_huge | {"shape": (2**62, 0, 8)}), b""),
    y_train=npy(repr({"descr": "|V0", "fortran_order": False, "shape": (2**62,)}), b""),
)
_content(
    "arrays of nothing, 2^60 of them",
    y_train=npy("{'descr': '|V0', 'fortran_order': False, 'shape': (1152921504606846976,)}", b""),
)
_content("a type of text", x_train=npy(header_of(_images, descr="<U10000000"), b""))
_content(
    "a type of nested fields", x_train=npy(header_of(_images, descr=[("a", [("b", "<i4")])]), b"")
)
_content("a header that nests", x_train=npy("(" * 5000 + ")" * 5000, b""))
_content("a header that calls", x_train=npy("__import__('os').system('touch ../EXECUTED')", b""))
_content("a header of 2 MB", x_train=npy(header_of(_images) + " " * 2_000_000, b""))
_content("a header that is a list", x_train=npy("[1, 2]", b""))
_content("class names that are bytes", class_names=np.array([b"a"] * CLASSES))
_content(
    "class names of a surrogate", class_names=np.array(["\ud800", "b", "c", "d"]), refused=False
)
_content(
    "class names with colours",
    class_names=np.array(["\x1b[31m", "b\0", "c\r", "\n"]),
    refused=False,
)


@KIND.by_hand("labels that execute something")
def executes(bench: Bench) -> Sequence[str]:
    """An array of objects is a pickle."""
    import pickle

    made = members()
    content = pickle.dumps([Executes(bench.folders.marker)] * TRAIN)
    made["y_train"] = npy(header_of(_labels, descr="|O"), content)
    return _words(bench, zipped(made))


@KIND.by_hand("a pickle under the name of an archive")
def bare(bench: Bench) -> Sequence[str]:
    """What numpy would unpickle if it were allowed to."""
    import pickle

    return _words(bench, pickle.dumps(Executes(bench.folders.marker)))


@KIND.by_hand("6 GB of images in 6 MB")
def bomb_of_images(bench: Bench) -> Sequence[str]:
    """All other members are there, so that nothing but the size speaks against it."""
    shape = (6144 * BLOCK // 64, 8, 8)
    return _bomb(bench, npy(repr(_huge | {"shape": shape}), b""), 6144)


@KIND.by_hand("6 GB behind an array", refused=False)
def bomb_behind(bench: Bench) -> Sequence[str]:
    """The header asks for few of the bytes."""
    return _bomb(bench, npy(header_of(_images), _images.tobytes()), 6144)


@KIND.by_hand("6 GB that say that they are 100 bytes")
def bomb_that_lies(bench: Bench) -> Sequence[str]:
    """What the archive's directory tells cannot be believed."""
    shape = (6144 * BLOCK // 64, 8, 8)
    return _bomb(bench, npy(repr(_huge | {"shape": shape}), b""), 6144, told=100)


def _bomb(bench: Bench, start: bytes, mebibytes: int, told: int | None = None) -> Sequence[str]:
    content = bomb("x_train.npy", start, mebibytes, told=told)
    bench.write("own.npz", content)
    with zipfile.ZipFile(bench.files / "own.npz", "a") as archive:
        for name, member in members().items():
            if name != "x_train":
                archive.writestr(f"{name}.npy", member)
    bench.copy("model.onnx")
    return ["evaluate", "model.onnx", "--data", "own.npz"]


@KIND.by_hand("20,000 members", refused=False)
def many(bench: Bench) -> Sequence[str]:
    """A long directory."""
    return _words(bench, zipped(members() | {f"m{number}": b"" for number in range(20_000)}))


@KIND.by_hand("the same member twice", refused=False)
def twice(bench: Bench) -> Sequence[str]:
    """The second has fewer labels."""
    import warnings

    bench.write("own.npz", zipped(members()))
    with warnings.catch_warnings(), zipfile.ZipFile(bench.files / "own.npz", "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("y_train.npy", npy(header_of(_labels[:3]), _labels[:3].tobytes()))
    bench.copy("model.onnx")
    return ["evaluate", "model.onnx", "--data", "own.npz"]


add_special(KIND, "own.npz", lambda name: ["evaluate", "model.onnx", "--data", name], "model.onnx")
