"""The TOML file of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.fuzz.case import Bench, Kind
from tests.fuzz.damage import damaged
from tests.fuzz.kinds.special import add_special
from tests.fuzz.stock import CLASSES, SIZE, TEST, TRAIN
from tests.fuzz.values import DEEP, nested, to_toml
from tests.fuzz.values import damaged as damaged_values

KIND = Kind("experiment")

VALID: dict[str, Any] = {
    "name": "small",
    "title": "A small experiment",
    "source": "nowhere",
    "measure": "accuracy",
    "statistic": "mean",
    "seeds": [0, 1],
    "timing_batch": 10,
    "figures": ["curves"],
    "schedule": {"epochs": 1, "batch_size": 20, "lr": 0.1, "milestones": [0.5], "views": 1},
    "teacher_schedule": {"epochs": 2},
    "methods": [
        {"name": "student", "recipe": "supervised"},
        {"name": "KD", "recipe": "kd", "options": {"temperature": 2.0}},
    ],
    "tasks": [
        {
            "name": "small",
            "data": "data.npz",
            "validation": 4,
            "images": {"train": TRAIN, "test": TEST, "classes": CLASSES, "shape": [1, SIZE, SIZE]},
            "students": ["wrn-10-1"],
            "teacher": {"arch": "wrn-10-1", "paper": 4.2},
            "paper": {"wrn-10-1": {"student": 7.5, "KD": 7.2}},
        }
    ],
    "timing": [{"network": "wrn-10-1", "paper_s": 0.1}],
}


def _words(bench: Bench, text: str | bytes) -> Sequence[str]:
    bench.write("own.toml", text)
    bench.copy("data.npz")
    return ["reproduce", "own.toml", "--plan", "--device", "cpu", "--out", "table"]


@KIND.damaged
def damage(bench: Bench) -> Sequence[str]:
    """Fields that are wrong, or bytes."""
    if bench.rng.random() < 0.8:
        document = damaged_values(VALID, bench.rng)
        text = to_toml(document if isinstance(document, dict) else {"tasks": document})
        return _words(bench, text)
    return _words(bench, damaged(to_toml(VALID).encode(), bench.rng))


def _with(name: str, /, *, refused: bool = True, **changes: Any) -> None:
    KIND.add(name, lambda bench: _words(bench, to_toml(VALID | changes)), refused=refused)


def _task(name: str, /, *, refused: bool = True, **changes: Any) -> None:
    task = VALID["tasks"][0] | changes
    # What is declared of the images is believed before any are read.
    task = {key: value for key, value in task.items() if value is not None}
    _with(name, refused=refused, tasks=[task])


def _schedule(name: str, /, *, refused: bool = True, **changes: Any) -> None:
    _with(name, refused=refused, schedule=VALID["schedule"] | changes)


IMAGES = VALID["tasks"][0]["images"]
_with("seeds of 10^12", seeds=[10**12, -1], refused=False)
_with("a list of 5,000 seeds", seeds=list(range(5000)), refused=False)
_with("lists 100,000 deep", seeds=nested("lists", DEEP))
_with("tables 1,500 deep", schedule=nested("tables", 1500))
_with("a name that leaves the folder", name="../../../outside", refused=False)
_with("a name of 5,000 letters", name="x" * 5000, refused=False)
_with("no methods", methods=[])
_with("a batch of 10^12 to be timed", timing_batch=10**12)
_with("an infinite figure", timing=[{"network": "wrn-10-1", "paper_s": float("inf")}])
_schedule("10^12 epochs", epochs=10**12)
_schedule("an infinite learning rate", lr=float("inf"))
_schedule("a batch of 10^12", batch_size=10**12)
_schedule("padding of 10^6 pixels", crop_padding=10**6)
_schedule("10^9 views", views=10**9)
_schedule("milestones that are not numbers", milestones=[float("nan"), -1.0])
_task("images of 10^6 x 10^6", images=IMAGES | {"shape": [3, 10**6, 10**6]})
_task("10^12 classes", images=IMAGES | {"classes": 10**12})
_task("-1 training images", images=IMAGES | {"train": -1})
_task("10^15 training images", images=IMAGES | {"train": 10**15}, refused=False)
_task("a student of depth 10^9", students=["wrn-1000000006-1"])
_task("a student of width 10^9", students=["wrn-10-1000000000"])
_task("a teacher of width 100,000", teacher={"arch": "wrn-10-100000"})
_task("the root as data", data="/", images=None)
_task("a device as data", data="/dev/zero", images=None)
_task("a device as teacher", teacher={"arch": "wrn-10-1", "file": "/dev/zero"})
_task("a figure of infinity", paper={"wrn-10-1": {"student": float("inf")}})

add_special(KIND, "own.toml", lambda name: ["reproduce", name, "--plan", "--device", "cpu"])
