"""What a distillation method is to the training engine.

A recipe gets modules and tensors. It knows no file, no logger and no evaluation; the engine knows
no equation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from compress.errors import UsageError

OptimizerFactory = Callable[[nn.Module], Optimizer]

NOTHING: frozenset[str] = frozenset()

Found = TypeVar("Found")


class Student(Protocol):
    """The network that is trained; also an ``nn.Module``."""

    def __call__(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] -> logits [n, C]."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] -> the last convolutional feature map, [n, c', h', w']."""
        ...

    def classify(self, features: Tensor) -> Tensor:
        """That map -> logits [n, C]."""
        ...

    @property
    def classifier(self) -> nn.Module:
        """What ``classify`` has parameters in; all others are those of ``features``."""
        ...


@dataclass(frozen=True)
class Batch:
    """One minibatch.

    Attributes:
        images: the student's input, normalised, float32 [n, c, h, w].
        labels: int64 [n].
        teacher_logits: t, float32 [n, C] of each teacher; none for a recipe that wants none.
        teacher_features: m_t, the first teacher's last convolutional feature map, float32
            [n, c', h', w'], or what the phase has them go through makes of it; None for a recipe
            that does not want it.
        smoothed: the labels as probabilities [n, C], where label smoothing is on.
    """

    images: Tensor
    labels: Tensor
    teacher_logits: tuple[Tensor, ...] = ()
    teacher_features: Tensor | None = None
    smoothed: Tensor | None = None

    @property
    def targets(self) -> Tensor:
        """What the student's own cross-entropy is with: the labels, or what smoothing made."""
        return self.labels if self.smoothed is None else self.smoothed


@dataclass(frozen=True)
class Phase:
    """A part of a training, in which the same things are learned in the same way.

    Attributes:
        name: of it; ``Method.step`` is told it.
        epochs: passes over the training images; the schedule starts anew with each phase.
        lr: initial learning rate by optimiser; those not named have the options'.
        trains_student: whether the student learns; other epochs do not count as the student's.
        uses_teacher: whether its batches have the teacher's outputs, which cost a pass each.
        maps_through: a module that nothing trains in this phase or later, and through which alone
            the teacher's feature maps are looked at: its batches have what it makes of them.
    """

    name: str
    epochs: int
    lr: Mapping[str, float] = field(default_factory=dict)
    trains_student: bool = True
    uses_teacher: bool = True
    maps_through: nn.Module | None = None


@dataclass(frozen=True)
class Setting:
    """What a method is to work on.

    Attributes:
        student: the network to train, a ``Student``.
        num_classes: C.
        input_shape: channels, height and width of the student's input.
        optimizer: module -> the options' optimiser of its parameters.
        epochs: of the student, over all phases.
        student_features: shape of the student's feature map, without the batch.
        teacher_features: of the first teacher's; None where the recipe does not want it.
        student_trained: whether the student comes trained on the labels already.
    """

    student: nn.Module
    num_classes: int
    input_shape: tuple[int, int, int]
    optimizer: OptimizerFactory
    epochs: int
    student_features: tuple[int, int, int]
    teacher_features: tuple[int, int, int] | None = None
    student_trained: bool = False


class Method(Protocol):
    """A recipe at work on one student.

    Attributes:
        modules: what is trained, by name; the student is "student".
        optimizers: by name; the engine sets their learning rates by its schedule.
        phases: one after the other.
    """

    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, Optimizer]
    phases: Sequence[Phase]

    def step(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """Updates everything once. Returns detached scalars: "loss" and the parts of it."""
        ...

    def advice(self, means: Mapping[str, float]) -> str | None:
        """What is wrong, and what to try, where an epoch's means of ``step`` show it."""
        ...


class Recipe(Protocol):
    """A method and its options, before it meets a student.

    Attributes:
        name: what it is asked for by.
        summary: one line.
        paper: its source.
        teacher_outputs: LOGITS, FEATURES, both, or none for a recipe without a teacher.
    """

    name: str
    summary: str
    paper: str
    teacher_outputs: frozenset[str]

    def start(self, setting: Setting) -> Method:
        """Makes the modules and optimisers that the method trains."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The options, for run.json."""
        ...


class OneLoss:
    """The method of every recipe whose student descends one loss in one phase.

    Args:
        setting: what it works on.
        loss: of the student and a batch.
        helpers: modules that ``loss`` uses and that are trained with the student, by name.
    """

    def __init__(
        self,
        setting: Setting,
        loss: Callable[[Student, Batch], Tensor],
        helpers: Mapping[str, nn.Module] | None = None,
    ) -> None:
        self._student: Any = setting.student
        self._loss = loss
        device = next(setting.student.parameters()).device
        helpers = {name: module.to(device) for name, module in (helpers or {}).items()}
        self.modules: Mapping[str, nn.Module] = {"student": setting.student, **helpers}
        self.optimizers: Mapping[str, Optimizer] = {
            name: setting.optimizer(module) for name, module in self.modules.items()
        }
        self.phases: Sequence[Phase] = (Phase("train", setting.epochs),)

    def step(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """One step on the loss."""
        loss = self._loss(self._student, batch)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.optimizers.values():
            optimizer.step()
        return {"loss": loss.detach()}

    def advice(self, means: Mapping[str, float]) -> str | None:
        """See ``Method.advice``; one loss that falls has nothing to be warned of."""
        return None


def over_teachers(batch: Batch, term: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean of ``term`` over the teachers' logits.

    Raises:
        ValueError: the batch has none; the engine was started without a teacher.
    """
    if not batch.teacher_logits:
        raise ValueError("This recipe needs the teacher's logits and the batch has none.")
    total = term(batch.teacher_logits[0])
    for t in batch.teacher_logits[1:]:
        total = total + term(t)
    return total / len(batch.teacher_logits)


def required(features: Found | None) -> Found:
    """The teacher's feature map of a batch, or its shape of a setting.

    Raises:
        ValueError: there is none; the engine was started without a teacher.
    """
    if features is None:
        raise ValueError("This recipe needs the teacher's features and there are none.")
    return features


def check_options(*others: str, temperature: float | None = None, **weights: float) -> None:
    """Checks the options that methods share.

    Args:
        others: sentences on what is wrong with the options of one method alone.
        temperature: has to be positive.
        weights: of terms, have to be 0 or more.

    Raises:
        UsageError: there are faults; all of them are named.
    """
    faults = list(others)
    if temperature is not None and not (math.isfinite(temperature) and temperature > 0):
        faults.append(f"The temperature is {temperature}, it must be positive.")
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            faults.append(f"The weight {name} is {weight}, it must be 0 or more.")
    if faults:
        raise UsageError(" ".join(faults))
