"""The network that is to be trained, before its first step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from compress.data.classes import class_mapping
from compress.data.seeds import derive_seed
from compress.models.checkpoint import read_tensors, weights_of
from compress.models.hypothesis import Hypothesis, in_order
from compress.models.network import Network
from compress.models.registry import build
from compress.spec import ModelSpec


def first_network(
    spec: ModelSpec, seed: int, init: Path | None = None, classes: Sequence[str] = ()
) -> Network:
    """A network whose first weights depend on the seed alone, or are a checkpoint's.

    Args:
        spec: the network.
        seed: of the weights.
        init: the checkpoint.
        classes: names in the order of the labels, into which the checkpoint's outputs are put.

    Raises:
        CheckpointError: ``init`` cannot be read, or is another network.
        DataError: its classes are in another order and cannot be matched by name.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(derive_seed(seed, "weights"))
        network = build(spec)
    if init is not None:
        weights = weights_of(init, spec)
        order = class_mapping(read_tensors(init).classes, classes)
        if order is not None:
            weights = in_order(Hypothesis(spec, weights), order).state_dict
        network.load_state_dict(weights)
    return network
