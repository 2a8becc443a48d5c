from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import pytest

from compress.errors import InputError
from compress.schema import decode, encode
from compress.schema.rules import Count, Key, Rest


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: int
    y: int


@dataclass(frozen=True)
class Shape:
    colour: Colour
    corners: tuple[Point, ...]
    by_name: dict[str, Point]
    size: Annotated[float | None, Key("size_mm")]
    more: Annotated[dict[str, Count], Rest()]


SHAPE = Shape(Colour.RED, (Point(1, 2),), {"a": Point(3, 4)}, None, {"holes": 2, "edges": 1})
PLAIN = {
    "colour": "red",
    "corners": [{"x": 1, "y": 2}],
    "by_name": {"a": {"x": 3, "y": 4}},
    "size_mm": None,
    "holes": 2,
    "edges": 1,
}


def test_what_is_encoded_is_decoded_again() -> None:
    assert encode(SHAPE) == PLAIN
    assert type(encode(SHAPE)["colour"]) is str
    assert decode(Shape, PLAIN, "no shape") == SHAPE


def test_keys_of_no_field_are_those_of_the_rest() -> None:
    few = {key: value for key, value in PLAIN.items() if key not in ("holes", "edges")}
    assert decode(Shape, few, "no shape").more == {}
    with pytest.raises(InputError, match=r"no shape: holes is -1, it must be 0 or more\."):
        decode(Shape, PLAIN | {"holes": -1}, "no shape")


def test_a_value_that_is_no_dataclass_stays_as_it_is() -> None:
    assert encode({"a": (1, 2.5, None, "x", True)}) == {"a": [1, 2.5, None, "x", True]}
