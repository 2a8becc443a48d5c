"""What a classifier is for: the images that it takes and how many classes it tells apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from compress.errors import ModelFileError
from compress.gate.measuring import Settings
from compress.profiling.inputs import make_input
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Subject
from compress.schema.rules import Classes, Shape
from compress.spec import Target
from compress.training.evaluation import file_predictor


@dataclass(frozen=True)
class Task:
    """Images and classes; models of the same task can be compared.

    Attributes:
        image_shape: channels, height, width.
        classes: how many logits an image gets.
    """

    image_shape: Shape
    classes: Classes

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.image_shape))} images, {self.classes} classes"


def leaves_open(path: Path, settings: Settings) -> bool:
    """Whether a file takes images of more than one shape.

    Raises:
        ModelFileError: it cannot be read, or has more than one input.
    """
    found = runtime_named(settings.runtime).input_of(Subject(path.name, path=path))
    return any(isinstance(size, str) for size in found.shape[1:])


def task_of(path: Path, settings: Settings) -> Task:
    """Loads a file and calls it once.

    Raises:
        ModelFileError: as ``file_predictor``, or it does not answer with finite numbers.
        UsageError: a dimension has no value, or another than the settings ask for.
    """
    runtime, subject = runtime_named(settings.runtime), Subject(path.name, path=path)
    images = make_input(runtime, subject, batch=settings.batch, shape=settings.shape)
    target = Target(runtime=settings.runtime, threads=settings.threads)
    with file_predictor(path, target, shape=settings.shape, output=settings.output) as predict:
        logits = predict.call(images)
        channels_last = predict.form.channels_last
    if not bool(torch.isfinite(logits).all()):
        raise ModelFileError(
            f"{path} answers with values that are not finite (NaN or infinity). Its weights are "
            "damaged, or its training diverged."
        )
    _, *sizes = images.shape
    if channels_last:
        sizes = [sizes[2], sizes[0], sizes[1]]
    return Task(image_shape=tuple(sizes), classes=logits.shape[1])
