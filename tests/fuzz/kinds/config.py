"""--config: a TOML file of options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.fuzz.case import Bench, Kind
from tests.fuzz.damage import damaged
from tests.fuzz.kinds.special import add_special
from tests.fuzz.values import DEEP, to_toml
from tests.fuzz.values import damaged as damaged_values

KIND = Kind("config")

VALID: dict[str, Any] = {
    "recipes": {"json": True},
    "distill": {"epochs": 3, "budget-ms": 2.0, "teacher": ["a.pt"], "seed": 1, "set": ["tau=2"]},
    "profile": {"threads": 1, "batch": "1,8", "shape": "3,8,8", "layers": True},
    "check": {"max-slowdown": "3%", "percentile": 99.0, "inconclusive": "warn"},
    "baseline": {"update": {"reason": "x", "batch": 8}, "show": {"json": True}},
    "evaluate": {"threads": 1, "seed": 0, "image-size": 8, "validation": 4},
    "reproduce": {"max-minutes": 1.0, "scale": 0.1, "data": ["a=b"]},
    "select": {"threads": 1, "budget-ms": 2.0, "epochs": 2, "all": False},
}
WORDS = ["--config", "compress.toml"]


@KIND.damaged
def damage(bench: Bench) -> Sequence[str]:
    """Fields that are wrong, or bytes."""
    if bench.rng.random() < 0.7:
        document = damaged_values(VALID, bench.rng)
        text = to_toml(document if isinstance(document, dict) else {"distill": document})
        content = text.encode(errors="surrogatepass")
    else:
        content = damaged(to_toml(VALID).encode(), bench.rng, b"[a.b]\nc = [1,\n{x=1}]\n")
    bench.write("compress.toml", content)
    if bench.rng.random() < 0.5:
        return [*WORDS, "recipes"]
    bench.copy("model.onnx")
    bench.copy("data.npz")
    return [*WORDS, "evaluate", "model.onnx", "--data", "data.npz"]


def _text(name: str, text: str, *, refused: bool = True) -> None:
    def make(bench: Bench) -> Sequence[str]:
        bench.write("compress.toml", text)
        return [*WORDS, "recipes"]

    KIND.add(name, make, refused=refused)


_text("lists 100,000 deep", "[distill]\nseed = " + "[" * DEEP + "]" * DEEP + "\n")
_text("lists 500 deep", "[distill]\nseed = " + "[" * 500 + "]" * 500 + "\n")
_text("tables 5,000 deep", "[distill]\nseed = " + "{a=" * 5000 + "1" + "}" * 5000 + "\n")
_text("a dotted name of 50,000 parts", "[distill]\n" + "a." * 50_000 + "a = 1\n")
_text("a table's name of 50,000 parts", "[" + "a." * 50_000 + "a]\nb = 1\n")
_text("20,000 dotted keys", "".join(f"a{n}.b.c.d = {n}\n" for n in range(20_000)))
_text("a number of 100,000 digits", "[distill]\nseed = " + "9" * 100_000 + "\n")
_text("infinity as a budget", "[distill]\nbudget-ms = inf\nseed = -1\n")
_text("not a number as epochs", "[distill]\nepochs = nan\n")
_text("a date as a seed", "[distill]\nseed = 1979-05-27T07:32:00Z\n")
_text("a line of 5 MB", "[distill]\nout = '" + "x" * 5_000_000 + "'\n", refused=False)
_text("bytes that are not UTF-8", "[distill]\nout = '\udcff\udcfe'\n")
_text("a byte order mark and zeros", "\ufeff[distill]\n\x00\x00\n")
_text("the same table twice", "[distill]\nseed=1\n[distill]\nseed=2\n")
_text("a key of the group", '[compress]\ndebug = true\n"" = 1\n')
_text("a table in place of a number", "[distill.seed]\na = 1\n")
_text("a list in place of a command", "distill = [1, 2]\n")


@KIND.by_hand("threads of 1,000,000", refused=False)
def threads(bench: Bench) -> Sequence[str]:
    """More threads than a system has."""
    bench.write("compress.toml", "[evaluate]\nthreads = 1000000\n")
    bench.copy("model.onnx")
    bench.copy("data.npz")
    return [*WORDS, "evaluate", "model.onnx", "--data", "data.npz"]


add_special(
    KIND,
    "compress.toml",
    lambda name: ["--config", name, "recipes"],
    skip=("an empty file", "a link to /dev/stdin"),
)
