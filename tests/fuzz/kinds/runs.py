"""A run folder: what it says of itself, the state of its training, and what came out."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.fuzz.case import Bench, Kind
from tests.fuzz.damage import damaged
from tests.fuzz.kinds.pickles import Executes
from tests.fuzz.kinds.special import add_special
from tests.fuzz.stock import RUN
from tests.fuzz.values import DEEP, nested, to_json
from tests.fuzz.values import damaged as damaged_values

KIND = Kind("run folder")
JSON = ("run.json", "result.json", "choice.json")
OTHERS = ("metrics.jsonl", "tradeoff.csv", "student.onnx", "student.safetensors", "last.ckpt")
STATES = ("last.ckpt", "previous.ckpt")
WORDS = [*RUN[: RUN.index("--outputs-dir")], "--outputs-dir", "outputs"]


def _copy(bench: Bench, *, finished: bool = True) -> Path:
    """A run with its data, teacher and caches; gives its folder."""
    import shutil

    made = bench.copy("run", "all")
    for entry in sorted(made.iterdir()):
        target = bench.folders.cache / "compress" if entry.name == "cache" else bench.files
        entry.rename(target if entry.name == "cache" else target / entry.name)
    shutil.rmtree(made)
    run = bench.files / "run"
    if not finished:
        (run / "result.json").unlink()
    return run


@KIND.damaged
def damage(bench: Bench) -> Sequence[str]:
    """A field or bytes of one of the files; the run is finished, or was killed near its end."""
    rng = bench.rng
    # What is read when a run goes on takes seconds, so it is the rarer.
    run = _copy(bench, finished=rng.random() < 0.75)
    there = [name for name in (*JSON, *JSON, *OTHERS) if (run / name).exists()]
    target = run / rng.choice(there)
    content = target.read_bytes()
    if target.suffix == ".json" and rng.random() < 0.8:
        target.write_text(to_json(damaged_values(json.loads(content), rng)))
    else:
        target.write_bytes(damaged(content, rng))
    if rng.random() < 0.2 and (run / "student.onnx").exists():
        return ["evaluate", "run/student.onnx", "--data", "data.npz"]
    return WORDS


def _json(name: str, file: str, change: Callable[[dict[str, Any]], object]) -> None:
    def make(bench: Bench) -> Sequence[str]:
        run = _copy(bench)
        document = json.loads((run / file).read_bytes())
        change(document)
        (run / file).write_text(to_json(document))
        return WORDS

    KIND.add(name, make)


def _text(name: str, file: str, text: str) -> None:
    def make(bench: Bench) -> Sequence[str]:
        (_copy(bench) / file).write_text(text)
        return WORDS

    KIND.add(name, make)


_json("a configuration that is a list", "run.json", lambda d: d.update(config=[1]))
_json("a training that is null", "run.json", lambda d: d["config"].update(training=None))
_json(
    "an epoch number of 10^12", "run.json", lambda d: d["config"]["training"].update(epochs=10**12)
)
_json("a configuration 100,000 deep", "run.json", lambda d: d.update(config=nested("lists", DEEP)))
_json("a result without a student", "result.json", lambda d: d.pop("student", None))
_json("a student that is null", "result.json", lambda d: d.update(student=None))
_json("a teacher that is a list", "result.json", lambda d: d.update(teacher=[1, 2]))
for _key in ("budget", "precisions", "data", "warnings", "target", "schema_version"):
    _json(
        f"a result whose {_key} is null",
        "result.json",
        lambda d, key=_key: d.update({key: None}),  # type: ignore[misc]
    )
_text("a result 100,000 deep", "result.json", "[" * DEEP)
_text("a result that is a number", "result.json", "5")
_text("a result that is empty", "result.json", "")
_text("a run that is null", "run.json", "null")
_text("a run of 100,000 tables", "run.json", '{"config":' * DEEP)


@KIND.by_hand("a state that executes something", refused=False)
def executes(bench: Bench) -> Sequence[str]:
    """The newest state is a pickle with a command; the one before is whole, if there is one."""
    run = _copy(bench, finished=False)
    for name in STATES:
        (run / name).write_bytes(pickle.dumps({"epoch": Executes(bench.folders.marker)}))
    return WORDS


@KIND.by_hand("a state whose sizes lie", refused=False)
def other_state(bench: Bench) -> Sequence[str]:
    """A state of other tensors."""
    import torch

    run = _copy(bench, finished=False)
    for name in STATES:
        torch.save({"epoch": 10**12, "student": {"x": torch.zeros(1)}}, run / name)
    return WORDS


add_special(KIND, "run", lambda name: WORDS, "data.npz", "teacher.safetensors")
