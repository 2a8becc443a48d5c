r"""Does it cost accuracy to reuse the teacher's outputs of a few views of each image?

    python -m benchmarks.views --teacher resnet56.th --data cifar10.npz --limit-train 10000 \
        --validation 5000 --epochs 24 --student wrn-10-1 --recipes kd,dist --views 1,2,4,8,0 \
        --seeds 0,1,2,3,4 --runs runs/views --output benchmarks/results/views.md

Trains one student by each recipe with each number of views (`--views` of `compress distill`) and
each seed. Seeds are paired: the same one gives the same first weights, order and crops. Everything
is compared with 0, where every epoch has its own crop and the teacher runs in every step. The
verdict is by validation images: whether the mean loss is larger than the standard deviation over
the seeds of 0. A run that is finished is not run again, so the program can be stopped and started.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.listening import Plain
from compress.data.dataset import Dataset, load_dataset, to_device
from compress.data.sources import embedded_teacher_path
from compress.profiling.machine import fingerprint
from compress.recipes.registry import make_recipe
from compress.spec import ModelSpec
from compress.training.engine import choose_device, fit
from compress.training.evaluation import evaluate, predictor
from compress.training.kept import outputs_of
from compress.training.options import TrainingOptions
from compress.training.outputs import Teaching
from compress.training.runfolder import RunFolder
from compress.training.student import first_network, with_dropout
from compress.training.teacher import Teacher, load_teacher

# (recipe, views) -> the results by seed
Found = dict[tuple[str, int], list[dict[str, Any]]]


@dataclass(frozen=True)
class Setup:
    """What all runs have in common."""

    data: Dataset
    teacher: Teacher
    student: ModelSpec
    options: TrainingOptions
    runs: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--teacher", type=Path, help="[default: the embedded one]")
    parser.add_argument("--data", default="default")
    parser.add_argument("--limit-train", type=int)
    parser.add_argument("--validation", type=int)
    parser.add_argument("--student", default="wrn-10-1")
    parser.add_argument("--recipes", default="kd,dist")
    parser.add_argument("--views", default="1,2,4,8,0", help="0 is added where it is not there")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the run folders")
    parser.add_argument("--output", type=Path, required=True, help="a Markdown file")
    asked = parser.parse_args()
    setup = prepare(asked)
    views = [int(text) for text in asked.views.split(",")]
    views += [0] if 0 not in views else []
    found: Found = {}
    for seed in map(int, asked.seeds.split(",")):
        for recipe in asked.recipes.split(","):
            for count in views:
                found.setdefault((recipe, count), []).append(run(setup, recipe, count, seed))
    text = report(setup, asked, found)
    asked.output.write_text(text, encoding="utf-8")
    print(text)


def prepare(asked: argparse.Namespace) -> Setup:
    """Data and teacher, on the device that trains."""
    device = choose_device(asked.device)
    # One split for all seeds, so that they differ by training alone.
    data = load_dataset(
        asked.data, validation=asked.validation, limit_train=asked.limit_train, seed=0
    )
    teacher = load_teacher(
        asked.teacher or embedded_teacher_path(),
        data,
        normalization=None,
        arch=None,
        device=device,
    )
    options = TrainingOptions(
        epochs=asked.epochs,
        batch_size=asked.batch_size,
        lr=asked.lr,
        schedule="one-cycle",
        dropout=0.0,
    )
    spec = ModelSpec.parse(
        asked.student, num_classes=data.num_classes, input_shape=data.input_shape
    )
    return Setup(to_device(data, device), teacher, with_dropout(spec, 0.0), options, asked.runs)


def run(setup: Setup, recipe: str, views: int, seed: int) -> dict[str, Any]:
    """One training; its accuracies and its seconds, the teacher's included."""
    options = replace(setup.options, views=views, seed=seed)
    path = setup.runs / f"{recipe}-views{views}-seed{seed}"
    made = make_recipe(recipe)
    config = {
        "model": setup.student.to_dict(),
        "teacher": setup.teacher.sha256,
        "data": setup.data.identity(),
        "recipe": {"name": recipe, **made.to_dict()},
        "training": options.to_dict(),
        "threads": torch.get_num_threads(),
    }
    folder = RunFolder(path, config)
    if folder.finished:
        return dict(folder.result())
    with folder.alone():
        folder.begin({"machine": fingerprint().to_dict()})
        data, listener = setup.data, Plain(path.name)
        student = first_network(setup.student, seed)
        begun_before = bool(list(path.glob("*.ckpt")))
        # Of this run alone, so that its time is all that it takes.
        kept = path / "outputs"
        shutil.rmtree(kept, ignore_errors=True)
        began_s = time.monotonic()
        fitted = fit(
            made,
            student,
            data,
            options,
            teacher=outputs_of(
                [Teaching(setup.teacher.network, setup.teacher.normalization)],
                made.teacher_outputs,
                data,
                options,
                folder=kept,
                say=listener.message,
            ),
            folder=folder,
            listener=listener,
        )
        spent_s = time.monotonic() - began_s
        shutil.rmtree(kept, ignore_errors=True)
        predict = predictor(student)
        folder.finish(
            {
                "validation": fitted.history[-1]["validation_accuracy"],
                "test": evaluate(predict, data.test, data.normalization),
                "seconds": None if begun_before else spent_s,
            }
        )
        return dict(folder.result())


def report(setup: Setup, asked: argparse.Namespace, found: Found) -> str:
    """The table and what it says, as Markdown."""
    machine, data = fingerprint().to_dict(), setup.data
    lines = [
        f"# Views that are reused: {setup.teacher.spec.name} to {setup.student.name}, "
        f"{asked.epochs} epochs",
        "",
        f"{time.strftime('%Y-%m-%d')}, {machine['cpu']}, {torch.get_num_threads()} threads, "
        f"{data.train.images.device.type}, torch {torch.__version__}. {len(data.train):,} training "
        f"images of {Path(data.name).stem}, {len(data.validation):,} validation, "
        f"{len(data.test):,} test. Seeds {asked.seeds}, last epoch of each. 0 views: a new crop in "
        "every epoch, and the teacher runs in every step. 1: the teacher's logits of the images as "
        "they are. The loss is of the same seed's accuracy with 0 views.",
        "",
        "| recipe | views | validation, % | test, % | loss against 0, points | seeds' deviation "
        "with 0 | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    verdicts = []
    for (recipe, views), results in found.items():
        base = found[recipe, 0]
        losses = [
            100 * (b["validation"] - r["validation"]) for b, r in zip(base, results, strict=True)
        ]
        spread = deviation([100 * each["validation"] for each in base])
        lines.append(
            f"| {recipe} | {views} | {cell(results, 'validation')} | {cell(results, 'test')} | "
            f"{statistics.mean(losses):.2f} ± {deviation(losses):.2f} | {spread:.2f} | "
            f"{seconds(results)} |"
        )
        if views:
            beyond = statistics.mean(losses) > spread
            verdicts.append(
                f"- {recipe}, {views}: {'costs accuracy' if beyond else 'no loss'} beyond the "
                "seeds' spread."
            )
    command = f"python -m benchmarks.{Path(__file__).stem} {' '.join(sys.argv[1:])}"
    return "\n".join([*lines, "", *verdicts, "", f"Program: `{command}`", ""])


def cell(results: list[dict[str, Any]], split: str) -> str:
    """Mean and deviation of an accuracy in %."""
    values = [100 * each[split] for each in results]
    return f"{statistics.mean(values):.2f} ± {deviation(values):.2f}"


def seconds(results: list[dict[str, Any]]) -> str:
    """The mean of the runs that nothing interrupted."""
    values = [each["seconds"] for each in results if each["seconds"] is not None]
    return f"{statistics.mean(values):.0f}" if values else "-"


def deviation(values: list[float]) -> float:
    """0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
