"""What a teacher says of a batch: its logits and its last feature map.

Computed here for each batch; ``compress.training.kept`` computes them once a view and keeps them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from compress.data.normalization import Normalizer
from compress.errors import UsageError
from compress.exporting.fake_quantize import FakeQuantized
from compress.models.network import FEATURES, LOGITS, Network
from compress.spec import Normalization
from compress.training.team import Team


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
        """Of the images at ``index``, of which ``pixels`` is that view.

        Args:
            index: int64 [n], on the CPU.
            view: see ``compress.data.augment``.
            pixels: uint8 [n, c, h, w], on the device that trains.
        """
        ...

    def through(self, module: nn.Module) -> TeacherOutputs:
        """The same with what ``module``, which nothing trains any more, makes of the maps."""
        ...


@dataclass(frozen=True)
class Teaching:
    """A network that teaches, in evaluation mode, and what its images go through."""

    network: Network
    normalization: Normalization

    def identity(self) -> str:
        """A digest of everything but the images that its outputs depend on."""
        digest = hashlib.sha256(f"{self.network.spec.to_dict()} {self.normalization}".encode())
        _add_weights(digest, self.network)
        return digest.hexdigest()


class ComputedOutputs:
    """The outputs of one or more teachers, computed for each batch.

    Args:
        teachers: one or more.
        wanted: LOGITS, FEATURES or both.
        dropout: probability that the teachers drop a unit with when they give logits; 0 for none.
            Feature maps are always without.
        after: what the feature maps go through; None for nothing.

    Raises:
        UsageError: dropout is wanted and a teacher has none.
    """

    def __init__(
        self,
        teachers: Sequence[Teaching],
        *,
        wanted: frozenset[str],
        dropout: float = 0.0,
        after: nn.Module | None = None,
    ) -> None:
        self.teachers = teachers
        self.wanted = wanted
        self.after = after
        self._dropout = dropout if LOGITS in wanted else 0.0
        for teacher in teachers if self._dropout else ():
            if not _dropouts(teacher.network):
                raise UsageError(
                    f"The teacher {teacher.network.spec.name} has no dropout. Leave "
                    "--teacher-dropout out."
                )
        self._normalizers = [
            Normalizer(each.normalization, next(each.network.parameters()).device)
            for each in teachers
        ]
        self.feature_shape = feature_shape(teachers[0].network) if FEATURES in wanted else None
        if self.feature_shape is not None and after is not None:
            self.feature_shape = _shape_after(after, self.feature_shape)

    @property
    def bytes_an_image(self) -> int:
        """Of all outputs of one, as float16."""
        numbers = math.prod(self.feature_shape) if self.feature_shape else 0
        if LOGITS in self.wanted:
            numbers += sum(teacher.network.spec.num_classes for teacher in self.teachers)
        return 2 * numbers

    @property
    def repeatable(self) -> bool:
        """Whether the same images always have the same outputs; dropout is drawn anew."""
        return not self._dropout

    def identities(self) -> dict[str, str]:
        """For each kind of output (see ``kinds``), a digest of what it depends on but images."""
        found = {}
        if FEATURES in self.wanted:
            digest = hashlib.sha256(f"{FEATURES} {self.teachers[0].identity()}".encode())
            if self.after is not None:
                digest.update(str(self.after).encode())
                _add_weights(digest, self.after)
            found[FEATURES] = digest.hexdigest()
        if LOGITS in self.wanted:
            for number, teacher in enumerate(self.teachers):
                text = f"{LOGITS} {teacher.identity()}"
                found[f"{LOGITS}{number}"] = hashlib.sha256(text.encode()).hexdigest()
        return found

    def through(self, module: nn.Module) -> ComputedOutputs:
        """See ``TeacherOutputs``."""
        return ComputedOutputs(
            self.teachers, wanted=self.wanted, dropout=self._dropout, after=module
        )

    def __call__(self, index: Tensor, view: int, pixels: Tensor) -> Outputs:
        """See ``TeacherOutputs``."""
        logits: list[Tensor] = []
        features = None
        with torch.no_grad():
            for number, teacher in enumerate(self.teachers):
                network = teacher.network
                if number == 0 and FEATURES in self.wanted:
                    features = network.features(self._inputs(number, pixels))
                    if LOGITS in self.wanted and self.repeatable:
                        logits.append(network.classify(features))
                        continue
                if LOGITS in self.wanted:
                    with _dropout_on(network, self._dropout):
                        logits.append(network(self._inputs(number, pixels)))
            if features is not None and self.after is not None:
                features = self.after(features)
        return Outputs(tuple(logits), features)

    def _inputs(self, number: int, pixels: Tensor) -> Tensor:
        images = self._normalizers[number](pixels)
        return images.contiguous(memory_format=torch.channels_last)


class OutputsThrough:
    """Another source's outputs, with what a module makes of the feature maps.

    Args:
        source: of the maps.
        module: that nothing trains any more.
    """

    def __init__(self, source: TeacherOutputs, module: nn.Module) -> None:
        self._source = source
        self._module = module
        shape = source.feature_shape
        self.feature_shape = None if shape is None else _shape_after(module, shape)

    def __call__(self, index: Tensor, view: int, pixels: Tensor) -> Outputs:
        """See ``TeacherOutputs``."""
        outputs = self._source(index, view, pixels)
        if outputs.features is None:
            return outputs
        with torch.no_grad():
            return Outputs(outputs.logits, self._module(outputs.features))

    def through(self, module: nn.Module) -> OutputsThrough:
        """See ``TeacherOutputs``."""
        return OutputsThrough(self, module)


class ShardedOutputs:
    """Another source's outputs, each process of a team asking for its part of the images.

    Args:
        source: it must be repeatable.
        team: that shares the passes.
    """

    def __init__(self, source: ComputedOutputs, team: Team) -> None:
        self._source = source
        self._team = team
        self.feature_shape = source.feature_shape

    def __call__(self, index: Tensor, view: int, pixels: Tensor) -> Outputs:
        """See ``TeacherOutputs``."""
        mine = self._team.shard(len(index))
        found = kinds(self._source(index[mine], view, pixels[mine]))
        return of_kinds({kind: self._team.all_gather(t, len(index)) for kind, t in found.items()})

    def through(self, module: nn.Module) -> ShardedOutputs:
        """See ``TeacherOutputs``."""
        return ShardedOutputs(self._source.through(module), self._team)


def kinds(outputs: Outputs) -> dict[str, Tensor]:
    """Outputs by kind: "features", "logits0" of the first teacher, and so on."""
    found = {} if outputs.features is None else {FEATURES: outputs.features}
    return found | {f"{LOGITS}{number}": t for number, t in enumerate(outputs.logits)}


def of_kinds(found: dict[str, Tensor]) -> Outputs:
    """The inverse of ``kinds``."""
    count = len(found) - (FEATURES in found)
    logits = tuple(found[f"{LOGITS}{number}"] for number in range(count))
    return Outputs(logits, found.get(FEATURES))


def feature_shape(network: Network | FakeQuantized) -> tuple[int, int, int]:
    """Channels, height and width of the feature map of an image of ``spec.input_shape``."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    with torch.no_grad():
        maps = network.features(torch.zeros(1, *network.spec.input_shape, device=device))
    network.train(was_training)
    return (maps.shape[1], maps.shape[2], maps.shape[3])


def _shape_after(module: nn.Module, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape of what a module of one layer or more makes of a map of that shape."""
    was_training = module.training
    module.eval()
    with torch.no_grad():
        maps = module(torch.zeros(1, *shape, device=next(module.parameters()).device))
    module.train(was_training)
    return (maps.shape[1], maps.shape[2], maps.shape[3])


def _add_weights(digest: hashlib._Hash, module: nn.Module) -> None:
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())


def _dropouts(network: nn.Module) -> list[nn.Dropout]:
    return [module for module in network.modules() if isinstance(module, nn.Dropout)]


@contextmanager
def _dropout_on(network: nn.Module, probability: float) -> Iterator[None]:
    """Dropout as in training, everything else as in evaluation; nothing where it is 0."""
    if not probability:
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
