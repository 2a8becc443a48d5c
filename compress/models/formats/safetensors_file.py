"""safetensors files, and the description that our own have in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from compress.errors import CheckpointError, UsageError
from compress.models.hypothesis import check_state
from compress.models.registry import architecture, read_spec
from compress.spec import ModelSpec, Normalization

METADATA_KEY = "compress"
"""The entry of our safetensors files that describes the network, as JSON."""


@dataclass(frozen=True)
class Description:
    """What a file of our own says of its network.

    Attributes:
        spec: the network.
        normalization: what its images go through, where it is known.
        classes: one name a class, or none.
        extra: further plain values.
    """

    spec: ModelSpec
    normalization: Normalization | None
    classes: tuple[str, ...]
    extra: Mapping[str, Any]


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and the texts beside them.

    Raises:
        CheckpointError: damaged, cut short, or without tensors.
    """
    try:
        with safe_open(path, framework="pt") as file:
            stated = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (
        *(SafetensorError, OSError, ValueError, RuntimeError, AttributeError, TypeError),
        *(KeyError, OverflowError, MemoryError),
    ) as error:
        raise CheckpointError(
            f"{path} is damaged or cut short: '{error}'. Copy or download it again."
        ) from error
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors.")
    return tensors, stated


def describe_own(path: Path, tensors: Mapping[str, Tensor], text: str) -> Description:
    """Reads what a file of our own says of itself; everything in it is checked.

    Raises:
        CheckpointError: it is no description, or that of another network than the tensors are.
    """
    try:
        described = json.loads(text)
        spec = read_spec(described.pop("spec"))
        stated = described.pop("normalization")
        normalization = None
        if stated is not None:
            normalization = Normalization(
                tuple(float(v) for v in stated["mean"]), tuple(float(v) for v in stated["std"])
            )
        classes = described.pop("classes")
    except (
        *(ValueError, KeyError, TypeError, AttributeError, UsageError),
        *(OverflowError, RecursionError),
    ) as error:
        raise CheckpointError(
            f"The description in {path} is damaged ({type(error).__name__}: {error}). "
            "Write the checkpoint again."
        ) from error
    faults = []
    # Checked before the network is built: a wrong depth could ask for one of any size.
    if len(architecture(spec).layers(spec.input_shape).convolutions) > len(tensors):
        faults.append(f"{spec.name} has more layers than the file")
    if normalization and len(normalization.mean) != spec.input_shape[0]:
        faults.append(f"the normalisation is not of {spec.input_shape[0]} channel(s)")
    if not isinstance(classes, list):
        faults.append(f"its classes are a {type(classes).__name__}, not a list")
    elif not all(isinstance(name, str) for name in classes):
        faults.append("a class name is not text")
    elif classes and len(classes) != spec.num_classes:
        faults.append(f"{len(classes)} class names for {spec.num_classes} classes")
    if faults:
        raise CheckpointError(f"The description in {path} is damaged: {'; '.join(faults)}.")
    try:
        check_state(spec, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return Description(spec, normalization, tuple(classes), described)
