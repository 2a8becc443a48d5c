"""Which of the tensors in somebody's file are the network: bare, or nested under any key."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from compress.errors import CheckpointError
from compress.models.metadata import Keys
from compress.models.recognise import recognise

# The smallest known networks have as many convolutions.
FEWEST_CONVOLUTIONS = 7

_AVERAGED = re.compile(r"ema|avg|average|swa|shadow|momentum|target|teacher|best", re.IGNORECASE)


def choose_group(
    tensors: Mapping[Keys, Tensor], *, ordered: bool
) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """The groups of tensors under one prefix that are known networks, the preferred one first.

    Nested keys and dotted names are one tree. From its root downwards, the first level at which
    something is recognised decides; an optimizer's state is not, a whole network is. Where
    nothing is recognised, the group that looks most like a network is given back, so that its
    own error is the one that is told.

    Args:
        tensors: by their keys in nested mappings.
        ordered: whether they are in the order of registration.
    """
    split = {tuple(".".join(keys).split(".")): value for keys, value in tensors.items()}
    convs = Counter(
        keys[:size]
        for keys, value in split.items()
        if value.dim() == 4
        for size in range(len(keys))
    )
    level: list[Keys] = [()]
    groups: dict[Keys, dict[str, Tensor]] = {}
    while level:
        groups |= _under(split, level)
        found = [prefix for prefix in level if _is_network(groups[prefix], ordered)]
        if found:
            # An average of weights comes after the plain network.
            found.sort(key=lambda prefix: bool(_AVERAGED.search(".".join(prefix))))
            return {".".join(prefix): _strip(groups[prefix]) for prefix in found}, []
        level = _below(split, level, convs)
    merged = _merge(tensors)
    if merged is not None and _is_network(merged, ordered):
        note = "Parameters and running statistics were put together from two mappings."
        return {"": merged}, [note]
    # Of nested prefixes with the same tensors the innermost is the plainest name.
    best = max(groups, key=lambda prefix: (_likeness(groups[prefix]), len(prefix)))
    return {".".join(best): groups[best]}, []


def _below(
    split: Mapping[Keys, Tensor], level: Sequence[Keys], convs: Mapping[Keys, int]
) -> list[Keys]:
    """Prefixes one part longer, under which there is enough for a network."""
    above, size = set(level), len(level[0])
    return list(
        dict.fromkeys(
            keys[: size + 1]
            for keys in split
            if len(keys) > size + 1
            and convs[keys[: size + 1]] >= FEWEST_CONVOLUTIONS
            and keys[:size] in above
        )
    )


def _strip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the leading parts that all names share ('module.', 'net.module.')."""
    while len({name.split(".", 1)[0] for name in tensors}) == 1 and all("." in n for n in tensors):
        tensors = {name.split(".", 1)[1]: value for name, value in tensors.items()}
    return tensors


def _under(split: Mapping[Keys, Tensor], level: Collection[Keys]) -> dict[Keys, dict[str, Tensor]]:
    """The tensors under each of some prefixes of one length, by what follows the prefix."""
    size = len(next(iter(level)))
    groups: dict[Keys, dict[str, Tensor]] = {prefix: {} for prefix in level}
    for keys, value in split.items():
        if keys[:size] in groups:
            groups[keys[:size]][".".join(keys[size:])] = value
    return groups


def _is_network(tensors: Mapping[str, Tensor], ordered: bool) -> bool:
    try:
        recognise(tensors, ordered=ordered)
    except CheckpointError:
        return False
    return True


def _likeness(tensors: Mapping[str, Tensor]) -> tuple[bool, bool, int]:
    """How much a group looks like one network: one classifier, one stem, many tensors."""
    stems = sum(value.dim() == 4 and value.shape[1] in (1, 3) for value in tensors.values())
    linears = sum(value.dim() == 2 for value in tensors.values())
    return stems == 1, linears == 1, len(tensors)


def _merge(tensors: Mapping[Keys, Tensor]) -> dict[str, Tensor] | None:
    """Mappings side by side put together, where no name is in two (parameters and statistics)."""
    merged: dict[str, Tensor] = {}
    for keys, value in tensors.items():
        name = ".".join(keys[1:])
        if not name:
            continue
        if name in merged:
            return None
        merged[name] = value
    return merged or None
