"""Texts to plain values: JSON, TOML and CSV, each with limits."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from compress.errors import CompressError, InputError
from compress.schema.words import MAX_INT, shown

# Of a text. The longest that are written here, baselines and tables, have some hundred kB.
MAX_BYTES = 8 << 20
# A TOML file is written by hand, and its parser is slow.
MAX_TOML_BYTES = 1 << 20
MAX_DEPTH = 64
# Of a CSV file; the largest table that is written here has some thousand.
MAX_ROWS = 100_000

# A dotted key with more parts than tables may be nested; the parser's time is quadratic in them.
_LONG_KEY = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_DEPTH},}}"""
)


def parse_json(text: str | bytes, what: str, *, error: type[CompressError] = InputError) -> Any:
    """A JSON text -> plain values: no NaN, no infinity, no key twice, no integer over 64 bits.

    Args:
        text: of the file; bytes are UTF-8.
        what: what to call it in messages, its path.
        error: to raise.

    Raises:
        CompressError: as ``error`` says; the text is not JSON, or has what is not taken.
    """
    try:
        content = _text(text, MAX_BYTES)
        values = json.loads(
            content,
            object_pairs_hook=_table,
            parse_constant=_no_constant,
            parse_int=_integer,
        )
        _check_plain(values)
    except (ValueError, RecursionError) as fault:
        raise error(f"{what} is not a JSON file: {_reason(fault)}.") from fault
    return values


def parse_toml(
    text: str | bytes, what: str, *, error: type[CompressError] = InputError
) -> dict[str, Any]:
    """A TOML text -> plain values; as ``parse_json``, but a number may be infinite or NaN.

    Those are for who knows the key to refuse, by its name.

    Raises:
        CompressError: as ``error`` says; the text is not TOML, or has what is not taken.
    """
    import tomllib  # here, because --help must not wait for it

    try:
        content = _text(text, MAX_TOML_BYTES)
        if _LONG_KEY.search(content):
            raise ValueError(f"a key has more than {MAX_DEPTH} parts")
        values = tomllib.loads(content)
        _check_plain(values, finite=False)
    except (ValueError, RecursionError, OverflowError) as fault:
        raise error(f"{what} is not a TOML file: {_reason(fault)}.") from fault
    return values


def parse_csv(text: str, what: str, *, error: type[CompressError] = InputError) -> list[Row]:
    """A CSV text whose first line names the columns -> a row for each other line.

    Raises:
        CompressError: as ``error`` says; a line has another number of cells than there are
            columns, a column has no name or that of another, a cell is too long, or a byte is NUL.
    """
    import csv  # here, because --help must not wait for it

    rows: list[Row] = []
    try:
        if "\0" in text:
            raise ValueError("it has a NUL character")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        columns = next(reader, [])
        _refuse_twice(columns)
        for cells in reader:
            if not cells:
                continue
            if len(rows) == MAX_ROWS:
                raise ValueError(f"it has more than {MAX_ROWS:,} rows")
            if len(cells) != len(columns):
                raise ValueError(
                    f"line {reader.line_num} has {len(cells)} cells, there are {len(columns)} "
                    "columns"
                )
            rows.append(Row(zip(columns, cells, strict=True)))
    except (ValueError, csv.Error) as fault:
        raise error(f"{what} is not a CSV file: {_reason(fault)}.") from fault
    return rows


class Row(dict[str, str]):
    """One line of a CSV file: column -> text. ``decode`` reads numbers from its texts."""


def _text(text: str | bytes, limit: int) -> str:
    if len(text) > limit:
        raise ValueError(f"it has {len(text):,} bytes, {limit:,} are the most that is read")
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise ValueError(f"it is not text in UTF-8 (byte {fault.start})") from fault


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The table of a JSON object, each of whose keys is there once."""
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse_twice([key for key, _ in pairs])
    return found


def _refuse_twice(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{shown(name)} is there twice")
        seen.add(name)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _integer(text: str) -> int:
    if len(text) > 20 or not -MAX_INT <= (number := int(text)) <= MAX_INT:
        raise ValueError(f"the number {text[:24]}{'...' * (len(text) > 24)} is beyond 64 bits")
    return number


def _check_plain(values: Any, *, finite: bool = True) -> None:
    """Refuses what is nested too deep, numbers out of range and texts that cannot be written."""
    level, depth = [values], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise RecursionError
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                for key in value:
                    _check_text(key)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, str):
                _check_text(value)
            elif isinstance(value, float):
                if finite and not math.isfinite(value):
                    raise ValueError("a number is beyond what a float holds")
            elif isinstance(value, int) and not -MAX_INT <= value <= MAX_INT:
                raise ValueError("a number is beyond 64 bits")
        level = below


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as fault:
        raise ValueError(f"the text {text[:20]!a} has half a character") from fault


def _reason(fault: Exception) -> str:
    if isinstance(fault, RecursionError):
        return f"it is nested more than {MAX_DEPTH} deep"
    if "set_int_max_str_digits" in str(fault):
        return "a number is beyond 64 bits"
    return str(fault).rstrip(".")
