"""What a distillation method is to the training engine.

A recipe gets modules and tensors. It knows no file, no logger and no evaluation; the engine knows
no equation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from compress.errors import UsageError

OptimizerFactory = Callable[[nn.Module], Optimizer]


@dataclass(frozen=True)
class Batch:
    """One minibatch.

    Attributes:
        images: the student's input, normalised, float32 [n, c, h, w].
        labels: int64 [n].
        teacher_logits: t, float32 [n, C]; None for a recipe that needs no teacher.
    """

    images: Tensor
    labels: Tensor
    teacher_logits: Tensor | None


class Method(Protocol):
    """A recipe at work on one student.

    Attributes:
        modules: what is trained, by name; the student is "student".
        optimizers: by name; the engine sets their learning rates by its schedule.
    """

    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, Optimizer]

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Updates everything once. Returns detached scalars: "loss" and the parts of it."""
        ...


class Recipe(Protocol):
    """A method and its options, before it meets a student."""

    name: str
    summary: str
    paper: str
    needs_teacher: bool

    def start(self, student: nn.Module, num_classes: int, optimizer: OptimizerFactory) -> Method:
        """Makes the modules and optimisers that the method trains."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The options, for run.json."""
        ...


def required(teacher_logits: Tensor | None) -> Tensor:
    """The teacher's logits of a batch.

    Raises:
        ValueError: the batch has none; the engine was started without a teacher.
    """
    if teacher_logits is None:
        raise ValueError("This recipe needs the teacher's logits and the batch has none.")
    return teacher_logits


def check_options(*, temperature: float, **weights: float) -> None:
    """Checks the options that methods of softened logits share.

    Raises:
        UsageError: the temperature is not positive, or a weight of a term is negative; all of
            them are named.
    """
    faults = []
    if not (math.isfinite(temperature) and temperature > 0):
        faults.append(f"The temperature is {temperature}, it must be positive.")
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            faults.append(f"The weight {name} is {weight}, it must be 0 or more.")
    if faults:
        raise UsageError(" ".join(faults))
