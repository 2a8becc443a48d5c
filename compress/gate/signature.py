"""What a model takes and gives: models of the same signature can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from compress.errors import ModelFileError
from compress.gate.measuring import Settings
from compress.profiling.inputs import make_input
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Subject
from compress.schema.rules import Check, Classes, Shape, known
from compress.spec import Target
from compress.tasks.registry import TASKS
from compress.tasks.task import Task, arrays_of, finite_rows
from compress.training.evaluation import file_predictor


def _unknown(name: str) -> str:
    return known(*TASKS).fault(name)


@dataclass(frozen=True)
class Signature:
    """The images that a model takes and how it answers them.

    Attributes:
        name: of the task.
        image_shape: channels, height, width.
        width: how many numbers an image is answered with: classes, of a classifier.
    """

    name: Annotated[str, Check(_unknown)]
    image_shape: Shape
    width: Classes

    @property
    def task(self) -> Task:
        """The task itself, its classes without names."""
        return TASKS[self.name](self.width)

    def __str__(self) -> str:
        shape = "x".join(map(str, self.image_shape))
        return f"{shape} images, {self.width} {self.task.noun}"


def leaves_open(path: Path, settings: Settings) -> bool:
    """Whether a file takes images of more than one shape.

    Raises:
        ModelFileError: it cannot be read, or has more than one input.
    """
    found = runtime_named(settings.runtime).input_of(Subject(path.name, path=path))
    return any(isinstance(size, str) for size in found.shape[1:])


def signature_of(path: Path, settings: Settings, task: Task) -> Signature:
    """Loads a file of a task and calls it once.

    Raises:
        ModelFileError: as ``file_predictor``, or it does not answer with finite numbers.
        UsageError: a dimension has no value, or another than the settings ask for.
    """
    runtime, subject = runtime_named(settings.runtime), Subject(path.name, path=path)
    images = make_input(runtime, subject, batch=settings.batch, shape=settings.shape)
    target = Target(runtime=settings.runtime, threads=settings.threads)
    shape, output = settings.shape, settings.output
    with file_predictor(path, target, task, shape=shape, output=output) as predict:
        answers = predict.call(images)
        channels_last = predict.form.channels_last
    if not finite_rows(arrays_of(answers)).all():
        raise ModelFileError(
            f"{path} answers with values that are not finite (NaN or infinity). Its weights are "
            "damaged, or its training diverged."
        )
    _, *sizes = images.shape
    if channels_last:
        sizes = [sizes[2], sizes[0], sizes[1]]
    return Signature(task.name, tuple(sizes), task.width_of(answers))
