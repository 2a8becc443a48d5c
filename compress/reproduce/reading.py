"""Reading declared tables: every key of the right type, nothing unknown, all faults collected."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

TYPES = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}


class Reader:
    """One table of a TOML file, read key by key; what is wrong is added to ``faults``.

    Args:
        values: the table.
        where: the table's name in messages, "[schedule]"; empty for the file itself.
        faults: gets a sentence part for everything that is wrong.
    """

    def __init__(self, values: Mapping[str, Any], where: str, faults: list[str]) -> None:
        self._values = values
        self._where = f"{where} " if where else ""
        self._faults = faults
        self._known: list[str] = []

    def fault(self, text: str) -> None:
        """Adds what is wrong with this table."""
        self._faults.append(f"{self._where}{text}")

    def take(self, key: str, kind: Any, default: Any = ...) -> Any:
        """The value of a key, of the annotation ``kind``.

        Args:
            key: in the table.
            kind: str, int, float, bool, dict, list, or list[...] of one of them.
            default: what a missing key means; without one the key has to be there.

        Returns:
            the default also where the type is wrong, None where there is none; the fault is told.
        """
        self._known.append(key)
        fallback = None if default is ... else default
        if key not in self._values:
            if default is ...:
                self.fault(f"has no {key}")
            return fallback
        value = self._values[key]
        if not fits(value, kind):
            self.fault(f"{key} is {value!r}, it must be {told(kind)}")
            return fallback
        return plain(value, kind)

    def table(self, key: str) -> Mapping[str, Any]:
        """A table within this one; empty where it is missing."""
        found: Mapping[str, Any] = self.take(key, dict, {})
        return found

    def finish(self) -> None:
        """Tells every key that nobody took."""
        for key in self._values:
            if key not in self._known:
                self.fault(f"has no key {key}{nearest(key, self._known)}")


def fits(value: Any, kind: Any) -> bool:
    """Whether a value of a TOML file is one of the annotation ``kind``; a float may be whole."""
    if get_origin(kind) in (Union, UnionType):
        return any(fits(value, each) for each in get_args(kind) if each is not NoneType)
    if get_origin(kind) in (list, tuple):
        (item, *_) = get_args(kind)
        return isinstance(value, list) and all(fits(each, item) for each in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def plain(value: Any, kind: Any) -> Any:
    """A value that fits, as the annotation has it: 1 -> 1.0, a list -> a tuple."""
    if get_origin(kind) in (Union, UnionType):
        kind = next(e for e in get_args(kind) if e is not NoneType and fits(value, e))
    if get_origin(kind) in (list, tuple):
        (item, *_) = get_args(kind)
        return tuple(plain(each, item) for each in value)
    return float(value) if kind is float else value


def told(kind: Any) -> str:
    """'a whole number', 'a list, each a string'."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(told(each) for each in get_args(kind) if each is not NoneType)
    if get_origin(kind) in (list, tuple):
        return f"a list, each {told(get_args(kind)[0])}"
    return TYPES[get_origin(kind) or kind]


def nearest(name: str, known: Sequence[str]) -> str:
    """' (did you mean this?)' or what there is."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    if near:
        return f" (did you mean {near[0]}?)"
    return f" (there are {', '.join(known)})" if known else ""
