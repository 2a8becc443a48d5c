"""Somebody's tensors as plain weights: dense, of ordinary types, masks and norms multiplied out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from compress.errors import CheckpointError
from compress.models.metadata import Keys

LARGEST_NUMBER_OF_TENSORS = 50_000
LARGEST_NAME = 1_000
LARGEST_NUMBER_OF_PARTS = 24
# A tensor may repeat what the file holds once, as long as the copy is small.
LARGEST_EXPANSION_BYTES = 1 << 20
LARGEST_SPARSE_BYTES = 64 << 20
# All tensors together may be so many times the file: views of one storage under several names.
LARGEST_SHARING = 4

_ORDINARY = frozenset(
    (
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool),
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.uint16, torch.uint32, torch.uint64),
    )
)
_FLOAT8 = frozenset(
    (
        *(torch.float8_e4m3fn, torch.float8_e4m3fnuz),
        *(torch.float8_e5m2, torch.float8_e5m2fnuz),
    )
)


@dataclass(frozen=True)
class PlainWeights:
    """The tensors of a file.

    Attributes:
        tensors: those that are plain weights now, in the file's order.
        unusable: why the others cannot be, as ends of sentences.
        notes: what was done, in sentences.
    """

    tensors: Mapping[Keys, Tensor]
    unusable: Mapping[Keys, str]
    notes: tuple[str, ...]


def check_claims(path: Path, tensors: Mapping[Keys, Tensor]) -> None:
    """Refuses more tensors, longer names or more memory than a checkpoint needs.

    Nothing of a tensor is copied: strides of 0 let a few bytes of a file claim any size.

    Raises:
        CheckpointError: it is so; the first is named.
    """
    if len(tensors) > LARGEST_NUMBER_OF_TENSORS:
        raise CheckpointError(
            f"{path} holds {len(tensors):,} tensors, but at most {LARGEST_NUMBER_OF_TENSORS:,} "
            "are read. Save only the network's state_dict."
        )
    claimed = 0
    storages: dict[int, int] = {}
    for keys, value in tensors.items():
        name = ".".join(keys)
        parts = name.count(".") + 1
        if len(name) > LARGEST_NAME or parts > LARGEST_NUMBER_OF_PARTS:
            raise CheckpointError(
                f"{path} has a tensor with a name of {len(name):,} characters in {parts:,} parts "
                f"('{name[:40]}...'), but at most {LARGEST_NAME:,} and {LARGEST_NUMBER_OF_PARTS} "
                "are allowed."
            )
        for part in _stored(value):
            storage = part.untyped_storage()
            size = part.numel() * part.element_size()
            storages[storage.data_ptr()] = storage.nbytes()
            if size > storage.nbytes() and size > LARGEST_EXPANSION_BYTES:
                raise CheckpointError(
                    f"'{name}' in {path} claims {size:,} bytes (shape {shape_of(part)}, strides "
                    f"{part.stride()}), but the file holds {storage.nbytes():,} for it. Save it "
                    "after .contiguous()."
                )
            claimed += size
    held = sum(storages.values())
    if claimed > LARGEST_SHARING * held + LARGEST_SPARSE_BYTES:
        raise CheckpointError(
            f"The tensors of {path} claim {claimed:,} bytes in total, but the file holds {held:,} "
            "for them. Save only the network's state_dict."
        )


def _stored(value: Tensor) -> tuple[Tensor, ...]:
    """The parts of a tensor that the file holds."""
    if value.is_meta or value.is_nested:
        return ()
    if value.layout is torch.sparse_coo:
        return value._indices(), value._values()
    return (value,) if value.layout is torch.strided else ()


def plain_weights(tensors: Mapping[Keys, Tensor]) -> PlainWeights:
    """Makes plain weights of what can be; see ``check_claims``, which comes first."""
    plain: dict[Keys, Tensor] = {}
    unusable: dict[Keys, str] = {}
    converted: dict[str, int] = {}
    for keys, value in tensors.items():
        fault = _fault(value)
        if fault:
            unusable[keys] = fault
            continue
        plain[keys], kind = _dense(value)
        if kind:
            converted[kind] = converted.get(kind, 0) + 1
    notes = [f"{count} {kind}" for kind, count in converted.items()]
    plain, more = _multiplied_out(plain)
    for keys in plain:
        if re.search(r"(^|\.)parametrizations\.[^.]+\.original\d*$", ".".join(keys)):
            unusable[keys] = (
                "belongs to a parametrisation whose function is not in the file; call "
                "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight') and save "
                "again"
            )
    return PlainWeights(
        {keys: value for keys, value in plain.items() if keys not in unusable},
        unusable,
        (*notes, *more),
    )


def shape_of(value: Tensor) -> str:
    """'64x3x3x3'; 'one number' of a scalar."""
    return "x".join(map(str, value.shape)) or "one number"


def _fault(value: Tensor) -> str:
    """Why a tensor cannot be a weight, as the end of a sentence; "" where it can."""
    kind = str(value.dtype).removeprefix("torch.")
    if value.is_nested:
        return "is a nested tensor, which is not a network weight"
    if value.is_meta:
        return (
            "is on the meta device: the file has its shape but no values. Save the network after "
            "its weights are loaded"
        )
    if value.is_quantized:
        return f"is quantised ({kind}). Give the float checkpoint"
    if value.is_complex():
        return f"is complex ({kind}), but no known network has complex weights"
    if value.numel() == 0:
        return f"has no values (its shape is {shape_of(value)})"
    if value.dtype not in _ORDINARY | _FLOAT8:
        return f"is of type {kind}, which is not supported. Save it as float32"
    if value.layout not in (torch.strided, torch.sparse_coo):
        return f"is sparse ({str(value.layout).removeprefix('torch.')}). Save it after .to_dense()"
    if value.layout is torch.sparse_coo:
        size = value.numel() * value.element_size()
        if size > LARGEST_SPARSE_BYTES:
            return (
                f"is sparse and would be {size:,} bytes when dense, but at most "
                f"{LARGEST_SPARSE_BYTES:,} are read. Save it after .to_dense()"
            )
        # A place outside would be written to when it is made dense; not every version of torch
        # looks for one on reading.
        places, shape = value._indices(), torch.tensor(value.shape[: value.sparse_dim()])
        if places.numel() and (places.min() < 0 or bool((places >= shape[:, None]).any())):
            return "is sparse and damaged: it has values outside of its shape"
    return ""


def _dense(value: Tensor) -> tuple[Tensor, str]:
    """A tensor in an ordinary form, and what was done, with the count in front left out."""
    value = value.detach()
    done = ""
    if value.layout is not torch.strided:
        value = value.to_dense()
        done = "sparse tensor(s) were made dense."
    if value.dtype in _FLOAT8:
        kind = str(value.dtype).removeprefix("torch.")
        value = value.to(torch.float32)
        done = f"tensor(s) of {kind} were read as float32, which changes no value."
    return value, done


# ---------------------------------------------------------------------------------------------
# Weights that are stored as what they are made of


def _masked(parts: Mapping[str, Tensor]) -> Tensor | None:
    whole, mask = parts["_orig"], parts["_mask"]
    return whole * mask.to(whole.dtype) if whole.shape == mask.shape else None


def _of_length(parts: Mapping[str, Tensor]) -> Tensor | None:
    length, direction = parts["_g"], parts["_v"]
    if length.dim() and length.dim() != direction.dim():
        return None
    alone = [axis for axis in range(length.dim()) if length.shape[axis] == 1]
    if any(
        length.shape[axis] != direction.shape[axis]
        for axis in range(length.dim())
        if axis not in alone
    ):
        return None
    norm: Tensor = torch.linalg.vector_norm(
        direction, dim=alone or None, keepdim=bool(length.dim())
    )
    return direction * (length / norm)


def _of_norm_one(parts: Mapping[str, Tensor]) -> Tensor | None:
    whole, left, right = parts["_orig"], parts["_u"], parts["_v"]
    matrix = whole.flatten(1) if whole.dim() > 1 else None
    if matrix is None or matrix.shape != (left.numel(), right.numel()):
        return None
    return whole / torch.dot(left.flatten(), torch.mv(matrix, right.flatten()))


@dataclass(frozen=True)
class _Form:
    """A way to store a weight as parts.

    Attributes:
        parts: of the formula -> the end of its name, {} standing for the weight's.
        whole: the parts -> the weight, or None where they are not that.
        note: what was done, with the count in front left out.
    """

    parts: Mapping[str, str]
    whole: Callable[[Mapping[str, Tensor]], Tensor | None]
    note: str


_PRUNED = (
    "weight(s) are stored with a mask (weight_orig and weight_mask); each was multiplied by it, "
    "as torch.nn.utils.prune.remove does."
)
_NORMED = (
    "weight(s) are stored as length and direction (weight normalisation); they were multiplied "
    "out, as torch.nn.utils.parametrize.remove_parametrizations does."
)
_SPECTRAL = (
    "weight(s) are stored before their spectral normalisation; each was divided by its norm, as "
    "the network itself does in evaluation."
)
_INSIDE = "parametrizations.{}."
_FORMS = (
    _Form({"_orig": "{}_orig", "_mask": "{}_mask"}, _masked, _PRUNED),
    _Form({"_orig": "{}_orig", "_u": "{}_u", "_v": "{}_v"}, _of_norm_one, _SPECTRAL),
    _Form({"_g": "{}_g", "_v": "{}_v"}, _of_length, _NORMED),
    _Form({"_g": f"{_INSIDE}original0", "_v": f"{_INSIDE}original1"}, _of_length, _NORMED),
    _Form(
        {"_orig": f"{_INSIDE}original", "_u": f"{_INSIDE}0._u", "_v": f"{_INSIDE}0._v"},
        _of_norm_one,
        _SPECTRAL,
    ),
)


def _multiplied_out(
    tensors: dict[Keys, Tensor],
) -> tuple[dict[Keys, Tensor], list[str]]:
    """Tensors with the weights that are stored as parts put together, each where its first was."""
    notes = []
    for form in _FORMS:
        first, *others = form.parts.items()
        pattern = re.escape(first[1]).replace(r"\{\}", r"(?P<name>[^.]+?)")
        ends = re.compile(rf"(?P<start>(?:.*\.)?){pattern}", re.DOTALL)
        found: dict[Keys, tuple[Keys, Tensor]] = {}
        dropped: set[Keys] = set()
        for keys, value in tensors.items():
            match = ends.fullmatch(keys[-1])
            if match is None:
                continue
            names = {
                part: (*keys[:-1], match["start"] + end.replace("{}", match["name"]))
                for part, end in others
            }
            whole = (*keys[:-1], match["start"] + match["name"])
            if whole in tensors or not all(name in tensors for name in names.values()):
                continue
            parts = {first[0]: value, **{part: tensors[name] for part, name in names.items()}}
            if not all(part.is_floating_point() for p, part in parts.items() if p != "_mask"):
                continue
            made = form.whole(parts)
            if made is not None:
                found[keys] = (whole, made)
                dropped |= set(names.values())
        if found:
            notes.append(f"{len(found)} {form.note}")
            kept = (item for item in tensors.items() if item[0] not in dropped)
            tensors = dict(found.get(keys, (keys, value)) for keys, value in kept)
    return tensors, notes
