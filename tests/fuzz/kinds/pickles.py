"""Pickles in checkpoints: such as execute, grow, contain themselves, or claim what is not there."""

from __future__ import annotations

import io
import os
import pickle
import shlex
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.fuzz.case import Bench, Kind
from tests.fuzz.kinds.packing import archive_of
from tests.fuzz.stock import weights

KIND = Kind("pickle")
EVALUATE = shlex.split("--data data.npz --device cpu")


class Executes:
    """Unpickling it would make the marker."""

    def __init__(self, marker: Path, how: str = "system") -> None:
        self.marker, self.how = str(marker), how

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """What the pickle asks for."""
        if self.how == "open":
            return open, (self.marker, "w")
        if self.how == "exec":
            return exec, (f"open({self.marker!r}, 'w')",)
        if self.how == "eval":
            return eval, (f"open({self.marker!r}, 'w')",)
        if self.how == "mkdir":
            return os.mkdir, (self.marker,)
        if self.how == "symlink":
            return os.symlink, ("/etc/passwd", self.marker)
        return os.system, (f"touch '{self.marker}'",)


def doubling(times: int) -> bytes:
    """A list of two of a list of two of ...: small in memory, endless for who walks it."""
    content = b"\x80\x02]q\x00K\x01a"
    for _ in range(times):
        # MEMO 1 is the last list: (list of it twice), kept in its place.
        content += b"q\x01]h\x01ah\x01a"
    return content + b"."


def growing(times: int) -> bytes:
    """A text that is put behind itself again and again by a call of str.__add__."""
    content = b"\x80\x02X\x04\x00\x00\x00ab\ncq\x00"
    for _ in range(times):
        content += b"0c_operator\nadd\nh\x00h\x00\x86Rq\x00"
    return content + b"."


def zip_of(content: bytes, storages: dict[str, bytes] | None = None) -> bytes:
    """A file of torch's zip format around a pickle."""
    members = {"data.pkl": content, "byteorder": b"little"}
    members |= {f"data/{name}": values for name, values in (storages or {}).items()}
    members["version"] = b"3\n"
    return archive_of({f"archive/{name}": member for name, member in members.items()})


def saved(value: Any, *, legacy: bool = False) -> bytes:
    """What torch.save writes."""
    content = io.BytesIO()
    torch.save(value, content, _use_new_zipfile_serialization=not legacy)
    return content.getvalue()


def tensor_pickle(
    sizes: Sequence[int], strides: Sequence[int], *, offset: int = 0, count: int = 1
) -> bytes:
    """{"state_dict": {"w": a tensor}} as torch pickles it, with sizes that may be anything."""

    def number(value: int) -> bytes:
        content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes((len(content),)) + content

    def numbers(values: Sequence[int]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    storage += number(count) + b"tQ"
    arguments = storage + number(offset) + numbers(sizes) + numbers(strides) + b"\x89"
    arguments += b"ccollections\nOrderedDict\n)R"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"
    return b"\x80\x02}" + text("state_dict") + b"}" + text("w") + rebuilt + b"ss."


def _add(
    name: str, make: Callable[[Bench], bytes], *, file: str = "own.pt", refused: bool = True
) -> None:
    def write(bench: Bench) -> Sequence[str]:
        bench.write(file, make(bench))
        bench.copy("data.npz")
        return ["evaluate", file, *EVALUATE]

    KIND.add(name, write, refused=refused)


for _how in ("system", "open", "exec", "eval", "mkdir", "symlink"):

    def _executing(bench: Bench, how: str = _how) -> dict[str, Any]:
        return {"state_dict": Executes(bench.folders.marker, how)}

    _add(f"{_how} in a bare pickle", lambda bench, e=_executing: pickle.dumps(e(bench), protocol=2))  # type: ignore[misc]
    _add(f"{_how} in a zip", lambda bench, e=_executing: zip_of(pickle.dumps(e(bench), protocol=2)))  # type: ignore[misc]
    _add(
        f"{_how} in a legacy file",
        lambda bench, e=_executing: saved({"x": 1}, legacy=True) + pickle.dumps(e(bench)),  # type: ignore[misc]
    )
    _add(
        f"{_how} beside weights",
        lambda bench, e=_executing: saved(
            {"state_dict": weights(bench.stock)} | {"more": e(bench)}
        ),  # type: ignore[misc]
    )


def _itself(kind: str) -> bytes:
    # An empty list or table, kept as 0 and put into itself.
    body = {"list": b"]q\x00h\x00a", "table": b"}q\x00X\x01\x00\x00\x00ah\x00s"}[kind]
    return b"\x80\x02}X\x0a\x00\x00\x00state_dict" + body + b"s."


def _shared(times: int, kind: str) -> bytes:
    if kind == "list":
        return b"\x80\x02}X\x0a\x00\x00\x00state_dict" + doubling(times)[2:-1] + b"s."
    content = b"}q\x00"
    for _ in range(times):
        content += b"q\x01}(X\x01\x00\x00\x00ah\x01X\x01\x00\x00\x00bh\x01u"
    return b"\x80\x02}X\x0a\x00\x00\x00state_dict" + content + b"s."


for _kind in ("list", "table"):
    _add(f"a {_kind} that contains itself", lambda bench, k=_kind: zip_of(_itself(k)))  # type: ignore[misc]
    _add(f"a {_kind} that contains itself, bare", lambda bench, k=_kind: _itself(k))  # type: ignore[misc]
    _add(f"{_kind}s that double 30 times", lambda bench, k=_kind: zip_of(_shared(30, k)))  # type: ignore[misc]
    _add(f"{_kind}s that double 300 times", lambda bench, k=_kind: zip_of(_shared(300, k)))  # type: ignore[misc]
_add(
    "lists that double in a legacy file",
    lambda bench: saved({"x": 1}, legacy=True)[:-1] + doubling(60),
)
_add("a text that doubles", lambda bench: zip_of(growing(40)))
_add(
    "lists 100,000 deep", lambda bench: zip_of(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")
)
_add("marks 1,000,000 deep", lambda bench: zip_of(b"\x80\x02" + b"(" * 1_000_000 + b"."))
_add(
    "a frame of 2^62 bytes",
    lambda bench: zip_of(b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N."),
)
_add(
    "a text of 2^62 bytes", lambda bench: zip_of(b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"N.")
)
_add(
    "an integer of 1 MB",
    lambda bench: zip_of(b"\x80\x02\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6 + b"."),
)
_add("a memo of 2^31", lambda bench: zip_of(b"\x80\x02Nr\xff\xff\xff\x7f."))
_add("an empty pickle", lambda bench: zip_of(b""))
_add("a pickle that pops nothing", lambda bench: zip_of(b"\x80\x020."))
_add("a pickle of None", lambda bench: zip_of(b"\x80\x02N."))
_add("a persistent id that is no storage", lambda bench: zip_of(b"\x80\x02K\x01Q."))
_add("a name of 10,000 parts", lambda bench: zip_of(b"\x80\x02c" + b"a." * 10_000 + b"a\nb\n."))
_add("an extension code", lambda bench: zip_of(b"\x80\x02\x82\x01."))

FOUR = bytes(4)
for _name, _tensor in {
    "a stride of 0 that claims 38 GB": tensor_pickle((100_000, 95_000), (0, 0)),
    "a stride of 0 that claims 10^18": tensor_pickle((10**9, 10**9), (0, 0)),
    "a size of 10^12": tensor_pickle((10**12,), (1,)),
    "a size of -1": tensor_pickle((-1,), (1,)),
    "a stride of -1": tensor_pickle((4,), (-1,), count=4),
    "a size that overflows": tensor_pickle((2**62, 2**62), (1, 1)),
    "an offset of 10^12": tensor_pickle((1,), (1,), offset=10**12),
    "a negative offset": tensor_pickle((1,), (1,), offset=-5),
    "a storage of 10^12": tensor_pickle((1,), (1,), count=10**12),
    "a storage of -1": tensor_pickle((1,), (1,), count=-1),
    "an empty tensor of 2^60 rows": tensor_pickle((2**60, 0), (1, 1), count=0),
    "64 dimensions": tensor_pickle((1,) * 64, (1,) * 64),
}.items():
    _add(_name, lambda bench, t=_tensor: zip_of(t, {"0": FOUR}))  # type: ignore[misc]


def _expanded(bench: Bench) -> bytes:
    found: dict[str, Any] = dict(weights(bench.stock))
    key = next(key for key, value in found.items() if value.ndim == 4)
    found[key] = torch.zeros(1).expand(100_000, 9_000, 3, 3)
    return saved({"state_dict": found})


def _with(name: str, change: Callable[[dict[Any, Any]], object], *, refused: bool = True) -> None:
    """Adds the teacher's weights with a change."""

    def make(bench: Bench) -> bytes:
        found: dict[Any, Any] = dict(weights(bench.stock))
        change(found)
        return saved({"state_dict": found})

    _add(name, make, refused=refused)


def _first(found: dict[str, Any], dimensions: int = 4) -> str:
    return next(key for key, value in found.items() if value.ndim == dimensions)


def _replace(tensor: Callable[[torch.Tensor], object]) -> Callable[[dict[str, Any]], object]:
    def change(found: dict[str, Any]) -> None:
        key = _first(found)
        found[key] = tensor(found[key])

    return change


_add("weights of which one claims 32 GB", _expanded)
_with("a sparse tensor", _replace(lambda t: t.flatten(1).to_sparse()))
_with("a sparse row tensor", _replace(lambda t: t.flatten(1).to_sparse_csr()))
_with("a tensor of the meta device", _replace(lambda t: t.to("meta")))
_with("float8", _replace(lambda t: t.to(torch.float8_e4m3fn)), refused=False)
_with("bfloat16", _replace(lambda t: t.bfloat16()), refused=False)
_with("complex numbers", _replace(lambda t: t.to(torch.complex64)))
_with("whole numbers", _replace(lambda t: t.long()))
_with("a quantised tensor", _replace(lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)))
_with("an empty tensor", _replace(lambda t: torch.empty(0)))
_with("a scalar", _replace(lambda t: torch.tensor(1.0)))
_with("a list for a tensor", _replace(lambda t: t.tolist()))
_with("a parameter", _replace(torch.nn.Parameter), refused=False)
_with("infinite weights", _replace(lambda t: t * torch.inf))
_with("only empty tensors", lambda found: found.update({key: torch.empty(0) for key in found}))
_with(
    "keys that are numbers", lambda found: found.update({1: torch.zeros(1), None: 2}), refused=False
)
_with("keys of 1 MB", lambda found: found.update({"a." * 500_000: torch.zeros(1)}), refused=False)
_with(
    "a key of 100,000 parts",
    lambda found: found.update({"a." * 100_000 + "weight": torch.zeros(3, 3)}),
)
_with(
    "20,000 tensors more",
    lambda found: found.update({f"x{n}.weight": torch.zeros(3, 3) for n in range(20_000)}),
)
_with(
    "keys that are not text", lambda found: found.update({"\udcff": torch.zeros(1)}), refused=False
)
_with(
    "masked weights",
    lambda found: found.update(
        {f"{_first(found)}_mask": torch.ones(1), f"{_first(found)}_orig": found[_first(found)]}
    ),
    refused=False,
)
_add(
    "20,000 tensors",
    lambda bench: saved({f"layer{n}.weight": torch.zeros(2, 2) for n in range(20_000)}),
)
_add(
    "a convolution of 10^6 channels",
    lambda bench: saved({"conv.weight": torch.zeros(1).expand(10**6, 3, 3, 3)}),
)
_add("a file of one number", lambda bench: saved(5))
_add("a file of one tensor", lambda bench: saved(torch.zeros(3)))
_add(
    "an epoch of 10^400 beside weights",
    lambda bench: saved({"state_dict": weights(bench.stock), "epoch": 10**400}),
    refused=False,
)
_add(
    "a normalisation of NaN beside weights",
    lambda bench: saved({"state_dict": weights(bench.stock), "mean": [float("nan")], "std": [0.0]}),
    refused=False,
)
_add(
    "a normalisation in 0 to 255",
    lambda bench: saved({"state_dict": weights(bench.stock), "mean": [127.5], "std": [63.75]}),
    refused=False,
)
_add(
    "an architecture that is nested",
    lambda bench: saved(
        {"state_dict": weights(bench.stock), "arch": [[[["wrn"]]]], "args": {"a": {"b": [1]}}}
    ),
    refused=False,
)
