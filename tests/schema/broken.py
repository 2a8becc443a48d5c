"""A document with one thing wrong after the other, for the tests of every format that is read."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from compress.errors import CompressError

Path = tuple[str | int, ...]

MISSING = object()
# Stands in a document for a token that JSON's writer does not write.
RAW = "@raw@"

# What takes the place of every value in turn.
VALUES: dict[str, Any] = {
    "missing": MISSING,
    "null": None,
    "true": True,
    "a text": "x",
    "no text": "",
    "a list": ["x"],
    "an empty list": [],
    "a table": {"x": 1},
    "an empty table": {},
    "-1": -1,
    "0": 0,
    "1.5": 1.5,
    "10^12": 10**12,
    "1e300": 1e300,
}
TOKENS: dict[str, str] = {
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "1e999": "1e999",
    "40 digits": "9" * 40,
    "5000 digits": "9" * 5000,
    "half a character": '"\\ud800"',
    "nested 100 deep": "[" * 100 + "]" * 100,
    "nested 100,000 deep": "[" * 100_000 + "]" * 100_000,
}
TOML_TOKENS: dict[str, str] = {
    "nan": "nan",
    "inf": "-inf",
    "1e999": "1e999",
    "40 digits": "9" * 40,
    "5000 digits": "9" * 5000,
    "a date": "2026-01-02",
    "nested 100 deep": "[" * 100 + "]" * 100,
    "nested 100,000 deep": "[" * 100_000 + "]" * 100_000,
    "a key of 100,000 parts": "{a" + ".a" * 100_000 + " = 1}",
}
# These say nothing of where: a parser ends at them.
NAMELESS = (
    "nested 100 deep",
    "nested 100,000 deep",
    "a key of 100,000 parts",
    "5000 digits",
)


def places(document: Any, path: Path = ()) -> Iterator[Path]:
    """The path of everything in a document, itself first."""
    yield path
    inner: Sequence[tuple[str | int, Any]] = ()
    if isinstance(document, dict):
        inner = list(document.items())
    elif isinstance(document, list):
        inner = list(enumerate(document[:2]))
    for key, value in inner:
        yield from places(value, (*path, key))


def with_value(document: Any, path: Path, value: Any) -> Any:
    """A copy with another value at a path; without it where the value is MISSING."""
    if not path:
        return value
    changed = copy.deepcopy(document)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return changed


def broken_json(
    document: Any, *, sign: Callable[[Any], Any] = lambda changed: changed
) -> Iterator[tuple[str, Path, str]]:
    """What is wrong, where, and the text; for everything in a document in turn.

    ``sign`` makes of a changed document what is written.
    """
    return broken(document, lambda changed: json.dumps(sign(changed)), TOKENS)


def broken_toml(document: Any) -> Iterator[tuple[str, Path, str]]:
    """The same in TOML, which has no null, and whose top is a table."""
    for what, path, text in broken(document, as_toml, TOML_TOKENS):
        if path:
            yield what, path, text


def broken(
    document: Any, write: Callable[[Any], str], tokens: dict[str, str]
) -> Iterator[tuple[str, Path, str]]:
    """The same in any form."""
    for path in places(document):
        for what, value in VALUES.items():
            if value is MISSING and not path:
                continue
            yield what, path, write(with_value(document, path, value))
        for what, token in tokens.items():
            text = write(with_value(document, path, RAW))
            yield what, path, text.replace(json.dumps(RAW), token)


def as_toml(document: Any) -> str:
    """A document in TOML, every value on one line; what is null is left out."""
    if not isinstance(document, dict):
        return ""
    lines = (f"{json.dumps(key)} = {_inline(value)}\n" for key, value in document.items())
    return "".join(line for line in lines if not line.endswith("= null\n"))


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        inner = (f"{json.dumps(key)} = {_inline(each)}" for key, each in value.items())
        return "{" + ", ".join(each for each in inner if not each.endswith("= null")) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(each) for each in value if each is not None) + "]"
    return json.dumps(value)


def answers(
    cases: Iterator[tuple[str, Path, str]],
    read: Callable[[str], object],
    error: type[CompressError],
    *,
    elsewhere: Sequence[str] = (),
) -> dict[str, int]:
    """Reads every text; each ends well, or in an error that names the field, within a second.

    Args:
        cases: of ``broken_json``.
        read: a text.
        error: that is allowed.
        elsewhere: said where a value is right in itself, and something refers to it.

    Returns:
        how often it ended in which way, for a test to see that both occur.
    """
    counts = {"read": 0, "refused": 0}
    for what, path, text in cases:
        # What does not hold between two fields is told of the table that both are in.
        names = [key for key in path if isinstance(key, str)]
        begun = time.perf_counter()
        try:
            read(text)
        except error as fault:
            counts["refused"] += 1
            message = str(fault)
            named = not names or any(text in message for text in (*names, *elsewhere))
            if not named and what not in NAMELESS:
                raise AssertionError(f"{path} {what}: {message}") from fault
            if len(message) > 3000 or "\n" in message:
                raise AssertionError(f"{path} {what}: {message}") from fault
        except Exception as fault:
            raise AssertionError(f"{path} {what}: {fault!r}") from fault
        else:
            counts["read"] += 1
        seconds = time.perf_counter() - begun
        if seconds > 1:
            raise AssertionError(f"{path} {what}: {seconds:.1f} s")
    return counts
