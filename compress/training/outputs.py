"""What teachers answer for a batch: logits and feature maps, by name.

Computed here for each batch; ``compress.training.kept`` computes them once a view and keeps them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from compress.data.normalization import Normalizer
from compress.errors import UsageError
from compress.exporting.fake_quantize import FakeQuantized
from compress.models.network import Network
from compress.recipes.recipe import Shape
from compress.training.teacher import Teacher
from compress.training.team import Team

# The outputs of each teacher for a batch, by name, float32 [n, ...].
OutputsByTeacher = tuple[dict[str, Tensor], ...]
# The number of a teacher, from 0, and the name of an output.
Key = tuple[int, str]


class TeacherOutputs(Protocol):
    """Gives the teachers' outputs for a batch.

    All teachers give the answers that are wanted; the first one gives the feature maps too.

    Attributes:
        shapes: of the first teacher's outputs by name, without the batch.
    """

    shapes: Mapping[str, Shape]

    def __call__(self, index: Tensor, view: int, pixels: Tensor) -> OutputsByTeacher:
        """The outputs for the images at ``index``, of which ``pixels`` is that view.

        Args:
            index: int64 [n], on the CPU.
            view: see ``compress.data.augment``.
            pixels: uint8 [n, c, h, w], on the device that trains.
        """
        ...


class ComputedOutputs:
    """The outputs of one or more teachers, computed for each batch.

    Args:
        teachers: one or more.
        wanted: names of outputs; feature maps are computed of the first teacher alone.
        dropout: probability that the teachers drop a unit with when they answer; 0 for none.
            Feature maps are always computed without.

    Raises:
        UsageError: dropout is wanted and a teacher has none.
    """

    def __init__(
        self, teachers: Sequence[Teacher], *, wanted: frozenset[str], dropout: float = 0.0
    ) -> None:
        self.teachers = teachers
        self._maps = wanted & set(teachers[0].taps)
        self._answers = wanted - self._maps
        self._dropout = dropout if self._answers else 0.0
        for teacher in teachers if self._dropout else ():
            if not teacher.has_dropout:
                raise UsageError(
                    f"The teacher {teacher.spec.name} has no dropout. Leave --teacher-dropout out."
                )
        self._normalizers = [Normalizer(each.normalization, each.device) for each in teachers]
        self._shapes = [
            teacher.shapes(self._wanted(number)) for number, teacher in enumerate(teachers)
        ]
        self.shapes: Mapping[str, Shape] = self._shapes[0]

    def _wanted(self, number: int) -> frozenset[str]:
        """What is asked of one teacher."""
        return self._answers if number else self._answers | self._maps

    @property
    def bytes_an_image(self) -> int:
        """The size of all outputs for one image, as float16."""
        return 2 * sum(math.prod(shape) for each in self._shapes for shape in each.values())

    @property
    def repeatable(self) -> bool:
        """Whether the same images always have the same outputs; dropout is drawn anew."""
        return not self._dropout

    def identities(self) -> dict[Key, str]:
        """A digest of what each output depends on beside the images."""
        found = {}
        for number, teacher in enumerate(self.teachers):
            identity = teacher.identity() if self._wanted(number) else ""
            for name in sorted(self._wanted(number)):
                text = f"{name} {identity}"
                found[number, name] = hashlib.sha256(text.encode()).hexdigest()
        return found

    def __call__(self, index: Tensor, view: int, pixels: Tensor) -> OutputsByTeacher:
        """See ``TeacherOutputs``."""
        with torch.no_grad():
            return tuple(self._of(number, pixels) for number in range(len(self.teachers)))

    def _of(self, number: int, pixels: Tensor) -> dict[str, Tensor]:
        teacher, wanted = self.teachers[number], self._wanted(number)
        if not wanted:
            return {}
        images = self._normalizers[number](pixels).contiguous(memory_format=torch.channels_last)
        if self.repeatable:
            return teacher.outputs(images, wanted)
        maps = teacher.outputs(images, wanted & self._maps) if wanted & self._maps else {}
        with teacher.dropout(self._dropout):
            return maps | teacher.outputs(images, self._answers)


class ShardedOutputs:
    """Another source's outputs, each process of a team asking for its part of the images.

    Args:
        source: it must be repeatable.
        team: that shares the passes.
    """

    def __init__(self, source: ComputedOutputs, team: Team) -> None:
        self._source = source
        self._team = team
        self.shapes: Mapping[str, Shape] = source.shapes

    def __call__(self, index: Tensor, view: int, pixels: Tensor) -> OutputsByTeacher:
        """See ``TeacherOutputs``."""
        mine = self._team.shard(len(index))
        return tuple(
            {name: self._team.all_gather(t, len(index)) for name, t in sorted(found.items())}
            for found in self._source(index[mine], view, pixels[mine])
        )


def flat(outputs: OutputsByTeacher) -> dict[Key, Tensor]:
    """All outputs in one dictionary."""
    return {(number, name): t for number, found in enumerate(outputs) for name, t in found.items()}


def by_teacher(found: Mapping[Key, Tensor]) -> OutputsByTeacher:
    """The inverse of ``flat``."""
    count = 1 + max(number for number, _ in found)
    outputs: OutputsByTeacher = tuple({} for _ in range(count))
    for (number, name), t in found.items():
        outputs[number][name] = t
    return outputs


def shapes_of(network: Network | FakeQuantized, names: Collection[str]) -> dict[str, Shape]:
    """The shapes of a network's outputs for an image of ``spec.input_shape``."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    with torch.no_grad():
        found = network.outputs(torch.zeros(1, *network.spec.input_shape, device=device), names)
    network.train(was_training)
    return {name: tuple(t.shape[1:]) for name, t in found.items()}
