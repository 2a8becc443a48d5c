"""What the tool keeps for later: a teacher's outputs, measurements, outcomes of own runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from compress.cli import COMMANDS
from tests.fuzz.case import Bench, Kind
from tests.fuzz.damage import damaged
from tests.fuzz.kinds.runs import WORDS
from tests.fuzz.kinds.special import SPECIAL
from tests.fuzz.stock import SELECT
from tests.fuzz.values import DEEP, nested, to_json
from tests.fuzz.values import damaged as damaged_values

KIND = Kind("cache")
OWN_RUN: dict[str, Any] = {
    "dataset_sha256": "0" * 64,
    "name": "wrn-10-1",
    "recipe": "dist",
    "epochs": 5,
    "train_images": 36,
    "error": 0.25,
    "images": 4,
    "seed": 0,
    "precision": "fp32",
}


#: What a field that is not among them holds, by its annotation.
USUAL: dict[str, Any] = {"str": "steps", "int": 1, "float": 0.5, "bool": False}


def _own_run(bench: Bench) -> dict[str, Any]:
    """A run on the data set of the stock."""
    from compress.tradeoff.runs import OwnRun

    known = OWN_RUN | {"dataset_sha256": _sha256(bench)}
    return {
        field.name: known.get(field.name, USUAL.get(str(field.type))) for field in fields(OwnRun)
    }


def _latency(bench: Bench) -> Path:
    """The cache of measurements; gives its one file."""
    made = bench.copy("latency")
    target = bench.folders.cache / "compress/latency"
    target.parent.mkdir(parents=True)
    shutil.move(made, target)
    return next(iter(sorted(target.glob("*.json"))))


def _outputs(bench: Bench) -> Path:
    """What is kept of a teacher's outputs, for a run that is to be made again; gives its folder."""
    made = bench.copy("run", "all")
    for name in ("data.npz", "teacher.safetensors", "outputs"):
        (made / name).rename(bench.files / name)
    (made / "cache").rename(bench.folders.cache / "compress")
    shutil.rmtree(made)
    return next(path.parent for path in sorted((bench.files / "outputs").rglob("facts.json")))


def _sha256(bench: Bench) -> str:
    """Of the data set as own runs name it."""
    from compress.data.dataset import load_dataset

    return load_dataset(str(bench.copy("data.npz"))).sha256


def _own_runs(bench: Bench, content: bytes | str) -> Sequence[str]:
    folder = bench.folders.cache / "compress"
    folder.mkdir(parents=True)
    data = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    (folder / "runs.jsonl").write_bytes(data)
    bench.copy("table.json")
    words = "select --data data.npz --threads 1 --budget-mb 0.4 --tradeoff table.json"
    if "runs" in COMMANDS and bench.rng.random() < 0.4:
        words = "runs list"
    return words.split()


@KIND.damaged
def damage(bench: Bench) -> Sequence[str]:
    """Fields or bytes of one of them; what takes a training is the rarest."""
    rng = bench.rng
    which = rng.random()
    if which < 0.7:
        lines = []
        own = _own_run(bench)
        for _ in range(3):
            line = " ".join(to_json(damaged_values(own, rng)).split()).encode()
            lines.append(damaged(line, rng) if rng.random() < 0.3 else line)
        return _own_runs(bench, b"\n".join([*lines, json.dumps(own).encode()]))
    if which < 0.95:
        target = _latency(bench)
        words: Sequence[str] = SELECT
    else:
        target = rng.choice([*sorted(_outputs(bench).glob("*.*"))])
        words = WORDS
    content = target.read_bytes()
    if target.suffix == ".json" and rng.random() < 0.7:
        target.write_text(to_json(damaged_values(json.loads(content), rng)))
    else:
        target.write_bytes(damaged(content, rng))
    return words


def _run(name: str, /, **changes: Any) -> None:
    def make(bench: Bench) -> Sequence[str]:
        own = _own_run(bench)
        lines = [" ".join(to_json(own | change).split()) for change in ({}, changes)]
        return _own_runs(bench, "\n".join(lines))

    KIND.add(name, make, refused=False)


_run("an own run 100,000 deep", name=nested("lists", DEEP))
_run("an own run of 1,500 tables", name=nested("tables", 1500))
_run("an own run of a network of width 10^12", name="wrn-10-1000000000000")
_run("an own run of depth 10^12", name="wrn-1000000000006-1")
_run("an own run with an error of NaN", error=float("nan"))
_run("an own run with an error of infinity", error=float("inf"))
_run("an own run of 10^300 images", images=10**300, train_images=10**300, epochs=10**300)
_run("an own run of -1 images", images=-1)
_run("an own run with an error of 10^400", error=10**400)
_run("an own run that is called like a surrogate", name="\ud800", recipe="\udfff")


@KIND.by_hand("a measurement that is infinite", refused=False)
def infinite(bench: Bench) -> Sequence[str]:
    """Sizes and times that no arithmetic survives."""
    target = _latency(bench)
    document = json.loads(target.read_bytes())
    odd: Sequence[Any] = (float("inf"), float("nan"), -1, None, "x", 10**400, [])
    for place, entry in enumerate(document["measured"].values()):
        entry["size_bytes"] = odd[place % len(odd)]
        entry["latency_s"]["high"] = odd[(place + 3) % len(odd)]
    target.write_text(to_json(document))
    return SELECT


@KIND.by_hand("measurements 100,000 deep", refused=False)
def deep(bench: Bench) -> Sequence[str]:
    """The cache is nested beyond what a parser takes."""
    _latency(bench).write_text('{"measured": ' + "[" * DEEP)
    return SELECT


for _what in ("a FIFO", "a link to /dev/zero", "a folder", "a terabyte of nothing"):

    def _special(bench: Bench, what: str = _what) -> Sequence[str]:
        target = _latency(bench)
        target.unlink()
        SPECIAL[what](target)
        return SELECT

    def _special_runs(bench: Bench, what: str = _what) -> Sequence[str]:
        _sha256(bench)
        words = _own_runs(bench, "")
        target = bench.folders.cache / "compress/runs.jsonl"
        target.unlink()
        SPECIAL[what](target)
        return words

    KIND.add(f"{_what} as measurements", _special, refused=False)
    KIND.add(f"{_what} as own runs", _special_runs, refused=False)
