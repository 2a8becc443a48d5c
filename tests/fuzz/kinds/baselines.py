"""compress-baseline.json, with a digest that is right."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from tests.fuzz.case import Bench, Kind
from tests.fuzz.damage import damaged
from tests.fuzz.kinds.special import add_special
from tests.fuzz.values import DEEP, nested, to_json
from tests.fuzz.values import damaged as damaged_values

KIND = Kind("baseline")
CHECK = shlex.split("check model.onnx --baseline baseline.json --data data.npz --max-seconds 0.1")
SHOW = shlex.split("baseline show baseline.json")


def _copy(bench: Bench) -> dict[str, Any]:
    """The files of a baseline; gives what it says."""
    for entry in sorted(bench.stock.path("baseline").iterdir()):
        bench.copy(f"baseline/{entry.name}", entry.name)
    found: dict[str, Any] = json.loads((bench.files / "baseline.json").read_bytes())
    return found


def _write(bench: Bench, document: Any) -> None:
    """Writes what a baseline says, with the digest of that."""
    from compress.gate.baseline import digest_of

    if isinstance(document, dict) and document.get("digest") is not None:
        # Of what stands in the file: nesting is written as text.
        try:
            document["digest"] = digest_of(json.loads(to_json(document)))
        except (RecursionError, ValueError):
            document["digest"] = "0" * 64
    bench.write("baseline.json", to_json(document))


@KIND.damaged
def damage(bench: Bench) -> Sequence[str]:
    """Fields that are wrong under a right digest, or bytes."""
    rng = bench.rng
    document = _copy(bench)
    if rng.random() < 0.15:
        bench.write("baseline.json", damaged(to_json(document).encode(), rng, b'{"digest": 1}'))
    else:
        _write(bench, damaged_values(document, rng))
    return SHOW if rng.random() < 0.5 else CHECK


def _changed(
    name: str, change: Callable[[dict[str, Any]], object], *, show: bool = True, check: bool = True
) -> None:
    def make(bench: Bench, words: Sequence[str]) -> Sequence[str]:
        document = _copy(bench)
        change(document)
        _write(bench, document)
        return words

    if show:
        KIND.add(f"{name}, shown", lambda bench: make(bench, SHOW))
    if check:
        KIND.add(f"{name}, checked", lambda bench: make(bench, CHECK))


def _set(*keys: Any, to: Any) -> Callable[[dict[str, Any]], object]:
    def change(document: dict[str, Any]) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = to

    return change


def _without(*keys: Any) -> Callable[[dict[str, Any]], object]:
    def change(document: dict[str, Any]) -> None:
        for key in keys[:-1]:
            document = document[key]
        del document[keys[-1]]

    return change


for _field in ("machine", "model", "evaluation_set", "settings", "task", "accuracy", "versions"):
    _changed(f"no {_field}", _without(_field))
    _changed(f"{_field} is null", _set(_field, to=None))
    _changed(f"{_field} is a list", _set(_field, to=[1, "two"]))
_changed("no machine.isa", _without("machine", "isa"))
_changed("no machine.cpu", _without("machine", "cpu"))
_changed("machine.engines is null", _set("machine", "engines", to=None))
_changed("machine.isa is a number", _set("machine", "isa", to=5))
_changed("a SHA-256 that is null", _set("model", "sha256", to=None))
_changed("a SHA-256 that is a list", _set("model", "sha256", to=["a"]))
_changed("a size of 0", _set("model", "size_bytes", to=0))
_changed("a size of -1", _set("model", "size_bytes", to=-1))
_changed("a size that is a text", _set("model", "size_bytes", to="large"))
_changed("a model at /dev/zero", _set("model", "file", to="/dev/zero"), show=False)
_changed(
    "a model outside of the folder", _set("model", "file", to="../../../../etc/passwd"), show=False
)
_changed("a model whose name holds a zero", _set("model", "file", to="a\u0000b"), show=False)
_changed("a batch of -1", _set("settings", "batch", to=-1))
_changed("a batch of 10^12", _set("settings", "batch", to=10**12))
_changed("threads of 1.5", _set("settings", "threads", to=1.5))
_changed("threads of 1,000,000", _set("settings", "threads", to=10**6))
_changed("a runtime that is null", _set("settings", "runtime", to=None))
_changed("a runtime that is a list", _set("settings", "runtime", to=["onnxruntime"]))
_changed("a shape of 10^12", _set("settings", "shape", to=[1, 10**12, 10**12]))
_changed("a percentile that is no number", _set("settings", "percentile", to="p99"))
_changed("an infinite latency", _set("latency_ms", "high", to=float("inf")))
_changed("a latency that is no number", _set("latency_ms", "median", to=float("nan")))
_changed("a latency of nothing", _set("latency_ms", to={"median": 0, "low": 0, "high": 0}))
_changed("10^12 images", _set("accuracy", "n", to=10**12))
_changed("-1 images", _set("accuracy", "n", to=-1))
_changed("no images", lambda d: d["accuracy"].update(n=0, right=0, bits=[]))
_changed("bits that are no list", _set("accuracy", "bits", to="AAAA"))
_changed("bits that are no text", _set("accuracy", "bits", to=[1, None]))
_changed("a normalisation of another form", _set("model", "normalization", to={"mean": "x"}))
_changed("an image size of -5", _set("evaluation_set", "image_size", to=-5))
_changed("a width that is a text", _set("task", "width", to="four"))
_changed("an image shape of 10^12", _set("task", "image_shape", to=[10**12, 8, 8]))
_changed("a reason that is a table", _set("reason", to={"a": 1}))
_changed("a teacher of another form", _set("teacher", to={"file": 1}))
_changed("lists 100,000 deep", _set("machine", "cpu", to=nested("lists", DEEP)))
_changed("tables 1,500 deep", _set("machine", "cpu", to=nested("tables", 1500)))


def _text(name: str, text: str) -> None:
    def make(bench: Bench) -> Sequence[str]:
        _copy(bench)
        bench.write("baseline.json", text)
        return SHOW

    KIND.add(name, make)


_text("JSON 100,000 deep", "[" * DEEP)
_text("a digest 100,000 deep", '{"digest": ' + '{"a":' * DEEP)
_text("a number of 100,000 digits", '{"digest": ' + "9" * DEEP + "}")
_text("a lone surrogate", '{"digest": "\\ud800", "schema_version": 1, "x": "\\udfff"}')
_text("a list", "[1, 2]")

add_special(KIND, "baseline.json", lambda name: ["baseline", "show", name])
