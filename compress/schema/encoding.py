"""Dataclasses to plain values: the inverse of ``decode``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any

from compress.schema.decoding import fields_of


def encode(value: Any) -> Any:
    """A dataclass as a dictionary that ``decode`` reads back, and what it holds likewise.

    Tuples become lists, members of an Enum their values; anything else stays as it is.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found: dict[str, Any] = {}
        for key, field in fields_of(type(value)).items():
            inner = encode(getattr(value, field.name))
            found |= inner if field.rest else {key: inner}
        return found
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: encode(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [encode(inner) for inner in value]
    return value
