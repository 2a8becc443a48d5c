"""compress.schema.texts: what has limits is told by them, and nothing else comes out."""

from __future__ import annotations

import json
import os
import time

import pytest

from compress.errors import InputError, ModelFileError
from compress.schema import parse_csv, parse_json, parse_toml
from compress.schema.texts import MAX_BYTES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Expecting value"),
        ("{", "Expecting"),
        ("[" * 100_000, "it is nested more than 64 deep"),
        ('{"a":' * 50_000, "it is nested more than 64 deep"),
        ("[" * 65 + "]" * 65, "it is nested more than 64 deep"),
        ('{"a": {"b": [0, NaN]}}', "a.b[1] is NaN, which is not a number"),
        ('{"a": -Infinity}', "a is infinite"),
        ('{"a": 1e999}', "a is infinite"),
        ('{"a": 9223372036854775808}', "a is a number beyond 64 bits"),
        ('{"a": ' + "9" * 1_000_000 + "}", "a is infinite"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' occurs twice"),
        ('{"a": "\\ud800"}', "a has half a character in '\\ud800'"),
        ('{"\\udfff": 1}', "a key in it has half a character"),
        ("[" + " " * MAX_BYTES + "]", "but at most 8,388,608 are read"),
        (b"\xff\xfe[\0]\0", "it is not text in UTF-8 (byte 0)"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_json_is_told(text: str | bytes, words: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(ModelFileError) as caught:
        parse_json(text, "x.json", error=ModelFileError)
    assert time.perf_counter() - begun < 1
    assert str(caught.value).startswith("x.json is not a JSON file: ")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


def test_the_name_of_a_file_that_is_not_utf_8_is_a_text() -> None:
    name = os.fsdecode(b"caf\xe9.npz")
    assert parse_json(json.dumps({"source": name}), "it") == {"source": name}


def test_json_has_plain_values() -> None:
    text = '{"a": [1, -2.5, true, null, "é"], "b": {"c": 9223372036854775807}}'
    assert parse_json(text, "it") == {"a": [1, -2.5, True, None, "é"], "b": {"c": 2**63 - 1}}
    assert parse_json("[" * 63 + "1" + "]" * 63, "it")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "Expected '='"),
        ("a = 1\na = 2", "Cannot overwrite a value"),
        ("a = " + "[" * 100_000, "it is nested more than 64 deep"),
        ("a = " + "{a=" * 100_000, "it is nested more than 64 deep"),
        ("a" + ".a" * 500_000 + " = 1", "a key has more than 64 parts"),
        ("[a" + " . 'b'" * 100_000 + "]", "a key has more than 64 parts"),
        ('"a"' + '."b"' * 100_000 + " = 1", "a key has more than 64 parts"),
        ("a = " + "9" * 5000, "a number is beyond 64 bits"),
        ("a = [0, 9223372036854775808]", "a[1] is a number beyond 64 bits"),
        ("a = 0x" + "f" * 500_000, "a is a number beyond 64 bits"),
        ("#" * 1_100_000, "but at most 1,048,576 are read"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_no_toml_is_told(text: str, words: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(InputError) as caught:
        parse_toml(text, "x.toml")
    assert time.perf_counter() - begun < 1
    assert str(caught.value).startswith("x.toml is not a TOML file: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "-" * 1_000_000, '"' * 1_000_000, "a = '" + "x'\n'" * 200_000]
)
def test_looking_for_long_keys_takes_no_time(text: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(InputError):
        parse_toml(text, "x.toml")
    assert time.perf_counter() - begun < 1


def test_sentences_with_many_dots_are_no_long_keys() -> None:
    sentences = "One. Two words. 1.2.3. " * 100
    assert parse_toml(f'a = "{sentences}"', "it") == {"a": sentences}


def test_csv_has_rows_of_texts() -> None:
    assert parse_csv('a,b\n1,"x, y"\n\n2,\n', "it") == [
        {"a": "1", "b": "x, y"},
        {"a": "2", "b": ""},
    ]
    assert parse_csv("", "it") == []
    with pytest.raises(InputError, match="more than 100,000 rows"):
        parse_csv("a\n" + "1\n" * 100_001, "it")
