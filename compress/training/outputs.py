"""Where a teacher's logits and feature maps of a batch come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from compress.data.normalization import normalize
from compress.errors import UsageError
from compress.models.registry import Network
from compress.recipes.recipe import FEATURES, LOGITS
from compress.spec import Normalization
from compress.training.evaluation import logits_of, predictor


@dataclass(frozen=True)
class Outputs:
    """What teachers say of a batch.

    Attributes:
        logits: float32 [n, C] of each teacher; none where they are not wanted.
        features: the first teacher's last convolutional feature map, float32 [n, c, h, w]; None
            where it is not wanted.
    """

    logits: tuple[Tensor, ...] = ()
    features: Tensor | None = None


class TeacherOutputs(Protocol):
    """Gives the outputs of a batch.

    Attributes:
        feature_shape: of the feature maps, without the batch; None where there are none.
    """

    feature_shape: tuple[int, int, int] | None

    def __call__(self, index: Tensor, view: int, pixels: Tensor) -> Outputs:
        """Of the images at ``index`` [n], of which ``pixels`` uint8 [n, c, h, w] is that view."""
        ...


@dataclass(frozen=True)
class Teaching:
    """A network that teaches, in evaluation mode, and what its images go through."""

    network: Network
    normalization: Normalization


class ComputedOutputs:
    """The outputs of one or more teachers.

    Feature maps are always of the crop that the student sees: a map says where things are.

    Args:
        teachers: one or more.
        wanted: LOGITS, FEATURES or both.
        logits: one of ``TEACHER_LOGITS``: "stored", once, of the training image as it is; "exact",
            of the crop; "dropout", of the crop with the teachers' dropout on.
        images: the training images, uint8 [n, c, h, w], on the device of the teachers.
        dropout: probability that the teachers drop a unit with, where ``logits`` is "dropout".

    Raises:
        UsageError: dropout is wanted and a teacher has none.
    """

    def __init__(
        self,
        teachers: Sequence[Teaching],
        *,
        wanted: frozenset[str],
        logits: str,
        images: Tensor,
        dropout: float = 0.3,
    ) -> None:
        self._teachers = teachers
        self._logits_of_crops = LOGITS in wanted and logits != "stored"
        self._features = FEATURES in wanted
        self._dropout = dropout if self._logits_of_crops and logits == "dropout" else None
        if self._dropout is not None:
            for teacher in teachers:
                if not _dropouts(teacher.network):
                    raise UsageError(
                        f"The teacher {teacher.network.spec.name} has no dropout to turn on. Take "
                        "--teacher-logits exact."
                    )
        self._stored: tuple[Tensor, ...] = ()
        if LOGITS in wanted and logits == "stored":
            self._stored = tuple(_stored(teacher, images) for teacher in teachers)
        self.feature_shape = None
        if self._features:
            self.feature_shape = feature_shape(teachers[0].network)

    def __call__(self, index: Tensor, view: int, pixels: Tensor) -> Outputs:
        """See ``TeacherOutputs``."""
        logits = [kept[index] for kept in self._stored]
        features = None
        for number, teacher in enumerate(self._teachers):
            if number == 0 and self._features:
                features = _features(teacher, pixels)
                if self._logits_of_crops and self._dropout is None:
                    with torch.no_grad():
                        logits.append(teacher.network.classify(features))
                    continue
            if self._logits_of_crops:
                with _dropout_on(teacher.network, self._dropout), torch.no_grad():
                    logits.append(teacher.network(_inputs(teacher, pixels)))
        return Outputs(tuple(logits), features)


def feature_shape(network: Network) -> tuple[int, int, int]:
    """Channels, height and width of the feature map of an image of ``spec.input_shape``."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    with torch.no_grad():
        maps = network.features(torch.zeros(1, *network.spec.input_shape, device=device))
    network.train(was_training)
    return (maps.shape[1], maps.shape[2], maps.shape[3])


def _stored(teacher: Teaching, images: Tensor) -> Tensor:
    return logits_of(predictor(teacher.network), images, teacher.normalization).to(images.device)


def _inputs(teacher: Teaching, pixels: Tensor) -> Tensor:
    images = normalize(pixels, teacher.normalization)
    return images.contiguous(memory_format=torch.channels_last)


def _features(teacher: Teaching, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return teacher.network.features(_inputs(teacher, pixels))


def _dropouts(network: nn.Module) -> list[nn.Dropout]:
    return [module for module in network.modules() if isinstance(module, nn.Dropout)]


@contextmanager
def _dropout_on(network: nn.Module, probability: float | None) -> Iterator[None]:
    """Dropout as in training, everything else as in evaluation; nothing where it is None."""
    if probability is None:
        yield
        return
    modules = _dropouts(network)
    before = [module.p for module in modules]
    for module in modules:
        module.p = probability
        module.train()
    try:
        yield
    finally:
        for module, p in zip(modules, before, strict=True):
            module.p = p
            module.eval()
