"""The network that is to be trained, before its first step."""

from __future__ import annotations

from pathlib import Path

import torch

from compress.data.seeds import derive_seed
from compress.models.checkpoint import weights_of
from compress.models.registry import Network, build
from compress.spec import ModelSpec


def with_dropout(spec: ModelSpec, dropout: float) -> ModelSpec:
    """The spec to train: only WRN blocks have a place for dropout."""
    return spec.with_(dropout=dropout if spec.arch == "wrn" else 0.0)


def first_network(spec: ModelSpec, seed: int, init: Path | None = None) -> Network:
    """A network whose first weights depend on the seed alone, or are a checkpoint's.

    Raises:
        CheckpointError: ``init`` cannot be read, or is another network.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(derive_seed(seed, "weights"))
        network = build(spec)
    if init is not None:
        network.load_state_dict(weights_of(init, spec))
    return network
