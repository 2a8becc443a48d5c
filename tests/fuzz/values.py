"""Damage to JSON and TOML: fields that are missing, or of another type, size or depth."""

from __future__ import annotations

import copy
import json
import math
import random
import re
from collections.abc import Mapping
from typing import Any

DEEP = 100_000
# Stand in a document for what json.dumps cannot write.
_NESTED = re.compile(r'"@(lists|tables) (\d+)@"')


def nested(kind: str, depth: int) -> str:
    """A value that becomes lists or tables within each other when the document is written."""
    return f"@{kind} {depth}@"


#: What replaces a field.
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    "",
    "x",
    "nan",
    "1e999",
    "../../../../../../etc/passwd",
    "/dev/zero",
    "\u0000",
    "\ud800",
    "é" * 70_000,
    -1,
    0,
    1,
    1.5,
    -0.0,
    1e308,
    10**12,
    2**31,
    2**63,
    -(2**63),
    10**30,
    math.nan,
    math.inf,
    -math.inf,
    [],
    {},
    [[]],
    [None],
    [1, "two", None, {}],
    {"": None},
    {"a": {"b": []}},
    [0] * 5000,
    nested("lists", 60),
    nested("lists", DEEP),
    nested("tables", 1500),
)


def damaged(document: Any, rng: random.Random) -> Any:
    """A copy with one to three fields that are missing, renamed, doubled or replaced."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            return rng.choice(ODD)
        holder, key = rng.choice(places)
        way = rng.random()
        if way < 0.12:
            del holder[key]
        elif way < 0.18 and isinstance(holder, dict):
            holder[f"{key}s"] = holder.pop(key)
        elif way < 0.24 and isinstance(holder, list):
            holder += [copy.deepcopy(holder[key])] * rng.choice((1, 1000))
        elif way < 0.30:
            holder[key] = [holder[key]]
        elif way < 0.36:
            holder[key] = {str(key): holder[key]}
        elif way < 0.42:
            holder[key] = str(holder[key])
        elif way < 0.48 and isinstance(holder[key], (int, float)):
            holder[key] = rng.choice((-holder[key], holder[key] * 10**9, holder[key] + 0.5))
        else:
            holder[key] = copy.deepcopy(rng.choice(ODD))
    return document


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every field, however deep."""
    if isinstance(value, dict):
        keys: list[Any] = list(value)
    elif isinstance(value, list):
        keys = list(range(min(len(value), 50)))
    else:
        return []
    found = [(value, key) for key in keys]
    for key in keys:
        found += _places(value[key])
    return found


def to_json(document: Any) -> str:
    """As JSON with what JSON does not allow: NaN, Infinity, and any depth."""
    return _NESTED.sub(_json_nested, json.dumps(document, indent=1))


def _json_nested(match: re.Match[str]) -> str:
    depth = int(match[2])
    if match[1] == "lists":
        return "[" * depth + "]" * depth
    return '{"a":' * depth + "0" + "}" * depth


def to_toml(document: Mapping[str, Any]) -> str:
    """As TOML, all below the top in one line; what TOML cannot say becomes a string."""
    return "".join(f"{_key(key)} = {_toml(value)}\n" for key, value in document.items())


def _key(key: object) -> str:
    return json.dumps(str(key))


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            return repr(value) if math.isfinite(value) else str(value)
        case dict():
            inner = ", ".join(f"{_key(key)} = {_toml(each)}" for key, each in value.items())
            return "{" + inner + "}"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case None:
            return '"null"'
    text = _NESTED.fullmatch(json.dumps(value))
    if text is None:
        return json.dumps(value)
    depth = int(text[2])
    return "[" * depth + "]" * depth if text[1] == "lists" else "{a=" * depth + "0" + "}" * depth
