"""What a classifier is for: the images that it takes and how many classes it tells apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.errors import ModelFileError
from compress.gate.measuring import Settings
from compress.profiling.runtimes import Subject, make_input, runtime_named
from compress.schema.rules import Classes, Shape


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
        ModelFileError: it cannot be loaded or run, has more than one input, or does not answer
            with one finite row of logits an image.
        UsageError: a dimension has no value, or another than the settings ask for.
    """
    runtime, subject = runtime_named(settings.runtime), Subject(path.name, path=path)
    images = make_input(runtime, subject, batch=settings.batch, shape=settings.shape)
    session = runtime.load(subject, threads=settings.threads)
    try:
        logits = session.infer(images)
    finally:
        session.close()
    if logits.ndim != 2 or len(logits) != len(images):
        raise ModelFileError(
            f"{path} answers {len(images)} images with values of shape "
            f"{'x'.join(map(str, logits.shape))}; a classifier gives one row of logits an image."
        )
    if not np.all(np.isfinite(logits)):
        raise ModelFileError(
            f"{path} answers with values that are not finite (NaN or infinity). Its weights are "
            "damaged, or its training diverged."
        )
    return Task(image_shape=images.shape[1:], classes=logits.shape[1])
