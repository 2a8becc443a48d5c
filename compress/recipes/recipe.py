"""What a distillation method is to the training engine.

A recipe gets modules and tensors. It knows no file, no logger and no evaluation; the engine knows
no equation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from compress.errors import UsageError
from compress.models.network import LOGITS

OptimizerFactory = Callable[[nn.Module], Optimizer]
LossOnLabels = Callable[[Tensor, Tensor], Tensor]

# What a recipe wants of no teacher, and the task of equations on class probabilities.
NOTHING: frozenset[str] = frozenset()
CLASSIFICATION = frozenset({"classification"})

# The shape of an output without the batch; of a feature map channels, height and width.
Shape = tuple[int, ...]


class Student(Protocol):
    """The network that is trained; it is also an ``nn.Module``."""

    def __call__(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] -> the answers, of a classifier logits [n, C]."""
        ...

    def outputs(self, images: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
        """One pass over images [n, c, h, w]: the outputs and feature maps of these names."""
        ...

    def classify(self, features: Tensor) -> Tensor:
        """The map "features" [n, c', h', w'] -> logits [n, C]."""
        ...

    @property
    def classifier(self) -> nn.Module:
        """The part that ``classify`` has its parameters in; all others make the feature map."""
        ...


@dataclass(frozen=True)
class Batch:
    """One minibatch.

    Attributes:
        images: the student's input, normalised, float32 [n, c, h, w].
        labels: what the data say of the images; of a classification int64 [n].
        targets: what the student's own loss is with: the labels, or, where label smoothing is on,
            probabilities [n, C].
        teachers: the outputs of each teacher by name, float32 [n, ...]. All teachers give the
            answers that the recipe wants ("logits" [n, C]), the first one the feature maps too
            ("features" [n, c', h', w']).
    """

    images: Tensor
    labels: Tensor
    targets: Tensor
    teachers: Sequence[Mapping[str, Tensor]] = ()

    def of_teachers(self, name: str) -> tuple[Tensor, ...]:
        """An output of every teacher.

        Raises:
            ValueError: there is none; the engine was started without a teacher.
        """
        found = tuple(each[name] for each in self.teachers if name in each)
        if not found:
            raise ValueError(f"This recipe needs the teacher's {name} and the batch has none.")
        return found

    def of_teacher(self, name: str) -> Tensor:
        """An output of the first teacher.

        Raises:
            ValueError: there is none; the engine was started without a teacher.
        """
        return self.of_teachers(name)[0]


@dataclass(frozen=True)
class Phase:
    """A part of a training, in which the same things are learned in the same way.

    Attributes:
        name: what ``Method.step`` calls it.
        epochs: passes over the training images; the schedule starts anew in each phase.
        lr: initial learning rate by optimiser; those not named have the options'.
        trains_student: whether the student learns; other epochs do not count as the student's.
        uses_teacher: whether its batches have the teacher's outputs, which cost a pass each.
    """

    name: str
    epochs: int
    lr: Mapping[str, float] = field(default_factory=dict)
    trains_student: bool = True
    uses_teacher: bool = True


@dataclass(frozen=True)
class Setting:
    """What a method works on.

    Attributes:
        student: the network to train, a ``Student``.
        num_classes: C.
        input_shape: channels, height and width of the student's input.
        optimizer: module -> the options' optimiser of its parameters.
        loss: the task's loss on labels, of the student's answers and a batch's ``targets``.
        epochs: how many the student learns in, over all phases.
        student_shapes: of the student's feature maps by name, without the batch.
        teacher_shapes: of the outputs by name that the recipe wants of the first teacher.
        student_trained: whether the student has been trained on the labels already.
    """

    student: nn.Module
    num_classes: int
    input_shape: tuple[int, int, int]
    optimizer: OptimizerFactory
    loss: LossOnLabels
    epochs: int
    student_shapes: Mapping[str, Shape]
    teacher_shapes: Mapping[str, Shape] = field(default_factory=dict)
    student_trained: bool = False

    def teacher_shape(self, name: str) -> Shape:
        """The shape of an output of the first teacher.

        Raises:
            ValueError: there is none; the engine was started without a teacher.
        """
        if name not in self.teacher_shapes:
            raise ValueError(f"This recipe needs the teacher's {name} and there are none.")
        return self.teacher_shapes[name]


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
        """A warning, and what to try, where an epoch's means of ``step`` show a fault."""
        ...


class Recipe(Protocol):
    """A method and its options, before it meets a student."""

    @property
    def name(self) -> str:
        """What it is asked for by."""
        ...

    @property
    def summary(self) -> str:
        """One line."""
        ...

    @property
    def paper(self) -> str:
        """Its source."""
        ...

    @property
    def teacher_outputs(self) -> frozenset[str]:
        """Names of the outputs that it wants of a teacher; none for a recipe without one."""
        ...

    @property
    def tasks(self) -> frozenset[str] | None:
        """Names of the tasks that its equations are for; None for every task."""
        ...

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
        """See ``Method.advice``; a method of one loss has no warning."""
        return None


def over_teachers(batch: Batch, term: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean of ``term`` over the teachers' logits.

    Raises:
        ValueError: the batch has none; the engine was started without a teacher.
    """
    first, *others = batch.of_teachers(LOGITS)
    total = term(first)
    for t in others:
        total = total + term(t)
    return total / (1 + len(others))


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
