"""What a network is to the rest of the house: images in, named outputs out.

A feature map is asked for by its name, one of the network's ``taps``; the last map, which the
classifier reads, is "features" in every network. A classification network also gives "logits".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from compress.errors import UnknownName
from compress.spec import ModelSpec
from compress.tasks.classification import LOGITS as LOGITS

FEATURES = "features"
# The inner taps of a network whose three stages are ``stages``.
FIRST_STAGES = {"stage1": "stages.0", "stage2": "stages.1"}


class Network(nn.Module, ABC):
    """A network that is a body, which gives feature maps, and a classifier of the last of them.

    Attributes:
        spec: which network it is.
        linear: the layer that gives the logits.
        inner_taps: name -> the submodule whose output is that feature map, in forward order; all
            maps that can be asked for but the last.
    """

    spec: ModelSpec
    linear: nn.Linear
    inner_taps: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Images [b, c, h, w] -> the last convolutional feature map [b, c', h', w']."""

    def classify(self, features: Tensor) -> Tensor:
        """That map -> logits [b, classes], those of its average over all places."""
        logits: Tensor = self.linear(features.mean(dim=(2, 3)))
        return logits

    @property
    def classifier(self) -> nn.Module:
        """What ``classify`` has parameters in; all others are those of ``features``."""
        return self.linear

    def forward(self, x: Tensor) -> Tensor:
        """Images [b, c, h, w] -> logits [b, classes]."""
        return self.classify(self.features(x))

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the feature maps that can be asked for, in forward order."""
        return (*self.inner_taps, FEATURES)

    def outputs(self, images: Tensor, wanted: Collection[str] = (LOGITS,)) -> dict[str, Tensor]:
        """What is asked for of images, by name; nothing that is not needed is computed.

        Args:
            images: [b, c, h, w].
            wanted: names of ``taps``, and "logits".

        Raises:
            UnknownName: the network has no such output.
        """
        for name in wanted:
            if name not in (LOGITS, *self.taps):
                raise UnknownName("output of the network", name, (LOGITS, *self.taps))
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            return lambda _module, _inputs, output: found.__setitem__(name, output)

        hooks = [
            self.get_submodule(path).register_forward_hook(keep(name))
            for name, path in self.inner_taps.items()
            if name in wanted
        ]
        try:
            found[FEATURES] = self.features(images)
        finally:
            for hook in hooks:
                hook.remove()
        if LOGITS in wanted:
            found[LOGITS] = self.classify(found[FEATURES])
        return {name: found[name] for name in wanted}
