"""compress.schema.decoding: values become what the annotations say, or all faults are told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Literal

import pytest

from compress.errors import InputError, ModelFileError, UsageError
from compress.schema import Decoder, Row, decode, decode_json, decode_or_none, faults_of, of_text
from compress.schema.decoding import FAULTS_TOLD
from compress.schema.rules import (
    Beside,
    Check,
    FileName,
    FilePath,
    Fraction,
    ImageShape,
    Key,
    Length,
    PartOf,
    Positive,
    Sha256,
    Threads,
    known,
)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


def _odd(value: int) -> str:
    return "" if value % 2 else f"is {value}, which is even"


@dataclass(frozen=True)
class Inner:
    threads: Threads
    share: Fraction = 0.5

    def __post_init__(self) -> None:
        if self.threads == 13:
            raise UsageError("Thirteen brings bad luck.")


@dataclass(frozen=True)
class Outer:
    inner: Inner
    each: tuple[Inner, ...] = ()
    shape: ImageShape | None = None
    pair: tuple[int, str] = (0, "")
    names: Annotated[list[str], Length(0, 2)] = field(default_factory=list)
    table: dict[str, float] = field(default_factory=dict)
    kind: Literal["on", "off"] = "on"
    colour: Colour = Colour.RED
    number: int | str | None = None
    part: Annotated[dict[str, Any], PartOf(Inner, without=("share",))] = field(default_factory=dict)
    open: Annotated[Inner | None, Key("opened")] = None
    digested: Annotated[Inner, Beside(("digest",))] | None = None
    flag: bool = False
    odd: Annotated[int, Check(_odd)] = 1
    any: Any = None


GOOD: dict[str, Any] = {
    "inner": {"threads": 1, "share": 0},
    "each": [{"threads": 2}],
    "shape": [3, 8, 8],
    "pair": [1, "a"],
    "names": ["a"],
    "table": {"a": 1},
    "kind": "off",
    "colour": "blue",
    "number": "x",
    "part": {"threads": 3},
    "opened": {"threads": 4},
    "digested": {"threads": 5, "digest": []},
    "flag": True,
    "odd": 3,
    "any": {"x": [1]},
}


def test_values_become_what_the_annotations_say() -> None:
    assert decode(Outer, GOOD, "it") == Outer(
        inner=Inner(1, 0.0),
        each=(Inner(2),),
        shape=(3, 8, 8),
        pair=(1, "a"),
        names=["a"],
        table={"a": 1.0},
        kind="off",
        colour=Colour.BLUE,
        number="x",
        part={"threads": 3},
        open=Inner(4),
        digested=Inner(5),
        flag=True,
        odd=3,
        any={"x": [1]},
    )
    assert decode(Outer, {"inner": {"threads": 1}}, "it") == Outer(Inner(1))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"inner": {}}, "inner.threads is missing"),
        ({"inner": 3}, "inner is 3, it must be a table"),
        ({"inner": {"threads": 1_000_000}}, "inner.threads is 1000000, it must be from 1 to 4096"),
        ({"inner": {"threads": True}}, "inner.threads is True, it must be a whole number"),
        ({"inner": {"threads": 1.0}}, "inner.threads is 1.0, it must be a whole number"),
        ({"inner": {"threads": None}}, "inner.threads is null, it must be a whole number"),
        ({"inner": {"threads": 2**70}}, "inner.threads is a number beyond 64 bits"),
        ({"inner": {"threads": 13}}, "inner: Thirteen brings bad luck"),
        ({"inner": {"threads": 1, "share": 1}}, "share is 1.0, it must be from 0 to below 1"),
        ({"inner": {"threads": 1, "share": math.nan}}, "share is nan, it must be a finite number"),
        ({"inner": {"threads": 1, "thread": 2}}, "inner has no key thread (did you mean threads?)"),
        ({"each": [{"threads": 1}, {"threads": 0}]}, "each[1].threads is 0, it must be from 1 to"),
        ({"each": {"threads": 1}}, "each is a table, it must be a list, each a table"),
        ({"shape": [3, 8]}, "shape is [3, 8], it must be a list of 3"),
        ({"shape": [3, 8, 10**12]}, "shape[2] is 1000000000000, it must be from 1 to 65536"),
        ({"pair": ["a", 1]}, "pair[0] is 'a', it must be a whole number; pair[1] is 1, it must be"),
        ({"names": ["a", "b", "c"]}, "names has 3 entries, it must have from 0 to 2"),
        ({"table": {"a b": "x"}}, "table.'a b' is 'x', it must be a number"),
        ({"kind": "up"}, "kind is 'up', it must be 'on' or 'off'"),
        ({"kind": []}, "kind is [], it must be 'on' or 'off'"),
        ({"colour": "green"}, "colour is 'green', it must be 'red' or 'blue'"),
        ({"colour": []}, "colour is [], it must be 'red' or 'blue'"),
        ({"number": 1.5}, "number is 1.5, it must be a whole number or a string"),
        ({"part": {"share": 0.5}}, "part has no key share"),
        ({"open": {"threads": 1}}, "it has no key open"),
        ({"digested": {"threads": 1, "hash": 1}}, "digested has no key hash"),
        ({"flag": 1}, "flag is 1, it must be true or false"),
        ({"odd": 2}, "odd is 2, which is even"),
        ({"flag": "x" * 1000}, "flag is '" + "x" * 57 + "'..., it must be true or false"),
        ({"\n": 1}, r"it has no key '\n'"),
    ],
    ids=str,
)
def test_a_fault_is_told_with_its_path(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        decode(Outer, GOOD | changes, "x is none", error=ModelFileError, mend="Mend it.")
    assert str(caught.value).startswith("x is none: ")
    assert fault in str(caught.value)
    assert str(caught.value).endswith(". Mend it.")
    assert decode_or_none(Outer, GOOD | changes) is None


def test_all_faults_are_told_at_once_and_no_more_than_can_be_read() -> None:
    with pytest.raises(InputError, match=r"it has no key x .*; inner is 1, .*; flag is null, "):
        decode(Outer, {"x": 1, "inner": 1, "flag": None}, "it")
    with pytest.raises(InputError, match=f"; {10_000 - FAULTS_TOLD:,} more\\.$"):
        decode(Outer, GOOD | {"each": [1] * 10_000}, "it")
    none: tuple[Any, ...] = (None, 3, [], "x")
    for value in none:
        with pytest.raises(InputError, match="it must be a table"):
            decode(Outer, value, "it is none")


def test_what_has_a_default_may_have_to_be_there() -> None:
    assert decode(Inner, {"threads": 1}, "it") == Inner(1)
    with pytest.raises(InputError, match="share is missing"):
        decode(Inner, {"threads": 1}, "it", complete=True)
    assert decode(Inner, {"threads": 1, "x": 2}, "it", beside=("*",)) == Inner(1)


def test_a_text_is_parsed_and_decoded() -> None:
    assert decode_json(Inner, '{"threads": 2}', "it") == Inner(2)
    with pytest.raises(InputError, match="x is damaged: it is not a JSON file: it is nested"):
        decode_json(Inner, "[" * 100_000, "x is damaged")


def test_a_part_of_the_fields_is_decoded() -> None:
    decoder = Decoder()
    assert decoder.fields(Inner, {"share": 0, "threads": -1, "x": 1}, "at") == {"share": 0.0}
    assert decoder.faults[0] == "at has no key x (there are threads, share)"
    assert decoder.faults[1].startswith("at.threads is -1, ")


def test_cells_are_read_as_numbers() -> None:
    @dataclass(frozen=True)
    class Line:
        count: int
        time: Positive | None
        name: str

    assert decode_or_none(Line, Row(count="3", time="1e-3", name="4")) == Line(3, 0.001, "4")
    assert decode_or_none(Line, Row(count="3", time="", name="")) == Line(3, None, "")
    for cell in ("", "x", "1.5", "1_0", " 1", "٣", "9" * 40, "[" * 100_000):
        assert decode_or_none(Line, Row(count=cell, time="1", name="")) is None
    for cell in ("x", "nan", "inf", "-1", "0", "1e999", "1_0"):
        assert decode_or_none(Line, Row(count="1", time=cell, name="")) is None
    # A row's texts only: a JSON file's are texts.
    assert decode_or_none(Line, {"count": "3", "time": 1, "name": ""}) is None


def test_a_text_as_a_value() -> None:
    assert of_text(float, "0.5") == 0.5
    assert of_text(int | None, "none") is None
    assert of_text(bool, "yes") is True
    for kind, text in ((int, "1.5"), (bool, "1"), (float, "inf"), (int, "none")):
        with pytest.raises(ValueError, match="it must be"):
            of_text(kind, text)


def test_an_instance_is_held_to_its_rules() -> None:
    inner = Inner(5000, 2.0)
    assert faults_of(inner) == [
        "threads is 5000, it must be from 1 to 4096",
        "share is 2.0, it must be from 0 to below 1",
    ]
    assert faults_of(Outer(Inner(1), shape=(3, 0, 8))) == [
        "shape[1] is 0, it must be from 1 to 65536"
    ]


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (
            FileName,
            ("b.onnx", "...", ".x"),
            ("", ".", "..", "../x", "a/b", "a\\b", "a\0", "a" * 256),
        ),
        (FilePath, ("../x", "/x"), ("", "a\0b", "a" * 5000)),
        (Sha256, ("0" * 64,), ("0" * 63, "G" * 64, "0" * 64 + "\n", "A" * 64)),
        (Annotated[str, known("on", "off")], ("on",), ("", "of")),
    ],
)
def test_texts_of_a_form(kind: Any, right: tuple[str, ...], wrong: tuple[str, ...]) -> None:
    assert all(decode_or_none(kind, text) == text for text in right)
    assert not any(decode_or_none(kind, text) is not None for text in wrong)
