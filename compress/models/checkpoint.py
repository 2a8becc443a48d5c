"""Reading other people's weights safely, and reading and writing our own.

What a file is and what is read of it: compress.models.formats. Which of its tensors are the
network: compress.models.choice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from compress.errors import CheckpointError, UsageError
from compress.files import atomic_path
from compress.models.choice import choose_group
from compress.models.formats.kinds import (
    LEGACY_MAGIC,
    ZIP_MAGIC,
    foreign,
    head_of,
    is_safetensors,
)
from compress.models.formats.safetensors_file import (
    METADATA_KEY,
    describe_own,
    read_safetensors,
)
from compress.models.formats.torch_file import read_torch, refuse_pickle
from compress.models.hypothesis import Hypothesis
from compress.models.metadata import (
    Keys,
    leaves,
    plain_values,
    stated_classes,
    stated_normalization,
)
from compress.models.network import Network
from compress.models.plain_weights import check_claims, plain_weights
from compress.models.recognise import recognise
from compress.models.registry import with_dropout
from compress.models.statement import Statement
from compress.spec import ModelSpec, Normalization


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        path: the file.
        tensors: name -> weights of one network, in the file's order.
        metadata: plain values found beside the weights.
        ordered: whether the order of ``tensors`` is that of registration.
        spec: the network, in our own files only; None where it has to be recognised.
        normalization: where the file says it.
        classes: names of the classes, where the file says them.
        notes: what was done on the way, in sentences.
        group: the key or prefix that ``tensors`` have in the file.
        others: further networks in the file, by their key or prefix.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    ordered: bool = True
    spec: ModelSpec | None = None
    normalization: Normalization | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    group: str = ""
    others: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def hypotheses(
        self, *, arch: str | None = None, image_size: tuple[int, int] = (32, 32)
    ) -> list[Hypothesis]:
        """The networks that the weights may be, the most likely first; one for our own files.

        Args:
            arch: what the user says it is (see ``Statement``); of several networks in a file,
                the first that agrees is taken.
            image_size: height and width of the images; our own files say theirs.

        Raises:
            CheckpointError: of no known family, or not the network that ``arch`` says.
            UsageError: ``arch`` states no network.
        """
        if self.spec is not None:
            if arch is not None and not Statement.parse(arch).admits(self.spec):
                raise Statement.parse(arch).disagreement(f"{self.path} is", [self.spec])
            return [Hypothesis(self.spec, self.tensors)]
        networks = {self.group: self.tensors, **(self.others if arch is not None else {})}
        refused: CheckpointError | None = None
        for name, tensors in networks.items():
            try:
                found = recognise(tensors, ordered=self.ordered, arch=arch, image_size=image_size)
            except CheckpointError as error:
                refused = refused or error
                continue
            if tensors is not self.tensors:
                _check_values(self.path, tensors)
            note = self._left_out(name)
            return [replace(each, notes=(*note, *each.notes)) for each in found]
        raise refused or CheckpointError(f"{self.path} does not contain a network.")

    def _left_out(self, taken: str) -> tuple[str, ...]:
        """Says which of several networks was taken."""
        if not self.others:
            return ()
        names = [name for name in (self.group, *self.others) if name != taken]
        listed = ", ".join(f"'{name}'" for name in names)
        return (f"The file holds {len(names) + 1} networks; '{taken}' is used, {listed} ignored.",)


def read_tensors(path: Path) -> Checkpoint:
    """Reads a .pt, .pth, .th or .safetensors file; what it is shows in its bytes, not its name.

    Raises:
        CheckpointError: not a checkpoint, damaged, larger than it can be, or without usable
            weights.
        UnsafeFile: it would have to execute something to be read; lists what.
    """
    head = head_of(path)
    if head.startswith((ZIP_MAGIC, LEGACY_MAGIC)):
        return _of_torch(path, read_torch(path))
    if is_safetensors(head):
        return _of_safetensors(path)
    raise refuse_pickle(path, head) or foreign(path, head)


def save_checkpoint(
    path: Path,
    network: Network,
    *,
    normalization: Normalization | None,
    classes: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Writes a network as safetensors with its description, whole or not at all.

    Args:
        path: where to.
        network: its weights are stored as float32 under its own names.
        normalization: what its images went through.
        classes: one name a class, or none.
        extra: more plain values to keep; ``read_tensors`` gives them back as metadata.

    Raises:
        UsageError: the classes are not as many as the network has, or a value is not plain.
    """
    described = {
        "spec": network.spec.to_dict(),
        "normalization": normalization.to_dict() if normalization else None,
        "classes": list(classes),
    }
    if classes and len(classes) != network.spec.num_classes:
        raise UsageError(
            f"{network.spec.name} has {network.spec.num_classes} classes, but {len(classes)} "
            "names were given."
        )
    clash = sorted(set(described) & set(extra or {}))
    if clash:
        raise UsageError(f"'{clash[0]}' of a checkpoint cannot be set as an extra value.")
    try:
        text = json.dumps(described | dict(extra or {}), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"A checkpoint keeps plain values only: {error}.") from error
    weights = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    with atomic_path(path) as temporary:
        # One entry alone: safetensors writes several in a random order, and the same weights are
        # to give the same bytes.
        save_file(weights, temporary, metadata={METADATA_KEY: text})


# ---------------------------------------------------------------------------------------------
# From what is in a file to a checkpoint


def _of_torch(path: Path, loaded: object) -> Checkpoint:
    """The weights inside of what torch read."""
    if isinstance(loaded, Tensor):
        raise CheckpointError(f"{path} holds one tensor without a name. Save a state_dict.")
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(loaded).__name__}, not a state_dict. Save a state_dict."
        )
    tensors = {keys: value for keys, value in leaves(loaded) if isinstance(value, Tensor)}
    if not tensors:
        keys = ", ".join(f"'{str(key)[:40]}'" for key in list(loaded)[:5]) or "nothing"
        raise CheckpointError(f"{path} holds no tensors; it has {keys}.")
    metadata = plain_values(loaded)
    normalization, notes = stated_normalization(metadata)
    found = _chosen(path, tensors, ordered=True)
    return replace(
        found,
        metadata=metadata,
        normalization=normalization,
        classes=stated_classes(metadata),
        notes=(*found.notes, *notes),
    )


def _of_safetensors(path: Path) -> Checkpoint:
    tensors, stated = read_safetensors(path)
    text = stated.pop(METADATA_KEY, None)
    if text is None:
        keyed: dict[Keys, Tensor] = {(name,): value for name, value in tensors.items()}
        return replace(_chosen(path, keyed, ordered=False), metadata=stated)
    own = describe_own(path, tensors, text)
    _check_values(path, tensors)
    return Checkpoint(path, tensors, own.extra, False, own.spec, own.normalization, own.classes)


def _chosen(path: Path, tensors: Mapping[Keys, Tensor], *, ordered: bool) -> Checkpoint:
    """The network among the tensors of a file."""
    check_claims(path, tensors)
    plain = plain_weights(tensors)
    unusable = {".".join(keys): fault for keys, fault in plain.unusable.items()}
    if not plain.tensors:
        name, fault = next(iter(unusable.items()))
        raise CheckpointError(f"'{name}' in {path} {fault}.")
    groups, notes = choose_group(plain.tensors, ordered=ordered)
    group, chosen = next(iter(groups.items()))
    below = f"{group}." if group else ""
    # The part that all names in it share belongs to its prefix.
    names = [".".join(keys) for keys in plain.tensors]
    heads = {name[len(below) :].split(".", 1)[0] for name in names if name.startswith(below)}
    if not notes and len(heads) == 1:
        below += f"{heads.pop()}."
    for name, fault in unusable.items():
        if name.startswith(below):
            raise CheckpointError(f"'{name}' in {path} {fault}.")
    _check_values(path, chosen)
    return Checkpoint(
        path,
        chosen,
        ordered=ordered,
        notes=(*plain.notes, *notes),
        group=group,
        others={name: value for name, value in groups.items() if name != group},
    )


def _check_values(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises where a weight is infinite or not a number."""
    for name, value in tensors.items():
        if value.is_floating_point():
            bad = int((~torch.isfinite(value.float())).sum())
            if bad:
                raise CheckpointError(
                    f"'{name}' in {path} has {bad} value(s) of {value.numel()} that are infinite "
                    "or not a number: the training diverged or the file is damaged."
                )


def weights_of(path: Path, spec: ModelSpec) -> Mapping[str, Tensor]:
    """A checkpoint's weights under the names of ``build(spec)``.

    Raises:
        CheckpointError: it cannot be read, or is another network.
    """
    found = read_tensors(path).hypotheses(image_size=spec.input_shape[1:])[0]
    if with_dropout(found.spec, 0.0) != with_dropout(spec, 0.0):
        raise CheckpointError(
            f"{path} is a {found.spec.name} with {found.spec.num_classes} classes for images of "
            f"{found.spec.input_shape}, but a {spec.name} with {spec.num_classes} for "
            f"{spec.input_shape} is to be trained."
        )
    return found.state_dict
