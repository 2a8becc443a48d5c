"""One reading of a checkpoint, and the network that it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compress.errors import CheckpointError
from compress.models.registry import Network, build
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
        raise CheckpointError(f"'{extra[0]}' has no place in {spec.name}.")


def instantiate(hypothesis: Hypothesis) -> Network:
    """The network with these weights, in evaluation mode. No random number is drawn."""
    with torch.device("meta"):
        network = build(hypothesis.spec)
    weights = {name: value.clone() for name, value in hypothesis.state_dict.items()}
    network.load_state_dict(weights, assign=True)
    return network.eval()
