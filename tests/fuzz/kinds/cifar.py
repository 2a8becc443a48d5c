"""CIFAR as its makers give it out: pickled batches."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.fuzz.case import Bench, Kind
from tests.fuzz.damage import damaged
from tests.fuzz.kinds.pickles import Executes, doubling, growing
from tests.fuzz.kinds.special import SPECIAL

KIND = Kind("cifar")
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
TEN = "set/cifar-10-batches-py"
HUNDRED = "set/cifar-100-python"


def _batch(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    known = {"data": rng.integers(0, 255, (10, 3072), np.uint8), "labels": list(range(10))}
    return known | changes


def _write(bench: Bench) -> None:
    for name in BATCHES:
        bench.write(f"{TEN}/{name}", pickle.dumps(_batch(), protocol=2))
    meta = {"label_names": list("abcdefghij"), "num_vis": 3072}
    bench.write(f"{TEN}/batches.meta", pickle.dumps(meta, protocol=2))


def _write_hundred(bench: Bench) -> None:
    for name in ("train", "test"):
        batch = _batch(fine_labels=list(range(10)), coarse_labels=[0] * 10)
        bench.write(f"{HUNDRED}/{name}", pickle.dumps(batch, protocol=2))
    meta = {"fine_label_names": list(map(str, range(100))), "coarse_label_names": list("ab")}
    bench.write(f"{HUNDRED}/meta", pickle.dumps(meta, protocol=2))


def _words(bench: Bench) -> Sequence[str]:
    bench.copy("model.onnx")
    return ["evaluate", "model.onnx", "--data", "set"]


@KIND.damaged
def damage(bench: Bench) -> Sequence[str]:
    """A batch of other values, or bytes."""
    rng = bench.rng
    if rng.random() < 0.3:
        _write_hundred(bench)
        folder, name = HUNDRED, rng.choice(("train", "test", "meta"))
    else:
        _write(bench)
        folder, name = TEN, rng.choice((*BATCHES, "batches.meta"))
    odd: tuple[Any, ...] = (
        None,
        [],
        "x",
        -1,
        10**12,
        np.zeros((0, 3072), np.uint8),
        np.zeros(3, np.float32),
        [1.5],
    )
    content = pickle.dumps(
        _batch(**{rng.choice(("data", "labels", "fine_labels")): rng.choice(odd)}), protocol=2
    )
    if rng.random() < 0.5:
        content = damaged((bench.files / folder / name).read_bytes(), rng, content)
    bench.write(f"{folder}/{name}", content)
    return _words(bench)


def _content(what: str, name: str, content: bytes) -> None:
    def make(bench: Bench) -> Sequence[str]:
        _write(bench)
        bench.write(f"{TEN}/{name}", content)
        return _words(bench)

    KIND.add(what, make)


@KIND.by_hand("a batch that executes something")
def executes(bench: Bench) -> Sequence[str]:
    """A pickle with a command; the checksums of the makers' files speak against it."""
    _write(bench)
    for name in (*BATCHES, "batches.meta"):
        bench.write(f"{TEN}/{name}", pickle.dumps(Executes(bench.folders.marker)))
    return _words(bench)


@KIND.by_hand("CIFAR-100 that executes something")
def executes_hundred(bench: Bench) -> Sequence[str]:
    """The same for the other set."""
    _write_hundred(bench)
    for name in ("train", "test", "meta"):
        bench.write(f"{HUNDRED}/{name}", pickle.dumps(Executes(bench.folders.marker)))
    return _words(bench)


_content("a batch that doubles", "data_batch_1", doubling(60))
_content("a batch that grows", "data_batch_1", growing(32))
_content("a batch that is empty", "data_batch_1", b"")
_content("names that are no table", "batches.meta", pickle.dumps([1, 2]))


@KIND.by_hand("a set without its test batch")
def incomplete(bench: Bench) -> Sequence[str]:
    """One of the files is missing."""
    _write(bench)
    (bench.files / TEN / "test_batch").unlink()
    return _words(bench)


def _special(what: str) -> None:
    def make(bench: Bench) -> Sequence[str]:
        _write(bench)
        target = bench.files / TEN / "data_batch_1"
        target.unlink()
        SPECIAL[what](target)
        return _words(bench)

    KIND.add(f"{what} as a batch", make)


for _what in SPECIAL:
    _special(_what)
