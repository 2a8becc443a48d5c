"""A whole network of anybody's, every layer under the name that our own has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from compress.models.recognition.layers import (
    Conv,
    Norm,
    Unfit,
    Weights,
    common_start,
    embedded_normalization,
    tokens_of,
)
from compress.models.recognition.order import Choices
from compress.spec import Normalization


@dataclass(frozen=True)
class Reading:
    """A whole network.

    Attributes:
        weights: of the file.
        family: of the network.
        widths: channels that its stages give.
        found: parameters of the network that show in the weights.
        convs: our name -> the convolution; the stem is "conv".
        norms: our name -> the batch norm.
        classifier: names of its weight and of its bias, if it has one.
        normalization: where the file has it as a layer of the network.
        notes: what was assumed or left out, in sentences.
    """

    weights: Weights
    family: str
    widths: tuple[int, ...]
    found: Mapping[str, Any]
    convs: Mapping[str, Conv]
    norms: Mapping[str, Norm]
    classifier: tuple[str, str | None]
    normalization: Normalization | None = None
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier."""
        return self.weights.tensors[self.classifier[0]].shape[0]

    @property
    def conv_bias(self) -> bool:
        """Whether a convolution has a bias."""
        return any(conv.bias for conv in self.convs.values())

    def used(self) -> set[str]:
        """Names of all tensors that have a place."""
        names = {name for name in self.classifier if name}
        for norm in self.norms.values():
            names.update(norm.names)
        for conv in self.convs.values():
            names |= {conv.name} | ({conv.bias} if conv.bias else set())
        return names

    def complete(self, choices: Choices, *, duplicates: Collection[str] = ()) -> Reading:
        """With what is beside the network: its normalisation, and notes.

        Args:
            choices: that were taken on the way.
            duplicates: names that have no place and are known for what they are.

        Raises:
            Unfit: something else has no place in the network.
        """
        used = self.used()
        left = [n for n in self.weights.tensors if n not in used and n not in duplicates]
        channels = self.convs["conv"].inputs
        normalization, left = embedded_normalization(self.weights, left, channels)
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            shape = "x".join(map(str, self.weights.tensors[left[0]].shape)) or "one number"
            raise Unfit(
                f"'{left[0]}' ({shape}){more} does not belong to a {self.family} of this shape"
            )
        notes = list(self.notes)
        biased = [bool(conv.bias) for conv in self.convs.values()]
        if any(biased) and not all(biased):
            notes.append("Some convolutions have no bias; zeros are used.")
        if normalization is not None:
            notes.append("The file has the normalisation as a layer of the network.")
        notes += choices.notes.values()
        return replace(self, normalization=normalization, notes=tuple(notes))

    def state(self) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """The weights under our own names, float32; and what was assumed or left out."""
        tensors = self.weights.tensors
        state: dict[str, Tensor] = {}

        def put(name: str, value: Tensor) -> None:
            state[name] = value.detach().to(torch.float32).contiguous()

        for name, conv in self.convs.items():
            put(f"{name}.weight", conv.weight)
            if self.conv_bias:
                # A convolution without a bias beside others that have one: its bias is zero.
                put(f"{name}.bias", tensors[conv.bias] if conv.bias else torch.zeros(conv.outputs))
        for name, norm in self.norms.items():
            leaves = ("weight", "bias", "running_mean", "running_var")
            for leaf, source in zip(leaves, norm.names, strict=True):
                put(f"{name}.{leaf}", tensors[source])
            state[f"{name}.num_batches_tracked"] = torch.tensor(0)
        weight, bias = self.classifier
        put("linear.weight", tensors[weight].flatten(1))
        put("linear.bias", tensors[bias] if bias else torch.zeros(self.num_classes))
        notes = list(self.notes)
        if not bias:
            notes.append("The classifier has no bias; zeros are used.")
        kinds = {str(tensors[name].dtype).removeprefix("torch.") for name in self.used()}
        if kinds != {"float32"}:
            notes.append(f"The weights are {' and '.join(sorted(kinds))}; they run as float32.")
        return state, tuple(notes)


def find_classifier(
    weights: Weights, points: tuple[Conv, ...], channels: int, *, windows: bool = False
) -> tuple[str, str | None]:
    """Names of the classifier's weight and bias.

    Args:
        weights: of the file.
        points: 1x1 convolutions that have no other place; one may be the classifier.
        channels: that the last stage gives.
        windows: whether it may read several averages of each channel.

    Raises:
        Unfit: there is not one, or it reads something else.
    """
    points = tuple(conv for conv in points if conv.inputs == channels)
    count = len(weights.linears) + len(points)
    if count != 1:
        raise Unfit(f"it has {count} linear layers, not one")
    if points:
        return points[0].name, points[0].bias
    name = weights.linears[0]
    classes, inputs = weights.tensors[name].shape
    if inputs != channels and not (windows and inputs % channels == 0):
        raise Unfit(
            f"its classifier '{name}' reads {inputs} values; average pooling over the whole last "
            f"map gives {channels}"
        )
    tokens = tokens_of(name)
    biases = [v for v in weights.vectors if weights.tensors[v].numel() == classes]
    biases = [v for v in biases if len(common_start(tokens_of(v), tokens)) >= len(tokens) - 1]
    return name, biases[0] if len(biases) == 1 else None
