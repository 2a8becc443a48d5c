"""A data set of three kinds of stripes, and a training on it that takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from compress.data.dataset import Dataset, Split
from compress.models.network import Network
from compress.models.registry import build, spec_of
from compress.recipes.registry import make_recipe
from compress.spec import ModelSpec, Normalization
from compress.tasks.classification import Classification
from compress.teachers.network import NetworkTeacher
from compress.training.engine import Fitted, fit
from compress.training.kept import outputs_of
from compress.training.listener import Progress
from compress.training.options import TrainingOptions
from compress.training.runfolder import RunFolder
from compress.training.team import SINGLE_PROCESS, Team

SPEC = spec_of("wrn-10-0.5", num_classes=3, input_shape=(1, 8, 8), dropout=0.3)
GRAY = Normalization((0.5,), (0.25,))
OPTIONS = TrainingOptions(epochs=4, batch_size=16, lr=0.05, seed=1)


class Listener:
    """Keeps what it is told; stops the run after some epochs, as a signal would."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.messages: list[str] = []
        self.steps = ""
        self.epochs: list[Mapping[str, Any]] = []
        self.stop_after = stop_after

    def message(self, text: str) -> None:
        if text.startswith("Steps: "):
            self.steps = text
        else:
            self.messages.append(text)

    def progress(self, progress: Progress) -> None:
        assert 0 <= progress.fraction < 1

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        self.epochs.append(metrics)
        if metrics["epoch"] == self.stop_after:
            raise KeyboardInterrupt


def stripes() -> Dataset:
    """Three classes told apart by their stripes: none, upright, lying."""
    rng = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        labels = torch.arange(count) % 3
        images = torch.randint(0, 100, (count, 1, 8, 8), generator=rng, dtype=torch.uint8)
        images[labels == 1, :, :, ::2] += 150
        images[labels == 2, :, ::2, :] += 150
        return Split(images, labels)

    train, validation, test = split(97), split(30), split(30)
    task = Classification(("a", "b", "c"))
    return Dataset(
        "toy", train, validation, test, task, GRAY, False, "0" * 64, "1" * 64, "made here"
    )


def train(
    data: Dataset,
    recipe: str = "supervised",
    folder: RunFolder | None = None,
    listener: Listener | None = None,
    options: TrainingOptions = OPTIONS,
    on_step: Callable[[int], None] | None = None,
    on_build: Callable[[Network], None] | None = None,
    spec: ModelSpec = SPEC,
    team: Team = SINGLE_PROCESS,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> tuple[dict[str, Tensor], Fitted]:
    """A student of a teacher that knows nothing, and what its training left.

    Args:
        on_step: called before each step with its number in this process, from 0.
        on_build: called with the student.
        spec: of student and teacher.
        team: that trains.
        settings: of the recipe.
        more: of ``fit``.
    """
    torch.manual_seed(5)
    student, teacher = build(spec), build(spec).eval()
    if on_build is not None:
        on_build(student)
    made = make_recipe(recipe, **(settings or {}))
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        if student.training and on_step is not None:
            on_step(steps)
            steps += 1

    if on_step is not None:
        student.get_submodule("conv").register_forward_pre_hook(count)
    with TemporaryDirectory() as kept:
        fitted = fit(
            made,
            student,
            data,
            options,
            teacher=outputs_of(
                [NetworkTeacher(teacher, GRAY)],
                made.teacher_outputs,
                data,
                options,
                folder=Path(kept),
                say=lambda _: None,
                team=team,
            ),
            folder=folder,
            listener=listener or Listener(),
            team=team,
            **more,
        )
    return student.state_dict(), fitted


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def lines(fitted: Fitted) -> list[dict[str, Any]]:
    """The metrics that do not depend on the clock."""
    return [{k: v for k, v in each.items() if k != "images_per_s"} for each in fitted.history]
