"""What a training asks of a teacher, whichever of the sources in ``compress.teachers`` it is of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from compress.recipes.recipe import Shape
from compress.results import Costs, Parity
from compress.spec import ModelSpec, Normalization
from compress.tasks.task import Task


class Teacher(Protocol):
    """What a student learns from: frozen, in evaluation mode, on its device.

    Attributes:
        spec: its name, its classes and the images that it reads; only its source looks further.
        normalization: what its images go through.
        device: that it computes on.
        taps: names of the feature maps that it can be asked for, in forward order.
        module: that has its weights, for processes that share them; None where it has none.
        has_dropout: whether there is dropout to turn on.
    """

    @property
    def spec(self) -> ModelSpec: ...  # noqa: D102
    @property
    def normalization(self) -> Normalization: ...  # noqa: D102
    @property
    def device(self) -> torch.device: ...  # noqa: D102
    @property
    def taps(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def module(self) -> nn.Module | None: ...  # noqa: D102
    @property
    def has_dropout(self) -> bool: ...  # noqa: D102

    def outputs(self, images: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
        """Normalised images [n, c, h, w] -> what is wanted by name, float32 [n, ...]."""
        ...

    def shapes(self, wanted: Collection[str]) -> Mapping[str, Shape]:
        """The shapes of outputs for an image of ``spec.input_shape``, by name."""
        ...

    def dropout(self, probability: float) -> AbstractContextManager[None]:
        """Within it outputs are those with dropout; everything else is as in evaluation."""
        ...

    def identity(self) -> str:
        """A digest of everything but the images that its outputs depend on."""
        ...

    def costs(self) -> Costs:
        """Its parameters, and its MACs for an image of ``spec.input_shape``."""
        ...

    def export(
        self, path: Path, images: Tensor, *, task: Task, source: Mapping[str, str]
    ) -> Parity:
        """Writes it as an ONNX file, which can be timed, and proves that on normalised images.

        Args:
            path: of the file.
            images: normalised, float32 [n, c, h, w].
            task: of the images; the file's metadata have the names of its classes.
            source: what the file's metadata are to say of where it comes from.

        Raises:
            ExportError, ParityError: it cannot be exported, or the file is another function.
        """
        ...
