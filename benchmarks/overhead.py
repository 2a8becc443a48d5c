r"""How much of a training is spent outside forward, backward and optimiser?

    taskset -c 0,1 python -m benchmarks.overhead --epochs 12 --repeats 3 \
        --trials runs/overhead --output benchmarks/results/overhead.md

Trains a student in a run folder as ``compress distill`` does, from reading the data to the last
epoch, the teacher's outputs computed anew, and adds up where the time goes. The default is what
``make demo`` trains on, whose small networks make the most of whatever is beside them. A training
is a line of a file in the folder of trials, so the program can be stopped and started, and other
trainings be added to the page.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from benchmarks.listening import Plain
from benchmarks.step_parts import (
    BACKWARD,
    DATA,
    FORWARD,
    LOSS,
    OPTIMIZER,
    REST,
    SAVING,
    TEACHER,
    TEACHER_PASSES,
    VALIDATION,
    Clock,
    TimedOutputs,
    TimedRecipe,
    shares,
    time_outputs,
    time_passes,
    timed_engine,
)
from benchmarks.step_speed import settle_on_cpus
from benchmarks.trials import append, read
from compress.data.dataset import load_dataset, to_device
from compress.data.sources import embedded_teacher_path
from compress.models.registry import spec_of, with_dropout
from compress.profiling.machine import fingerprint
from compress.recipes.registry import DEFAULT_RECIPE, make_recipe
from compress.tasks.task import Task
from compress.teachers.checkpoint import open_checkpoint
from compress.teachers.sources import judge
from compress.training import probing
from compress.training.device import choose_device
from compress.training.engine import fit
from compress.training.evaluation import Predict, predictor
from compress.training.kept import outputs_of
from compress.training.options import TrainingOptions
from compress.training.runfolder import RunFolder
from compress.training.student import first_network

TRAININGS = "overhead.jsonl"
READING, LOADING = "reading the data", "loading the teacher"
# What a training is for: passes of a network, forth and back, and updates. The loss is the end of
# the one and the beginning of the other.
STUDENTS = (FORWARD, LOSS, BACKWARD, OPTIMIZER)
OTHERS = (TEACHER_PASSES, VALIDATION)
OUTSIDE = (DATA, TEACHER, SAVING, REST, READING, LOADING)
# What a training was of; what differs is another row.
KEYS = (
    "student",
    "teacher",
    "data",
    "recipe",
    "epochs",
    "batch_size",
    "views",
    "device",
    "threads",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=Path, required=True, help="a folder")
    parser.add_argument("--output", type=Path, required=True, help="a Markdown file")
    parser.add_argument("--data", default="default")
    parser.add_argument("--limit-train", type=int)
    parser.add_argument("--teacher", type=Path, help="[default: the embedded one]")
    parser.add_argument("--student", default="wrn-10-1")
    parser.add_argument("--recipe", default=DEFAULT_RECIPE, help="one that wants logits")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="0: the page alone")
    parser.add_argument("--threads", type=int, default=2, help="CPUs, where a CPU trains")
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    device = choose_device(asked.device)
    settle_on_cpus(asked.threads, device)
    asked.trials.mkdir(parents=True, exist_ok=True)
    file = asked.trials / TRAININGS
    about = {
        "machine": fingerprint().digest,
        "student": asked.student,
        "teacher": asked.teacher.name if asked.teacher else "embedded",
        "data": Path(asked.data).stem,
        "recipe": asked.recipe,
        "epochs": asked.epochs,
        "batch_size": asked.batch_size,
        "views": asked.views,
        "device": device.type,
        "threads": torch.get_num_threads(),
    }
    if any(line["machine"] != about["machine"] for line in read(file)):
        sys.exit(f"{file} is of another machine; name another folder.")
    done = [line for line in read(file) if all(line[key] == about[key] for key in KEYS)]
    for _ in range(asked.repeats - len(done)):
        found = {**about, **train(asked, device)}
        print(found, flush=True)
        append(file, found)
    text = "\n".join(markdown(read(file)))
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(text, encoding="utf-8")
    print(text)


def train(asked: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """One training; seconds by part."""
    clock = Clock(device)
    listener = Plain("overhead")
    options = TrainingOptions(
        epochs=asked.epochs,
        batch_size=asked.batch_size,
        lr=0.05,
        schedule="one-cycle",
        dropout=0.0,
        crop_padding=2,
        views=asked.views,
    )
    with clock.inside(READING):
        data = load_dataset(asked.data, limit_train=asked.limit_train)
        data = to_device(data, device)

    def timed_predictor(network: nn.Module, task: Task) -> Predict:
        time_passes(network, clock, TEACHER_PASSES)
        return predictor(network, task)

    # A teacher is probed and judged on the validation images when it is loaded.
    with (
        clock.inside(LOADING),
        patch.object(probing, "predictor", timed_predictor),
    ):
        opened = open_checkpoint(
            asked.teacher or embedded_teacher_path(),
            data,
            normalization=None,
            arch=None,
            device=device,
        )
        time_outputs(opened.teacher.network, clock, TEACHER_PASSES)
        teacher = judge(opened, data).teacher
    recipe = TimedRecipe(make_recipe(asked.recipe), clock)
    spec = spec_of(asked.student, num_classes=data.task.width, input_shape=data.input_shape)
    student = first_network(with_dropout(spec, 0.0), 0)
    time_passes(student, clock, VALIDATION)
    with tempfile.TemporaryDirectory() as scratch, timed_engine(clock):
        outputs = outputs_of(
            [teacher],
            recipe.teacher_outputs,
            data,
            options,
            folder=Path(scratch, "outputs"),
            say=listener.message,
        )
        folder = RunFolder(Path(scratch, "run"), {})
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
        return {"when": time.strftime("%Y-%m-%d"), "images": len(data.train), "parts": clock.take()}


def markdown(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The page, of whatever trainings there are."""
    machine = fingerprint()
    page = [
        "# The share of a training outside forward, backward and optimiser",
        "",
        f"{time.strftime('%Y-%m-%d')}, {machine.gpu or machine.cpu}, {machine.cpus} CPUs, torch "
        f"{torch.__version__}; `python -m benchmarks.overhead`. From reading the data to the last "
        "epoch, with checkpoints, the teacher's outputs computed anew. The loss is one of the "
        "student's steps; the teacher's and the validation's passes are forward passes too. "
        f"Outside are {', '.join(OUTSIDE)}, where 'teacher' is keeping and looking up what it "
        "said.",
        "",
        "| training | on | s | student's steps | teacher's, validation's passes | outside, % "
        "(each training) |",
        "|---|---|---|---|---|---|",
    ]
    for key, found in grouped(lines).items():
        about = dict(zip(KEYS, key, strict=True))
        whole = statistics.median(sum(line["parts"].values()) for line in found)
        outside = [100 * share_of(line["parts"], OUTSIDE) for line in found]
        page.append(
            f"| {named(about)}, {found[0]['images']:,} images | {about['device']}, "
            f"{about['threads']} thread(s) | {whole:.1f} | "
            f"{middle(found, STUDENTS):.1%} | {middle(found, OTHERS):.1%} | "
            f"{statistics.median(outside):.1f} ({', '.join(f'{each:.1f}' for each in outside)}) |"
        )
    parts = (*STUDENTS, *OTHERS, *OUTSIDE)
    page += ["", f"| training | {' | '.join(parts)} |", "|---|" + "---|" * len(parts)]
    for key, found in grouped(lines).items():
        cells = (f"{middle(found, (part,)):.2%}" for part in parts)
        page.append(f"| {named(dict(zip(KEYS, key, strict=True)))} | {' | '.join(cells)} |")
    return [*page, ""]


def named(about: Mapping[str, Any]) -> str:
    """What was trained."""
    views = f"{about['views']} view(s)" if about["views"] else "on the fly"
    return (
        f"{about['student']} on {about['data']}, {about['recipe']}, teacher {about['teacher']} "
        f"{views}, {about['epochs']} epochs of batch {about['batch_size']}"
    )


def grouped(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    """The lines of the same training, in the order in which they came."""
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for line in lines:
        found.setdefault(tuple(line[key] for key in KEYS), []).append(line)
    return found


def share_of(parts: Mapping[str, float], names: Sequence[str]) -> float:
    """Of several parts together."""
    return sum(shares(parts, names).values())


def middle(lines: Sequence[Mapping[str, Any]], names: Sequence[str]) -> float:
    """The median over trainings of such a share."""
    return statistics.median(share_of(line["parts"], names) for line in lines)


if __name__ == "__main__":
    main()
