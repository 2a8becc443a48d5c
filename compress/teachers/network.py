"""A teacher that is one of the networks of ``compress.models``."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.exporting import onnx_from_torch
from compress.models.network import Network
from compress.models.registry import with_dropout
from compress.profiling.costs import costs_of_module
from compress.recipes.recipe import Shape
from compress.results import Costs, Parity
from compress.spec import ModelSpec, Normalization
from compress.tasks.task import Task
from compress.training.outputs import shapes_of


@dataclass(frozen=True)
class NetworkTeacher:
    """A network in evaluation mode, and what its images go through; see ``Teacher``."""

    network: Network
    normalization: Normalization

    @property
    def spec(self) -> ModelSpec:
        """What the network is."""
        return self.network.spec

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.network.parameters()).device

    @property
    def taps(self) -> tuple[str, ...]:
        """The network's."""
        return self.network.taps

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.network

    @property
    def has_dropout(self) -> bool:
        """Whether its blocks have a place for it."""
        return bool(self._dropouts())

    def outputs(self, images: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
        """See ``Network.outputs``."""
        return self.network.outputs(images, wanted)

    def shapes(self, wanted: Collection[str]) -> Mapping[str, Shape]:
        """Those of the outputs for an image of zeros."""
        return shapes_of(self.network, wanted)

    @contextmanager
    def dropout(self, probability: float) -> Iterator[None]:
        """Turns on dropout alone."""
        modules = self._dropouts()
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

    def identity(self) -> str:
        """Of the network's spec, its weights, and the normalisation."""
        digest = hashlib.sha256(f"{self.spec.to_dict()} {self.normalization}".encode())
        for name, tensor in self.network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def costs(self) -> Costs:
        """As counted from its modules."""
        return costs_of_module(self.network, self.spec.input_shape)

    def export(
        self, path: Path, images: Tensor, *, task: Task, source: Mapping[str, str]
    ) -> Parity:
        """As a student is exported."""
        _, parity = onnx_from_torch(
            self.network,
            path,
            spec=with_dropout(self.spec, 0.0),
            normalization=self.normalization,
            classes=task.classes,
            images=images,
            source=source,
            task=task,
        )
        return parity

    def _dropouts(self) -> list[nn.Dropout]:
        return [module for module in self.network.modules() if isinstance(module, nn.Dropout)]
