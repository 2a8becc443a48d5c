"""Where teachers come from, and whether they know more than chance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol

import torch
from torch import Tensor

from compress.data.dataset import Dataset
from compress.data.normalization import describe, name_of
from compress.errors import DataError, TeacherError
from compress.spec import Normalization
from compress.tasks.task import Outputs, Standing
from compress.teachers.checkpoint import open_checkpoint
from compress.teachers.opened import OpenedTeacher, TeacherT
from compress.training.evaluation import answers_to
from compress.training.teacher import Teacher


class TeacherSource(Protocol):
    """Opens what the user calls a teacher."""

    def __call__(
        self,
        path: Path,
        data: Dataset,
        *,
        normalization: Normalization | None,
        arch: str | None,
        device: torch.device,
    ) -> OpenedTeacher[Teacher] | None:
        """The teacher; None where it is of another kind than this source opens."""
        ...


# The first that takes it opens it. Checkpoints are last, whose errors say what a file has to be.
SOURCES: tuple[TeacherSource, ...] = (open_checkpoint,)


@dataclass(frozen=True)
class LoadedTeacher(Generic[TeacherT]):
    """A teacher that a student can learn from.

    Attributes:
        teacher: itself.
        accuracy: on the validation images, as a fraction of 1.
        notes: what was found and assumed, in sentences.
        sha256: of what it was made of.
    """

    teacher: TeacherT
    accuracy: float
    notes: tuple[str, ...]
    sha256: str


def load_teacher(
    path: Path,
    data: Dataset,
    *,
    normalization: Normalization | None,
    arch: str | None,
    device: torch.device,
) -> LoadedTeacher[Teacher]:
    """Opens a teacher and judges it.

    Args:
        path: what the user gives.
        data: what it is to teach.
        normalization: what its images go through, where the user says it.
        arch: what the user says of its network.
        device: that it is to compute on.

    Raises:
        CheckpointError: the file cannot be used.
        TeacherError: other classes or channels than the data, or no better than chance.
        DataError: there are no validation images to judge it on.
        UsageError: ``arch`` or ``normalization`` cannot be.
    """
    refuse_unjudged(path, data)
    for source in SOURCES:
        opened = source(path, data, normalization=normalization, arch=arch, device=device)
        if opened is not None:
            return judge(opened, data)
    raise TeacherError(f"{path} is no teacher of a known kind.")  # pragma: no cover


def refuse_unjudged(path: Path, data: Dataset) -> None:
    """Ends where there is nothing to judge a teacher on, before it is read.

    Raises:
        DataError: there are no validation images.
    """
    if len(data.validation) == 0:
        raise DataError(
            f"There are no validation images to judge the teacher {path}. Hold some out with "
            "--validation."
        )


def judge(opened: OpenedTeacher[TeacherT], data: Dataset) -> LoadedTeacher[TeacherT]:
    """Scores a teacher on the validation images.

    Raises:
        TeacherError: it is no better than chance; says the likely causes.
    """
    teacher, task, targets = opened.teacher, data.task, data.validation.targets

    def predict(images: Tensor) -> Outputs:
        there = images.to(teacher.device).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            found = teacher.outputs(there, (task.output,))
        return {name: tensor.float().cpu() for name, tensor in found.items()}

    outputs = answers_to(predict, data.validation.images, teacher.normalization)
    chance = task.chance(outputs, targets)
    notes = opened.notes
    if chance.standing is Standing.NO_BETTER:
        names = ", ".join(name_of(value) or describe(value) for value in opened.tried)
        raise TeacherError(
            f"The teacher is {chance.text} Likely causes: {chance.cause}; its images were "
            f"normalised otherwise (tried: {names}; say it with --normalize); {opened.doubt}."
        )
    if chance.standing is Standing.UNDECIDED:
        notes = (*notes, f"Warning: the teacher is {chance.text}")
    return LoadedTeacher(teacher, task.evidence(outputs, targets).value, notes, opened.sha256)
