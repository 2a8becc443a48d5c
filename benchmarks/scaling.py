r"""Peak memory and time of a training, by images, teacher, classes and views.

    taskset -c 0,1 python -m benchmarks.scaling --trials runs/scaling \
        --output benchmarks/results/scaling.md

One thing is varied at a time. Each point is a whole training in a fresh process, from an .npz file
of random images, with the peak of the process's memory beside what it is before any data is read,
with everything imported. Networks are untrained: what a step takes depends on no weights. A point
is a line of a file in the folder of trials, so the program can be stopped and started.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.listening import Plain
from benchmarks.step_parts import (
    BACKWARD,
    FORWARD,
    LOSS,
    OPTIMIZER,
    TEACHER,
    TEACHER_PASSES,
    VALIDATION,
    Clock,
    TimedOutputs,
    TimedRecipe,
    time_outputs,
    time_passes,
    timed_engine,
)
from benchmarks.step_speed import settle_on_cpus
from benchmarks.trials import append, read
from benchmarks.untaught import untaught
from compress.data.dataset import load_dataset, to_device
from compress.models.registry import spec_of
from compress.profiling.costs import costs_of_module
from compress.profiling.machine import fingerprint
from compress.recipes.registry import make_recipe
from compress.teachers.network import NetworkTeacher
from compress.training.device import choose_device
from compress.training.engine import fit
from compress.training.kept import outputs_of
from compress.training.options import TrainingOptions
from compress.training.runfolder import RunFolder
from compress.training.student import first_network
from compress.units import format_bytes

POINTS = "scaling.jsonl"
STEPS = (FORWARD, LOSS, BACKWARD, OPTIMIZER)
TEACHING = (TEACHER, TEACHER_PASSES)
# Test images of the data set: the fewest that it may have of each class.
TEST_IMAGES_A_CLASS = 1


@dataclass(frozen=True)
class Point:
    """One training.

    Attributes:
        images: that are learned from.
        teacher, student: names of networks.
        classes: of the images.
        views: see ``TrainingOptions``.
        recipe: its name.
        epochs: of the student.
        device: that trains.
        threads: of torch, where a CPU trains.
    """

    images: int = 5000
    teacher: str = "wrn-16-2"
    student: str = "wrn-10-1"
    classes: int = 10
    views: int = 1
    recipe: str = "kd"
    epochs: int = 5
    device: str = "cpu"
    threads: int = 2


AXES: dict[str, tuple[Any, ...]] = {
    "images": (5000, 10_000, 20_000, 40_000),
    "teacher": ("wrn-16-1", "wrn-16-2", "wrn-16-4", "wrn-40-4"),
    "classes": (10, 100, 1000),
    "views": (1, 2, 4, 0),
}
# With maps of the teacher kept, which are what takes memory: a method that learns them.
FEATURES_AXES: dict[str, tuple[Any, ...]] = {"views": (2, 4)}
FEATURES_RECIPE = "fitnet"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=Path, help="a folder")
    parser.add_argument("--output", type=Path, help="a Markdown file")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of images")
    parser.add_argument("--threads", type=int, default=2, help="CPUs, where a CPU trains")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--point", help="JSON; measures it in this process and prints it")
    asked = parser.parse_args()
    if asked.point is not None:
        print(json.dumps(measure(Point(**json.loads(asked.point)))))
        return
    if asked.trials is None or asked.output is None:
        parser.error("--trials and --output are needed")
    end_s = time.monotonic() + 60 * asked.minutes
    asked.trials.mkdir(parents=True, exist_ok=True)
    file = asked.trials / POINTS
    machine = fingerprint().digest
    done = read(file)
    if any(line["machine"] != machine for line in done):
        sys.exit(f"{file} is of another machine; name another folder.")
    base = Point(device=choose_device(asked.device).type, threads=asked.threads)
    for point in points(base, asked.scale):
        if any(line["point"] == asdict(point) for line in read(file)):
            continue
        if time.monotonic() >= end_s:
            break
        found = {"machine": machine, "point": asdict(point), **in_fresh_process(point)}
        print(found, flush=True)
        append(file, found)
    text = "\n".join(markdown(read(file), base, asked.scale))
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(text, encoding="utf-8")
    print(text)


def axes(base: Point, scale: float) -> Iterator[tuple[str, list[Point]]]:
    """What is varied, and the points of it in order."""
    base = replace(base, images=round(scale * base.images))
    for name, values in AXES.items():
        if name == "images":
            values = tuple(round(scale * value) for value in values)
        yield name, [replace(base, **{name: value}) for value in values]
    for name, values in FEATURES_AXES.items():
        chosen = replace(base, recipe=FEATURES_RECIPE)
        yield (
            f"{name}, {FEATURES_RECIPE}",
            [replace(chosen, **{name: value}) for value in values],
        )


def points(base: Point, scale: float) -> list[Point]:
    """All of them, each once."""
    return list(dict.fromkeys(point for _, each in axes(base, scale) for point in each))


def in_fresh_process(point: Point) -> dict[str, Any]:
    """What a process of its own finds."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--point", json.dumps(asdict(point))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(point: Point) -> dict[str, Any]:
    """The training in this process: seconds by part, and memory."""
    device = torch.device(point.device)
    settle_on_cpus(point.threads, device)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "random.npz")
        write_images(path, point)
        return train(point, device, path, Path(scratch))


def write_images(path: Path, point: Point) -> None:
    """In a process of its own, so that making them is in nobody's peak."""
    program = (
        "import sys, numpy\n"
        "path, train, test, classes = sys.argv[1], *map(int, sys.argv[2:])\n"
        "rng = numpy.random.default_rng(0)\n"
        "x, y = ([rng.integers(0, 256, (n, 32, 32, 3), numpy.uint8) for n in (train, test)],\n"
        "        [numpy.arange(n) % classes for n in (train, test)])\n"
        "numpy.savez(path, x_train=x[0], y_train=y[0], x_test=x[1], y_test=y[1])\n"
    )
    # A tenth is held out for validation.
    counts = (round(point.images / 0.9), TEST_IMAGES_A_CLASS * point.classes, point.classes)
    subprocess.run([sys.executable, "-c", program, str(path), *map(str, counts)], check=True)


def train(point: Point, device: torch.device, path: Path, scratch: Path) -> dict[str, Any]:
    """As ``compress distill`` trains, in a run folder."""
    before_bytes = high_water_bytes()
    clock, listener = Clock(device), Plain("scaling")
    options = TrainingOptions(epochs=point.epochs, lr=0.01, views=point.views)
    recipe = TimedRecipe(make_recipe(point.recipe), clock)
    began_s = time.perf_counter()
    data = to_device(load_dataset(str(path), limit_train=point.images), device)
    read_s = time.perf_counter() - began_s
    teacher_spec, student_spec = (
        spec_of(name, num_classes=data.task.width, input_shape=data.input_shape)
        for name in (point.teacher, point.student)
    )
    teacher = untaught(teacher_spec, device)
    student = first_network(student_spec, 0)
    time_outputs(teacher, clock, TEACHER_PASSES)
    time_passes(student, clock, VALIDATION)
    began_s = time.perf_counter()
    clock.take()
    with timed_engine(clock):
        outputs = outputs_of(
            [NetworkTeacher(teacher, data.normalization)],
            recipe.teacher_outputs,
            data,
            options,
            folder=scratch / "outputs",
            say=listener.message,
        )
        folder = RunFolder(scratch / "run", {})
        with folder.alone():
            folder.begin({})
            fit(
                recipe,
                student,
                data,
                options,
                teacher=None if outputs is None else TimedOutputs(outputs, clock),
                folder=folder,
                listener=listener,
            )
    on_gpu = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    return {
        "when": time.strftime("%Y-%m-%d"),
        "read_s": read_s,
        "seconds": time.perf_counter() - began_s,
        "parts": clock.take(),
        "before_bytes": before_bytes,
        "peak_bytes": high_water_bytes(),
        "gpu_bytes": on_gpu,
        "image_bytes": data.train.images.shape.numel(),
        "kept_bytes": sum(f.stat().st_size for f in (scratch / "outputs").rglob("*.npy")),
        "teacher_macs": costs_of_module(teacher, data.input_shape).macs,
    }


def high_water_bytes() -> int:
    """The most memory that this process has had at once."""
    try:
        # What getrusage says is the parent's at first, and may stay that.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


# --- report --------------------------------------------------------------------------------------


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """p where values grow as sizes to the power of p, by least squares of the logarithms.

    None of fewer than two sizes, or where a value is 0.
    """
    if len(set(sizes)) < 2 or min(values) <= 0 or min(sizes) <= 0:
        return None
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def markdown(lines: Sequence[Mapping[str, Any]], base: Point, scale: float) -> list[str]:
    """The page, of whatever points there are."""
    machine = fingerprint()
    on = machine.gpu if base.device == "cuda" else f"{machine.cpu}, {base.threads} thread(s)"
    shown = replace(base, images=round(scale * base.images))
    page = [
        "# Memory and time of a training, by images, teacher, classes and views",
        "",
        f"{time.strftime('%Y-%m-%d')}, {on}, torch {torch.__version__}; "
        "`python -m benchmarks.scaling`. Random images of 32x32 pixels. What is not varied: "
        f"{shown.images:,} images, {shown.teacher} to {shown.student}, {shown.classes} classes, "
        f"{shown.views} view, recipe {shown.recipe}, {shown.epochs} epochs of batch 128. Each "
        "training in a fresh process. Memory: the peak, beyond what the process has before it "
        "reads its data; images: as bytes. 0 views: the teacher in every step.",
    ]
    for name, wanted in axes(base, scale):
        rows = [line for point in wanted for line in lines if line["point"] == asdict(point)]
        if rows:
            page += ["", f"## {name.capitalize()}", "", *table(name.split(",")[0], rows)]
    before = [line["before_bytes"] for line in lines]
    if before:
        page += [
            "",
            f"Before reading: {format_bytes(min(before))} to {format_bytes(max(before))}, torch "
            "and what the product imports.",
        ]
    return [*page, ""]


def table(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row a point, and how everything grows."""
    gpu = any(line["gpu_bytes"] is not None for line in rows)
    columns = [
        name,
        "reading, s",
        "training, s",
        "teacher, s",
        "student's steps, s",
        "everything else, s",
        "peak memory",
        *(["on the GPU"] if gpu else []),
        "images",
        "teacher's outputs on disk",
    ]
    page = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for line in rows:
        teaching, steps, rest = seconds_of(line)
        cells = [
            str(line["point"][name]),
            f"{line['read_s']:.1f}",
            f"{line['seconds']:.1f}",
            f"{teaching:.1f}",
            f"{steps:.1f}",
            f"{rest:.1f}",
            format_bytes(line["peak_bytes"] - line["before_bytes"]),
            *([format_bytes(line["gpu_bytes"])] if gpu else []),
            format_bytes(line["image_bytes"]),
            format_bytes(line["kept_bytes"]),
        ]
        page.append(f"| {' | '.join(cells)} |")
    growing = [line for line in rows if line["point"]["views"] != 0]
    sizes = [size_of(name, line) for line in growing]
    said = []
    for what, values in (
        ("training", [line["seconds"] for line in growing]),
        ("the teacher's", [seconds_of(line)[0] for line in growing]),
        ("memory", [line["peak_bytes"] - line["before_bytes"] for line in growing]),
    ):
        power = exponent(sizes, values) if growing else None
        if power is not None:
            said.append(f"{what} by {power:.2f}")
    if said:
        of = "the teacher's multiply-accumulates" if name == "teacher" else f"the {name}"
        page += ["", f"Grows with {of} to the power of: {', '.join(said)}."]
    return page


def seconds_of(line: Mapping[str, Any]) -> tuple[float, float, float]:
    """Of the teacher, of the student's steps, and of all else after reading."""
    parts = line["parts"]
    teaching, steps = (sum(parts.get(part, 0.0) for part in each) for each in (TEACHING, STEPS))
    return teaching, steps, sum(parts.values()) - teaching - steps


def size_of(name: str, line: Mapping[str, Any]) -> float:
    """What is varied, as a number."""
    return float(line["teacher_macs"] if name == "teacher" else line["point"][name])


if __name__ == "__main__":
    main()
