"""What all stages of a distillation need: the request, who is told, and where it computes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from compress.data.sources import embedded_teacher_path
from compress.pipelines.distill.request import DistillListener, DistillRequest
from compress.profiling.inputs import Sample
from compress.teachers.sources import LoadedTeacher
from compress.training.device import choose_device
from compress.training.evaluation import timing_sample
from compress.training.teacher import Teacher
from compress.training.team import Team


@dataclass(frozen=True)
class DistillContext:
    """What a run begins with; nothing in it changes.

    Attributes:
        request: what is asked for.
        listener: is told how it goes.
        team: the processes that train together.
        device: that trains.
    """

    request: DistillRequest
    listener: DistillListener
    team: Team
    device: torch.device

    @classmethod
    def of(cls, request: DistillRequest, listener: DistillListener, team: Team) -> DistillContext:
        """The context of a request."""
        return cls(request, listener, team, choose_device(request.device))

    @property
    def teacher_path(self) -> Path:
        """The checkpoint of the teacher that the student is compared with."""
        return self.request.teacher or embedded_teacher_path()

    def say(self, text: str) -> None:
        """Tells the listener a sentence."""
        self.listener.message(text)

    def sample(self) -> Sample | None:
        """Images that networks are timed on: validation images, for the test is looked at once."""
        data = self.request.data
        return timing_sample(data, data.validation, data.normalization)


@dataclass(frozen=True)
class Teachers:
    """The networks that the student learns from.

    Attributes:
        first: that the student is compared with.
        more: the others.
    """

    first: LoadedTeacher[Teacher]
    more: tuple[LoadedTeacher[Teacher], ...]

    @property
    def all(self) -> tuple[Teacher, ...]:
        """All of them, as a training takes them."""
        return tuple(each.teacher for each in (self.first, *self.more))
