"""One reading of a checkpoint, and the network that it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compress.errors import CheckpointError
from compress.models.network import Network
from compress.models.registry import build
from compress.spec import ModelSpec, Normalization


@dataclass(frozen=True)
class Hypothesis:
    """One reading of a checkpoint.

    Attributes:
        spec: the network.
        state_dict: its weights under the names that ``build(spec)`` uses, float32.
        normalization: where the file has it as a layer of the network; else None.
        notes: what was assumed or left out, in sentences.
        doubt: why shapes alone are not enough to believe it, a sentence; "" where they are.
    """

    spec: ModelSpec
    state_dict: Mapping[str, Tensor]
    normalization: Normalization | None = None
    notes: tuple[str, ...] = ()
    doubt: str = ""


def check_state(spec: ModelSpec, state: Mapping[str, Tensor]) -> None:
    """Names and shapes must be exactly those of ``build(spec)``.

    Raises:
        CheckpointError: one is missing, superfluous or of another shape; it is named.
    """
    with torch.device("meta"):
        expected = build(spec).state_dict()
    for name, value in expected.items():
        if name not in state:
            raise CheckpointError(f"The weights of {spec.name} lack '{name}'.")
        if state[name].shape != value.shape:
            raise CheckpointError(
                f"'{name}' is {tuple(state[name].shape)}; {spec.name} has {tuple(value.shape)}."
            )
    extra = sorted(set(state) - set(expected))
    if extra:
        raise CheckpointError(f"'{extra[0]}' does not belong to {spec.name}.")


def in_order(hypothesis: Hypothesis, order: Sequence[int]) -> Hypothesis:
    """The same network with output ``order[i]`` at place i: rows of its classifier change places.

    Args:
        hypothesis: the reading.
        order: a permutation of its classes.
    """
    with torch.device("meta"):
        network = build(hypothesis.spec)
    of_classifier = {id(parameter) for parameter in network.classifier.parameters()}
    rows = torch.tensor(list(order))
    moved = {
        name: hypothesis.state_dict[name][rows]
        for name, parameter in network.named_parameters()
        if id(parameter) in of_classifier
    }
    return replace(hypothesis, state_dict={**hypothesis.state_dict, **moved})


def instantiate(hypothesis: Hypothesis) -> Network:
    """The network with these weights, in evaluation mode. No random number is drawn."""
    with torch.device("meta"):
        network = build(hypothesis.spec)
    weights = {name: value.clone() for name, value in hypothesis.state_dict.items()}
    network.load_state_dict(weights, assign=True)
    return network.eval()
