"""Values, keys and types as messages have them: short, and on one line, whatever they are."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union

MAX_INT = 2**63 - 1

NAMES: dict[Any, str] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}


def told(kind: Any) -> str:
    """'a whole number', 'a list, each a string', 'on or off'."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        return told(typing.get_args(kind)[0])
    if origin in (Union, UnionType):
        return " or ".join(told(each) for each in typing.get_args(kind) if each is not NoneType)
    if origin is Literal:
        return " or ".join(map(shown, typing.get_args(kind)))
    if origin is tuple and typing.get_args(kind)[-1] is not Ellipsis:
        return f"a list of {len(typing.get_args(kind))}"
    if origin in (list, tuple, Sequence):
        return f"a list, each {told(typing.get_args(kind)[0])}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(shown(each.value) for each in kind)
    if origin in (dict, Mapping) or dataclasses.is_dataclass(kind):
        return NAMES[dict]
    return NAMES.get(kind, f"a {kind.__name__}")


def shown(value: Any) -> str:
    """A value for a message, short and on one line whatever it is."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return repr(value) if len(value) <= 60 else f"{value[:57]!r}..."
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        some = ", ".join(shown(each) for each in value[:4])
        return f"[{some}{', ...' * (len(value) > 4)}]" if len(some) < 200 else "a list"
    if isinstance(value, int) and abs(value) > MAX_INT:
        return "a number beyond 64 bits"
    return repr(value)


def number_told(value: float) -> str:
    """A limit: 1, 65536, 99.9."""
    return str(int(value)) if abs(value) < 2**53 and value == int(value) else f"{value:g}"


def key_told(name: str) -> str:
    """A key for a message."""
    return name if re.fullmatch(r"[^\s'\"\\]{1,60}", name) else shown(name)


def nearest(name: str, among: Sequence[str]) -> str:
    """' (did you mean this?)' or what there is."""
    told_near = did_you_mean(name, among)
    return told_near or (f" (there are {', '.join(among)})" if among else "")


def did_you_mean(name: str, among: Sequence[str]) -> str:
    """' (did you mean this?)', or nothing."""
    import difflib  # here, because --help must not wait for it

    near = difflib.get_close_matches(name[:100].lower(), list(among), n=1, cutoff=0.5)
    return f" (did you mean {near[0]}?)" if near else ""
