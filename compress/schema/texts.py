"""Texts to plain values: JSON, TOML and CSV, each with limits."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from compress.errors import CompressError, InputError
from compress.schema.words import MAX_INT, key_told, shown

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
                    f"line {reader.line_num} has {len(cells)} cells, but there are {len(columns)} "
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
        raise ValueError(f"it has {len(text):,} bytes, but at most {limit:,} are read")
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
            raise ValueError(f"{shown(name)} occurs twice")
        seen.add(name)


def _integer(text: str) -> float:
    # What is longer is refused by the name of its field; made an int it could take minutes.
    return int(text) if len(text) <= 20 else math.inf


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
                below.extend(value)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif fault := _fault(value, finite):
                raise ValueError(f"{_place_of(values, finite)} {fault}")
        level = below


def _fault(value: Any, finite: bool) -> str:
    """What is wrong with a single value that a parser gave."""
    if isinstance(value, str):
        return "" if value.isascii() else _fault_of_text(value)
    if isinstance(value, float):
        if not finite or math.isfinite(value):
            return ""
        return "is NaN, which is not a number" if math.isnan(value) else "is infinite"
    if isinstance(value, int) and not -MAX_INT <= value <= MAX_INT:
        return "is a number beyond 64 bits"
    return ""


def _fault_of_text(text: str) -> str:
    # Bytes of a file's name that are not UTF-8 are there as Python has them, and are written so.
    try:
        text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return f"has half a character in {text[:20]!a}"
    return ""


def _place_of(values: Any, finite: bool) -> str:
    """The path of a value that ``_fault`` finds something wrong with."""
    waiting: list[tuple[str, Any]] = [("", values)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                if _fault_of_text(key):
                    return f"a key in {path or 'it'}"
                waiting.append((f"{path}.{key_told(key)}" if path else key_told(key), inner))
        elif isinstance(value, list):
            waiting.extend((f"{path}[{place}]", each) for place, each in enumerate(value))
        elif _fault(value, finite):
            return path or "it"
    return "it"  # pragma: no cover - only for values that have such a place


def _reason(fault: Exception) -> str:
    if isinstance(fault, RecursionError):
        return f"it is nested more than {MAX_DEPTH} deep"
    if "set_int_max_str_digits" in str(fault):
        return "a number is beyond 64 bits"
    return str(fault).rstrip(".")
