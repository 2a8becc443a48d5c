r"""Images a second of distillation: this engine beside the loop of the public repositories.

    taskset -c 0,1 python -m benchmarks.step_speed --teacher wrn-40-2 --student wrn-16-2 \
        --trials runs/speed --output benchmarks/results/step_speed.md

Blocks of steps of the two take turns in one process: the engine trains by ``fit``, as
``compress distill`` calls it, and after a block of its steps the other loop (see
``benchmarks/plain_loop.py``) does as many; then the teacher's outputs of one view of all images are
computed and kept in a new folder, for their time counts too. Once with kept outputs, once with the
teacher in every step. Networks and images are random: what a step takes depends on neither.

A round is a line of a file in the folder of trials, so the program can be stopped and started, and
other pairs of networks be added to the page.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.listening import Plain
from benchmarks.plain_loop import PlainLoop, wait
from benchmarks.step_parts import (
    PARTS,
    Clock,
    TimedOutputs,
    TimedRecipe,
    shares,
    timed_engine,
)
from benchmarks.trials import append, read
from benchmarks.untaught import images_of_nothing, untaught
from compress.models.registry import build, spec_of
from compress.profiling.costs import costs_of_module
from compress.profiling.estimates import ratio_of_rounds
from compress.profiling.machine import fingerprint
from compress.profiling.peak import product_for
from compress.recipes.registry import make_recipe
from compress.results import Estimate
from compress.teachers.network import NetworkTeacher
from compress.training.device import choose_device
from compress.training.engine import fit
from compress.training.kept import outputs_of
from compress.training.options import TrainingOptions
from compress.training.outputs import TeacherOutputs
from compress.training.student import first_network

ROUNDS = "step_speed.jsonl"
# Steps before those of a block that are timed; and before the first block, where compiled code is
# still being made.
WARM_UP, FIRST_WARM_UP = 2, 5
# Epochs that the teacher's outputs are spread over, and views an image; the first of the epochs is
# what the engine is told, which decides whether compiling pays.
EPOCHS = (240, 60, 12)
VIEWS = (1, 4)
# Images of an epoch, that what is done once a run is spread over: CIFAR's.
IMAGES = 50_000
# The other loop's workers go on until they have enough ready again.
SETTLE_S = 1.0
# Products that are timed for the peak.
PRODUCTS = 20
# A training step computes the forward pass three times over: once, and twice as much for gradients.
PASSES = 3
KEPT, ON_THE_FLY = 1, 0


class Enough(Exception):
    """Every round is done: the training is left."""


@dataclass(frozen=True)
class Condition:
    """What rounds have in common.

    Attributes:
        teacher, student: names of networks.
        views: KEPT or ON_THE_FLY.
        device: that trains.
        batch_size, images: of a step, and of the data set.
        autocast: see ``TrainingOptions``.
        threads, workers: of torch, and of the other loop's DataLoader.
    """

    teacher: str
    student: str
    views: int
    device: str
    batch_size: int
    images: int
    autocast: str
    threads: int
    workers: int

    def of(self, line: dict[str, Any]) -> bool:
        """Whether a round is one of these."""
        return all(line.get(key) == value for key, value in vars(self).items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=Path, required=True, help="a folder")
    parser.add_argument("--output", type=Path, required=True, help="a Markdown file")
    parser.add_argument("--teacher", default="wrn-40-2")
    parser.add_argument("--student", default="wrn-16-2")
    parser.add_argument("--rounds", type=int, default=8, help="of each way; 0: the page alone")
    parser.add_argument("--steps", type=int, default=8, help="of a block")
    parser.add_argument("--images", type=int, default=2560, help="of the data set")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2, help="CPUs, where a CPU trains")
    parser.add_argument("--workers", type=int, help="of the other loop [default: CPUs, at most 8]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--autocast", default="off")
    parser.add_argument("--minutes", type=float, default=math.inf)
    asked = parser.parse_args()
    device = choose_device(asked.device)
    settle_on_cpus(asked.threads, device)
    asked.trials.mkdir(parents=True, exist_ok=True)
    file = asked.trials / ROUNDS
    machine = fingerprint().digest
    if any(line["machine"] != machine for line in read(file)):
        sys.exit(f"{file} is of another machine; name another folder.")
    end_s = time.monotonic() + 60 * asked.minutes
    for views in (KEPT, ON_THE_FLY):
        condition = Condition(
            teacher=asked.teacher,
            student=asked.student,
            views=views,
            device=device.type,
            batch_size=asked.batch_size,
            images=asked.images,
            autocast=asked.autocast,
            threads=torch.get_num_threads(),
            workers=min(8, fingerprint().cpus) if asked.workers is None else asked.workers,
        )
        missing = asked.rounds - sum(map(condition.of, read(file)))

        def keep(found: dict[str, Any], condition: Condition = condition) -> None:
            line = {"machine": machine, **vars(condition), **found}
            print({key: value for key, value in line.items() if key != "machine"}, flush=True)
            append(file, line)

        if missing > 0 and time.monotonic() < end_s:
            Rounds(condition, asked.steps, keep).run(missing, end_s)
    text = "\n".join(markdown(read(file)))
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(text, encoding="utf-8")
    print(text)


def settle_on_cpus(threads: int, device: torch.device) -> None:
    """Keeps this process and its workers to so many CPUs, where a CPU trains."""
    if device.type != "cpu":
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)


class Rounds:
    """Rounds of one condition; the engine's ``fit`` is suspended while the other loop runs.

    Args:
        condition: what is measured.
        steps: of a block.
        keep: is given each round.
    """

    def __init__(
        self, condition: Condition, steps: int, keep: Callable[[dict[str, Any]], None]
    ) -> None:
        self.condition, self.steps, self.keep = condition, steps, keep
        self.device = torch.device(condition.device)
        self.data = images_of_nothing(condition.images, device=self.device)
        specs = (spec_of(name) for name in (condition.teacher, condition.student))
        self.teacher_spec, self.student_spec = specs
        self.teacher = untaught(self.teacher_spec, self.device)
        self.options = TrainingOptions(
            epochs=EPOCHS[0],
            batch_size=condition.batch_size,
            lr=0.01,
            dropout=0.0,
            views=condition.views,
            autocast=condition.autocast,
        )
        self.plain = PlainLoop(
            untaught(self.teacher_spec, self.device),
            build(self.student_spec).to(self.device),
            self.data,
            batch_size=condition.batch_size,
            workers=condition.workers,
            device=self.device,
        )
        self.clock = Clock(self.device)
        self.listener = Plain(f"{condition.teacher} to {condition.student}")
        self.left, self.end_s, self.count = 0, math.inf, WARM_UP - FIRST_WARM_UP
        self.began_s = self.start_s = 0.0

    def run(self, rounds: int, end_s: float) -> None:
        """So many rounds, or as many as there is time for."""
        self.left, self.end_s = rounds, end_s
        recipe = make_recipe("kd")
        with tempfile.TemporaryDirectory() as folder, timed_engine(self.clock):
            outputs = self.outputs(Path(folder))
            if self.condition.views != ON_THE_FLY:
                self.ask(outputs)
            self.began_s = time.perf_counter()
            try:
                fit(
                    TimedRecipe(recipe, self.clock, self.after_step),
                    first_network(self.student_spec, 0),
                    self.data,
                    self.options,
                    teacher=TimedOutputs(outputs, self.clock),
                    folder=None,
                    listener=self.listener,
                )
            except Enough:
                return

    def after_step(self) -> None:
        """Called by the engine; the others' turn comes when a block is over."""
        if not self.start_s:
            wait(self.device)
            self.start_s = time.perf_counter() - self.began_s
        self.count += 1
        if self.count == WARM_UP:
            self.clock.take()
            wait(self.device)
            self.began_s = time.perf_counter()
        if self.count == WARM_UP + self.steps:
            wait(self.device)
            ours_s = time.perf_counter() - self.began_s
            self.turn(ours_s, self.clock.take())
            self.count = 0

    def turn(self, ours_s: float, parts: dict[str, float]) -> None:
        """What is not the engine's of a round."""
        peak_macs_s = peaks(self.device, torch.get_num_threads())
        plain_s = self.plain.run(self.steps)
        time.sleep(SETTLE_S)
        found = {
            "when": time.strftime("%Y-%m-%d"),
            "steps": self.steps,
            "ours_s": ours_s / self.steps,
            "plain_s": plain_s / self.steps,
            "start_s": self.start_s,
            "parts": {part: seconds / self.steps for part, seconds in parts.items()},
            "macs": {
                "student": costs_of_module(self.plain.student, self.data.input_shape).macs,
                "teacher": costs_of_module(self.teacher, self.data.input_shape).macs,
            },
            "peak_macs_s": peak_macs_s,
        }
        if self.condition.views != ON_THE_FLY:
            found["build_s"] = self.build()
        self.keep(found)
        self.left -= 1
        if self.left == 0 or time.monotonic() >= self.end_s:
            raise Enough

    def build(self) -> float:
        """Seconds for the teacher's outputs of one view of all images, on disk and in memory."""
        with tempfile.TemporaryDirectory() as folder:
            began_s = time.perf_counter()
            self.ask(self.outputs(Path(folder)))
            wait(self.device)
            return time.perf_counter() - began_s

    def ask(self, outputs: TeacherOutputs) -> None:
        """What the teacher says of two images, for which it is asked of all."""
        two = torch.arange(2)
        outputs(two, 1, self.data.train.images[:2])

    def outputs(self, folder: Path) -> TeacherOutputs:
        """As a training gets them."""
        found = outputs_of(
            [NetworkTeacher(self.teacher, self.data.normalization)],
            make_recipe("kd").teacher_outputs,
            self.data,
            self.options,
            folder=folder,
            say=lambda _: None,
        )
        if found is None:
            raise ValueError("The recipe wants nothing of a teacher.")
        return found


def peaks(device: torch.device, threads: int) -> dict[str, float]:
    """Multiply-accumulates a second of a matrix product, by precision: the median of some."""
    name = "torch-cuda" if device.type == "cuda" else "torch"
    subject = product_for(name, "fp32", threads, Path())
    if subject is None or subject.module is None or subject.input_shape is None:
        raise ValueError(f"There is no matrix product for {name}.")
    side = subject.input_shape[0]
    network = subject.module().to(device)
    matrix = torch.randn(side, side, device=device)
    if device.type != "cuda":
        return {"fp32": side**3 / product_s(network, matrix)}
    matmul = torch.backends.cuda.matmul
    before, found = matmul.fp32_precision, {}
    for precision, setting in (("fp32", "ieee"), ("TF32", "tf32")):
        matmul.fp32_precision = setting
        found[precision] = side**3 / product_s(network, matrix)
    matmul.fp32_precision = before
    found["bf16"] = side**3 / product_s(network.bfloat16(), matrix.bfloat16())
    return found


def product_s(network: torch.nn.Module, matrix: torch.Tensor) -> float:
    """Median seconds of a call after the first."""
    times = []
    with torch.inference_mode():
        for _ in range(PRODUCTS + 1):
            began_s = time.perf_counter()
            network(matrix)
            wait(matrix.device)
            times.append(time.perf_counter() - began_s)
    return statistics.median(times[1:])


# --- report --------------------------------------------------------------------------------------


def image_s(line: dict[str, Any], views: int, epochs: int) -> float:
    """Seconds an image of a whole training, by what a round found.

    Args:
        line: the round.
        views: that the teacher's outputs are computed of; ON_THE_FLY for none.
        epochs: of the training, IMAGES each.
    """
    step_s = float(line["ours_s"]) / int(line["batch_size"])
    build_s = views * float(line.get("build_s", 0.0)) / (int(line["images"]) * epochs)
    return step_s + build_s + float(line["start_s"]) / (epochs * IMAGES)


def speed_up(lines: Sequence[dict[str, Any]], views: int, epochs: int) -> tuple[str, str]:
    """Our images a second, and how many times the plain loop's, with its interval."""
    ours = np.array([image_s(line, views, epochs) for line in lines])
    plain = np.array([line["plain_s"] / line["batch_size"] for line in lines])
    ratio = ratio_of_rounds(plain, ours)
    if ratio is None:  # of too few rounds there is no interval
        value = float(np.exp(np.median(np.log(plain / ours))))
        return speed(ours), f"{value:.2f}"
    return speed(ours), told(ratio)


def told(ratio: Estimate) -> str:
    return f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def speed(seconds_an_image: np.ndarray) -> str:
    return f"{1 / float(np.median(seconds_an_image)):,.0f}"


def markdown(lines: Sequence[dict[str, Any]]) -> list[str]:
    """The page, of whatever rounds there are."""
    machine = fingerprint()
    page = [
        "# Images a second of distillation, beside the loop of the public repositories",
        "",
        f"{time.strftime('%Y-%m-%d')}, {machine.gpu or machine.cpu}, {machine.cpus} CPUs, torch "
        f"{torch.__version__}; `python -m benchmarks.step_speed`. Random images of CIFAR's shape, "
        "untrained networks, recipe kd, no dropout. The plain loop: a DataLoader whose workers "
        "crop, mirror and normalise PIL images, float32 by torch's defaults, the teacher in every "
        "step, the loss and the accuracy read in every step. Ratios are medians over rounds with "
        "95% intervals (bootstrap over rounds).",
        "",
        f"Our seconds are those of the steps, of the teacher's outputs spread over the epochs, and "
        f"of what is done before the first step spread over epochs of {IMAGES:,} images. 4 views: "
        "by the time of one. On the fly: the teacher runs in every step.",
    ]
    conditions: dict[Condition, list[dict[str, Any]]] = {}
    names = Condition.__dataclass_fields__
    for line in lines:
        key = Condition(**{name: line[name] for name in names})
        conditions.setdefault(key, []).append(line)
    page += ["", *speeds_table(conditions), "", "Where a step's time goes:", ""]
    return [*page, *parts_table(conditions), ""]


Conditions = dict[Condition, list[dict[str, Any]]]


def speeds_table(conditions: Conditions) -> list[str]:
    """A row for each number of views and of epochs."""
    rows = [
        "| teacher to student | on | plain, images/s | teacher's outputs | epochs | ours, images/s "
        "| times as fast | rounds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key, lines in conditions.items():
        plain = speed(np.array([line["plain_s"] / line["batch_size"] for line in lines]))
        ways = VIEWS if key.views == KEPT else (ON_THE_FLY,)
        for views in ways:
            for epochs in EPOCHS:
                ours, ratio = speed_up(lines, views, epochs)
                kept = f"kept, {views} view{'s' * (views > 1)}" if views else "on the fly"
                rows.append(
                    f"| {key.teacher} to {key.student} | {where(key)} | {plain} | {kept} | "
                    f"{epochs} | {ours} | {ratio} | {len(lines)} |"
                )
    return rows


def where(key: Condition) -> str:
    """What trained, and how many workers the other loop had."""
    on = f"CPU, {key.threads} thread(s)" if key.device == "cpu" else "GPU"
    bf16 = ", bf16" if key.autocast == "bf16" else ""
    return f"{on}{bf16}; {key.workers} worker(s)"


def parts_table(conditions: Conditions) -> list[str]:
    """What a step takes, of what, and how near it is to the peak."""
    parts = PARTS
    rows = [
        f"| teacher to student | on | teacher's outputs | ms a step | {' | '.join(parts)} | before "
        "the first step, s | teacher's outputs, images/s | of a matrix product's speed |",
        "|---|---|---|---|" + "---|" * len(parts) + "---|---|---|",
    ]
    for key, lines in conditions.items():
        middle = {
            name: statistics.median(shares(line["parts"], parts)[name] for line in lines)
            for name in parts
        }
        step_s = statistics.median(line["ours_s"] for line in lines)
        builds = [line["build_s"] for line in lines if "build_s" in line]
        built = f"{key.images / statistics.median(builds):,.0f}" if builds else "-"
        start_s = statistics.median(line["start_s"] for line in lines)
        rows.append(
            f"| {key.teacher} to {key.student} | {where(key)} | "
            f"{'kept' if key.views else 'on the fly'} | {step_s * 1e3:.1f} | "
            + " | ".join(f"{middle[name]:.1%}" for name in parts)
            + f" | {start_s:.1f} | {built} | {of_peak(lines)} |"
        )
    return rows


def of_peak(lines: Sequence[dict[str, Any]]) -> str:
    """The share of a matrix product's multiply-accumulates a second, for each precision of it."""
    found = {}
    for precision in lines[0]["peak_macs_s"]:
        values = []
        for line in lines:
            macs = PASSES * line["macs"]["student"]
            if line["views"] == ON_THE_FLY:
                macs += line["macs"]["teacher"]
            speed_macs_s = macs * line["batch_size"] / line["ours_s"]
            values.append(speed_macs_s / line["peak_macs_s"][precision])
        found[precision] = statistics.median(values)
    return ", ".join(f"{share:.0%} ({precision})" for precision, share in found.items())


if __name__ == "__main__":
    main()
