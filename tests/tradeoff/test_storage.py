"""compress.tradeoff.storage: whatever a table's file holds is read, or told by its name."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from compress.errors import InputError
from compress.models.registry import spec_of
from compress.tradeoff.storage import COLUMNS, CONDITIONS, StoredTable, read_choice, read_table
from tests.schema.broken import answers, broken_json

ROW: dict[str, Any] = {
    "candidate": "wrn-10-1",
    "precision": "fp32",
    "params": 77_850,
    "macs": 12_000_000,
    "latency_ms": 1.25,
    "latency_low_ms": 1.2,
    "latency_high_ms": 1.5,
    "all_calls_ms": 1.4,
    "size_bytes": 320_000,
    "rounds": 12,
    "predicted_error": 0.31,
    "basis": "table",
    "status": "fits",
    "why": "measured only, twice",
}
UNMEASURED = ROW | dict.fromkeys(
    ("latency_ms", "latency_low_ms", "latency_high_ms", "all_calls_ms", "size_bytes", "rounds")
)
HEADER: dict[str, Any] = {
    "schema_version": 1,
    "conditions": {
        "runtime": "onnxruntime",
        "precision": "auto",
        "threads": 2,
        "batch": 1,
        "percentile": 50.0,
    },
    "budget": {"latency_ms": 3.0},
    "num_classes": 10,
    "input_shape": [3, 32, 32],
    "machine": {"cpu": "some", "virtual": True, "isa": ["avx2"], "digest": "a"},
    "precisions": [
        {
            "precision": "int8",
            "runs": True,
            "eligible": False,
            "why": "not shown to be faster",
            "time_by_fp32": {"value": 1.0, "low": 0.9, "high": 1.1},
        }
    ],
    "teacher": {
        "spec": spec_of("wrn-40-4").to_dict(),
        "latency_ms": 9.0,
        "latency_low_ms": 8.0,
        "latency_high_ms": 9.5,
        "all_calls_ms": None,
        "size_bytes": 36_000_000,
        "rounds": 9,
    },
    "scale": "Predicted errors are guesses.",
}
# Nobody reads these of a table.
UNREAD = (*COLUMNS[1:4], *COLUMNS[-4:], "budget", "scale", "digest")


def as_csv(document: dict[str, Any]) -> str:
    text = io.StringIO()
    for key, value in document.items():
        if key != "candidates":
            text.write(f"# {key}: {json.dumps(value)}\n")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(document["candidates"])
    return text.getvalue()


DOCUMENT = HEADER | {"candidates": [ROW, UNMEASURED | {"candidate": "wrn-16-1"}]}


def read_text_as(path: Path, text: str) -> StoredTable:
    path.write_text(text, encoding="utf-8")
    found = read_table(path)
    assert set(found.conditions) == set(CONDITIONS)
    for measured in (*found.measured.values(), *filter(None, [found.teacher])):
        assert 0 < measured.latency.low <= measured.latency.value <= measured.latency.high
        assert measured.size_bytes > 0
        assert measured.rounds >= 0
    return found


@pytest.mark.parametrize("name", ["t.json", "t.csv"])
def test_both_forms_say_the_same(name: str, tmp_path: Path) -> None:
    text = as_csv(DOCUMENT) if name == "t.csv" else json.dumps(DOCUMENT)
    found = read_text_as(tmp_path / name, text)
    assert list(found.measured) == ["wrn-10-1"]
    assert found.measured["wrn-10-1"].latency.low == pytest.approx(0.0012)
    assert found.teacher_spec == spec_of("wrn-40-4")
    assert found.conditions == HEADER["conditions"]
    assert found.precisions[0].ratio is not None


def test_every_field_of_json_is_read_or_told(tmp_path: Path) -> None:
    counts = answers(
        broken_json(DOCUMENT), lambda text: read_text_as(tmp_path / "t.json", text), InputError
    )
    assert min(counts.values()) > 100


def test_every_line_above_the_rows_is_read_or_told(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[str, tuple[str | int, ...], str]]:
        rest = as_csv({"candidates": [ROW]})
        for what, path, text in broken_json(HEADER):
            # A text that the standard parser takes is one that a line can be made of.
            try:
                document = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if not isinstance(document, dict):
                continue
            lines = (f"# {key}: {json.dumps(value)}\n" for key, value in document.items())
            yield what, path, "".join(lines) + rest

    counts = answers(broken(), lambda text: read_text_as(tmp_path / "t.csv", text), InputError)
    assert min(counts.values()) > 100


CELLS = (
    *("", "x", "-1", "0", "1.5", "1e12", str(10**12), "NaN", "inf", "-Infinity", "1e999"),
    *("9" * 40, "[" * 100_000, "yes", "None", "٣", "1_0", " 1"),
)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell[:12])
def test_every_cell_is_read_or_told(column: str, cell: str, tmp_path: Path) -> None:
    text = as_csv(HEADER | {"candidates": [ROW | {column: cell}]})
    taken = column in UNREAD or column == "candidate"
    taken |= column.endswith("_ms") and cell in ("1e12", str(10**12), "9" * 40)
    if taken or cell in ("", "0", "1.5", str(10**12)):
        # Read, or its interval does not hold, or there is too little of it.
        with suppress(InputError):
            read_text_as(tmp_path / "t.csv", text)
        return
    with pytest.raises(InputError, match=rf"candidates\[0\].{column} is "):
        read_text_as(tmp_path / "t.csv", text)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (as_csv(DOCUMENT).replace("macs,", "", 1), "cells, but there are 13 columns"),
        (as_csv(DOCUMENT).rsplit(",", 3)[0], "has 12 cells, but there are 14 columns"),
        (as_csv(DOCUMENT).replace("fits", "fits,more"), "has 15 cells, but there are 14 columns"),
        (as_csv(DOCUMENT).replace("fits", "x" * 140_000), "larger than field limit"),
        (as_csv(DOCUMENT).replace("fits", "\0"), "NUL"),
        (as_csv(DOCUMENT).replace("macs", "params", 1), "'params' occurs twice"),
        (as_csv(DOCUMENT).replace("macs", "flops", 1), "has no key flops"),
        (as_csv(DOCUMENT).replace("size_bytes", "basis2", 1), "has no key basis2"),
        ("# schema_version: [[[[\n" + as_csv(DOCUMENT), "# schema_version"),
        ("# x: " + "[" * 100_000 + "\n", "nested more than 64 deep"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        ('a,b\n"1,2', "unexpected end of data"),
    ],
)
def test_what_is_wrong_with_a_csv_file_is_told(content: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_text_as(tmp_path / "t.csv", content)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    for path, what in (
        (tmp_path / "t.csv", "is a named pipe"),
        (Path("/dev/zero"), "is a character device"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(InputError, match=what):
            read_table(path)


def test_a_file_of_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "t.json").open("wb") as file:
        file.truncate(5 << 30)
    with pytest.raises(InputError, match=r"has 5\.37 GB, but a table may have at most 8\.39 MB"):
        read_table(tmp_path / "t.json")


def test_every_field_of_a_choice_is_read_or_told(tmp_path: Path) -> None:
    path = tmp_path / "choice.json"
    document = {
        "student": "wrn-10-1",
        "spec": spec_of("wrn-10-1").to_dict(),
        "precision": "int8",
        "precisions": HEADER["precisions"],
        "machine": {"cpu": "some"},
    }

    def read(text: str) -> None:
        path.write_text(text)
        read_choice(path)

    counts = answers(broken_json(document), read, InputError)
    assert min(counts.values()) > 20
