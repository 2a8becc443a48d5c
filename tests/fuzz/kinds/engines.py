"""An engine, and what is written of it beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from tests.fuzz.case import Bench, Kind
from tests.fuzz.damage import damaged
from tests.fuzz.kinds.special import add_special
from tests.fuzz.stock import CLASSES, SIZE
from tests.fuzz.values import DEEP, nested, to_json
from tests.fuzz.values import damaged as damaged_values

KIND = Kind("engine")
ENGINE = b"ftrt" + bytes(range(256)) * 8
VALID: dict[str, Any] = {
    "schema_version": 1,
    "package": "tensorrt-rtx",
    "version": "1.7.1",
    "gpu": {"name": "A GPU", "compute_capability": "8.9"},
    "system": "Linux x86_64",
    "sha256": hashlib.sha256(ENGINE).hexdigest(),
    "size_bytes": len(ENGINE),
    "precision": "fp32",
    "batches": [1, 8],
    "input_name": "images",
    "input_shape": [1, SIZE, SIZE],
    "output_names": ["logits"],
    "source": {"onnx_sha256": "0" * 64},
    "spec": None,
    "normalization": {"mean": [0.5], "std": [0.25]},
    "classes": [str(label) for label in range(CLASSES)],
    "fidelity": None,
}
COMMANDS = (
    "profile net.engine --runtime tensorrt-rtx --batch 1",
    "profile net.engine",
    "evaluate net.engine --data data.npz",
    "check net.engine --baseline none.json",
)


def _words(bench: Bench, document: Any, engine: bytes = ENGINE, command: int = 0) -> Sequence[str]:
    bench.write("net.engine", engine)
    bench.write("net.engine.json", document if isinstance(document, bytes) else to_json(document))
    bench.copy("data.npz")
    return COMMANDS[command].split()


@KIND.damaged
def damage(bench: Bench) -> Sequence[str]:
    """Fields of the description, its bytes, or the engine's."""
    rng = bench.rng
    command = rng.choice((0, 0, 0, 0, 1, 2, 3))
    if rng.random() < 0.75:
        return _words(bench, damaged_values(VALID, rng), command=command)
    if rng.random() < 0.5:
        return _words(bench, damaged(json.dumps(VALID).encode(), rng), command=command)
    engine = damaged(ENGINE, rng)
    digest = hashlib.sha256(engine).hexdigest()
    return _words(bench, VALID | {"sha256": digest, "size_bytes": len(engine)}, engine, command)


def _with(name: str, /, **changes: Any) -> None:
    KIND.add(name, lambda bench: _words(bench, VALID | changes))


_with("a shape of 10^12", input_shape=[10**12, 10**12])
_with("a shape that is infinite", input_shape=[float("inf")])
_with("batches of -1", batches=[-1, 0])
_with("an infinite size", size_bytes=float("inf"))
_with("a GPU that is a list", gpu=[1])
_with("a GPU of unknown keys", gpu={"a": 1})
_with("a source that is null", source=None)
_with("classes that are a number", classes=5)
_with("a normalisation without a mean", normalization={"std": [1]})
_with("a normalisation of NaN", normalization={"mean": [float("nan")], "std": [0]})
_with("a network of another form", spec={"family": "wrn", "depth": 10**12})
_with("a fidelity of another form", fidelity={"x": 1})
_with("a description 100,000 deep", gpu=nested("lists", DEEP))
_with("an input name of a surrogate", input_name="\ud800")
KIND.add("a description that is a list", lambda bench: _words(bench, [1, 2]))
KIND.add("a description that is nothing but nesting", lambda bench: _words(bench, b"[" * DEEP))


def _engine(name: str) -> Sequence[str]:
    return ["profile", name, "--runtime", "tensorrt-rtx", "--batch", "1"]


@KIND.by_hand("a FIFO as the description")
def fifo(bench: Bench) -> Sequence[str]:
    """Nobody ever writes into it."""
    import os

    bench.write("net.engine", ENGINE)
    os.mkfifo(bench.files / "net.engine.json")
    return _engine("net.engine")


add_special(KIND, "net.engine", _engine)
