"""What is beside the weights in somebody's file: plain values, of which some say what is wanted.

Hyper-parameters, arguments and optimizers' states may be nested in one another in any way, shared
and even endless; so they are read to a limited depth and number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compress.errors import UsageError
from compress.spec import Normalization

LARGEST_DEPTH_OF_NESTING = 8
LARGEST_NUMBER_OF_VALUES = 1_000_000
LARGEST_NUMBER_IN_A_LIST = 100_000

Keys = tuple[str, ...]


def leaves(values: Mapping[Any, Any]) -> Iterator[tuple[Keys, object]]:
    """Every leaf of nested mappings, by its keys; a mapping that is shared is gone into once."""
    return _leaves(values, 0, set())


def _leaves(values: Mapping[Any, Any], depth: int, met: set[int]) -> Iterator[tuple[Keys, object]]:
    met.add(id(values))
    for key, value in values.items():
        name = str(key) if isinstance(key, str | int) else f"<{type(key).__name__}>"
        if isinstance(value, Mapping):
            if depth < LARGEST_DEPTH_OF_NESTING and id(value) not in met:
                for keys, leaf in _leaves(value, depth + 1, met):
                    yield (name, *keys), leaf
        else:
            yield (name,), value


class _NotPlain(Exception):
    """A value is no number, text or list of them, or there are too many in it."""


class _Copy:
    """A copy of plain values that ends where their number does."""

    def __init__(self) -> None:
        self.left = LARGEST_NUMBER_OF_VALUES
        self.budget = 0  # of the list that is copied now
        self.met: set[int] = set()

    def of_mapping(self, values: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        """What of a mapping is plain; a mapping that is shared is gone into once."""
        found: dict[str, Any] = {}
        self.met.add(id(values))
        for key, value in values.items():
            if isinstance(value, Mapping):
                if depth < LARGEST_DEPTH_OF_NESTING and id(value) not in self.met:
                    inside = self.of_mapping(value, depth + 1)
                    if inside:
                        found[str(key)] = inside
            elif isinstance(key, str | int):
                self.budget = min(self.left, LARGEST_NUMBER_IN_A_LIST)
                before = self.budget
                try:
                    found[str(key)] = self.of_value(value, 0)
                except _NotPlain:
                    continue
                finally:
                    self.left -= before - self.budget
        return found

    def of_value(self, value: object, depth: int) -> Any:
        """A number or a text itself, or a list of them copied.

        Raises:
            _NotPlain: it is something else, too deep, or one too many.
        """
        self.budget -= 1
        if self.budget < 0 or depth > LARGEST_DEPTH_OF_NESTING:
            raise _NotPlain
        if isinstance(value, list | tuple):
            copied = [self.of_value(item, depth + 1) for item in value]
            return tuple(copied) if isinstance(value, tuple) else copied
        if value is None or isinstance(value, str | int | float | bool):
            return value
        raise _NotPlain


def plain_values(values: Mapping[Any, Any]) -> dict[str, Any]:
    """What is beside the weights: numbers, texts, and lists and mappings of them."""
    return _Copy().of_mapping(values, 0)


def stated_normalization(
    metadata: Mapping[str, Any],
) -> tuple[Normalization | None, tuple[str, ...]]:
    """A mean and a std beside the weights, or under one key there; and why one is not used."""
    notes = []
    for place in (metadata, *(v for v in metadata.values() if isinstance(v, Mapping))):
        mean, std = place.get("mean"), place.get("std")
        if isinstance(mean, list | tuple) and isinstance(std, list | tuple):
            try:
                return Normalization(tuple(map(float, mean)), tuple(map(float, std))), ()
            except UsageError as error:
                notes.append(f"The file has a normalisation that was not used. {error}")
            except (TypeError, ValueError, OverflowError):
                continue
    return None, tuple(notes)


def stated_classes(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the classes beside the weights, or none."""
    classes = metadata.get("classes", metadata.get("class_names"))
    if isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes):
        return tuple(classes)
    return ()
