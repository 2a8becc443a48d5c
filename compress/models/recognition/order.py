"""Forward order of alike parts, from numbers, from the file, from what shapes tell elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from compress.models.recognition.layers import Conv, Norm, Tokens, common_start, relative


@dataclass
class Choices:
    """Which of several possible orders is taken where nothing decides; each reading has one."""

    taken: Mapping[str, int] = field(default_factory=dict)
    met: dict[str, int] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def pick(self, what: str, alternatives: int) -> int:
        """The number of the alternative that is taken, of so many."""
        self.met[what] = max(alternatives, self.met.get(what, 0))
        return min(self.taken.get(what, 0), alternatives - 1)


class Part(Protocol):
    """What has a name and a place in the file: a layer, a block."""

    @property
    def tokens(self) -> Tokens:
        """The name, in words and numbers."""
        ...

    @property
    def position(self) -> int:
        """The place in the file."""
        ...


PartT = TypeVar("PartT", bound=Part)


def in_order(parts: Sequence[PartT], what: str, *, ordered: bool, choices: Choices) -> list[PartT]:
    """Alike parts in forward order: by the numbers in their names, else by the file's order."""
    if len(parts) < 2:
        return list(parts)
    by_file = sorted(parts, key=lambda part: part.position)
    by_number = by_numbers(parts)
    if by_number is not None:
        if not ordered or by_file == by_number:
            return by_number
        orders = [by_number, by_file]
        note = f"The numbers in the names of the {what} and the file's order differ; taken: "
        labels = ["the numbers.", "the file's order."]
    elif ordered:
        return by_file
    else:
        natural = sorted(parts, key=lambda part: _natural(part.tokens))
        orders = [natural, natural[::-1]]
        note = (
            f"The file has no order, and the names of the {what} have no numbers "
            f"('{'.'.join(map(str, natural[0].tokens))}', ...); taken: "
        )
        labels = ["the alphabetical order.", "the reverse alphabetical order."]
    index = choices.pick(what, len(orders))
    choices.notes[what] = note + labels[index]
    return orders[index]


def _natural(tokens: Tokens) -> tuple[tuple[int, int, str], ...]:
    """A sort key in which 2 comes before 10 and numbers before words."""
    return tuple((0, t, "") if isinstance(t, int) else (1, 0, t) for t in tokens)


def by_numbers(parts: Sequence[PartT]) -> list[PartT] | None:
    """Sorted by number, where names differ in numbers alone; else None."""
    names = [part.tokens for part in parts]
    start = len(common_start(*names))
    end = len(common_start(*(name[start:][::-1] for name in names)))
    middles = [name[start : len(name) - end] for name in names]
    if len(set(middles)) < len(middles):
        return None
    words = {tuple(t for t in middle if isinstance(t, str)) for middle in middles}
    if len(words) > 1:
        return None
    numbers = {
        part: tuple(t for t in middle if isinstance(t, int))
        for part, middle in zip(map(id, parts), middles, strict=True)
    }
    return sorted(parts, key=lambda part: numbers[id(part)])


def learn_first(
    pairs: Sequence[tuple[tuple[PartT, PartT], Callable[[PartT], bool]]],
) -> dict[frozenset[Tokens], Tokens]:
    """From pairs that shapes tell apart: names inside the pair -> the name of the first one."""
    learned: dict[frozenset[Tokens], Tokens] = {}
    contradicted = set()
    for pair, is_first in pairs:
        first = [part for part in pair if is_first(part)]
        if len(first) != 1:
            continue
        root = common_start(pair[0].tokens, pair[1].tokens)
        key = frozenset(relative(part.tokens, root) for part in pair)
        name = relative(first[0].tokens, root)
        if learned.setdefault(key, name) != name:
            contradicted.add(key)
    return {key: name for key, name in learned.items() if key not in contradicted}


def as_learned(
    pair: tuple[PartT, PartT], learned: Mapping[frozenset[Tokens], Tokens]
) -> tuple[PartT, PartT] | None:
    """The pair in the order in which blocks that shapes tell have parts of those names."""
    root = common_start(pair[0].tokens, pair[1].tokens)
    names = [relative(part.tokens, root) for part in pair]
    first = learned.get(frozenset(names))
    if first is None:
        return None
    return pair if names[0] == first else (pair[1], pair[0])


def beside(norms: tuple[Norm, Norm], convs: tuple[Conv, Conv]) -> tuple[Norm, Norm] | None:
    """Norms in the order of the convolutions under whose prefix they are; None if they are not."""
    near = [[len(common_start(norm.tokens, conv.tokens)) for conv in convs] for norm in norms]
    straight = near[0][0] + near[1][1]
    crossed = near[0][1] + near[1][0]
    if straight == crossed:
        return None
    return norms if straight > crossed else (norms[1], norms[0])
