"""The table of candidates that `select --save` writes: CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from tests.fuzz.case import Bench, Kind
from tests.fuzz.damage import damaged
from tests.fuzz.kinds.special import add_special
from tests.fuzz.stock import SELECT
from tests.fuzz.values import DEEP, nested, to_json
from tests.fuzz.values import damaged as damaged_values

KIND = Kind("table")


def _words(name: str) -> list[str]:
    return [*SELECT, "--tradeoff", name]


@KIND.damaged
def damage(bench: Bench) -> Sequence[str]:
    """Fields that are wrong in either form, or bytes."""
    rng = bench.rng
    name = f"table{rng.choice(('.csv', '.json'))}"
    content = bench.stock.path(name).read_bytes()
    if rng.random() < 0.3:
        bench.write(name, damaged(content, rng, b"# x: {}\n1,2,3\n"))
        return _words(name)
    document = json.loads(bench.stock.path("table.json").read_bytes())
    # Most of a table is rows, and most of what can be wrong is not.
    some = document["candidates"]
    document["candidates"] = some[:2]
    document = damaged_values(document, rng)
    if isinstance(document, dict) and isinstance(document.get("candidates"), list):
        document["candidates"] += some[2:]
    bench.write(name, to_json(document) if name.endswith("json") else _csv(document))
    return _words(name)


def _csv(document: Any) -> str:
    """The same document as the CSV file says it."""
    if not isinstance(document, dict):
        return f"# {to_json(document)}\n"
    text = io.StringIO()
    for key, value in document.items():
        if key != "candidates":
            text.write(f"# {key}: {' '.join(to_json(value).split())}\n")
    rows = document.get("candidates")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: value for key, value in row.items() if value is not None})
    return text.getvalue()


def _changed(
    name: str, change: Callable[[dict[str, Any]], object], *, refused: bool = True
) -> None:
    """Adds a table with a change, in both forms."""

    def make(bench: Bench, suffix: str) -> Sequence[str]:
        document = json.loads(bench.stock.path("table.json").read_bytes())
        change(document)
        file = f"table{suffix}"
        bench.write(file, to_json(document) if suffix == ".json" else _csv(document))
        return _words(file)

    KIND.add(f"{name}, CSV", lambda bench: make(bench, ".csv"), refused=refused)
    KIND.add(f"{name}, JSON", lambda bench: make(bench, ".json"), refused=refused)


def _set(*keys: Any, to: Any) -> Callable[[dict[str, Any]], object]:
    def change(document: dict[str, Any]) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = to

    return change


_changed("a machine 100,000 lists deep", _set("machine", to=nested("lists", DEEP)))
_changed("a machine of 1,500 tables", _set("machine", to=nested("tables", 1500)))
_changed("an infinite latency", _set("candidates", 0, "latency_high_ms", to=float("inf")))
_changed("a latency that is no number", _set("candidates", 0, "latency_ms", to=float("nan")))
_changed("an infinite size", _set("candidates", 0, "size_bytes", to=float("inf")))
_changed("a size of 10^30", _set("candidates", 0, "size_bytes", to=10**30), refused=False)
_changed("a negative size", _set("candidates", 0, "size_bytes", to=-1))
_changed("-1 rounds", _set("candidates", 0, "rounds", to=-1))
_changed("classes of 10^12", _set("num_classes", to=10**12))
_changed("infinitely many classes", _set("num_classes", to=float("inf")))
_changed("-1 classes", _set("num_classes", to=-1))
_changed("a shape of 10^12", _set("input_shape", to=[1, 10**12, 10**12]))
_changed("a shape that is a text", _set("input_shape", to="188"))
_changed("threads of 10^12", _set("conditions", "threads", to=10**12))
_changed("threads of 1.5", _set("conditions", "threads", to=1.5))
_changed("no conditions", lambda document: document.pop("conditions"))
_changed("a percentile of 1000", _set("conditions", "percentile", to=1000))
_changed("a machine that is a number", _set("machine", to=3))
_changed("a machine whose virtual is a list", _set("machine", "virtual", to=[1]))
_changed("precisions that are no list", _set("precisions", to={"a": 1}))
_changed("precisions of another form", _set("precisions", to=[{"precision": None}]))
_changed("no candidates", _set("candidates", to=[]))
_changed("a teacher that is a list", _set("teacher", to=[1, 2]))
_changed("version 2", _set("schema_version", to=2))


def _text(name: str, file: str, text: str, *, refused: bool = True) -> None:
    def make(bench: Bench) -> Sequence[str]:
        bench.write(file, text)
        return _words(file)

    KIND.add(name, make, refused=refused)


@KIND.by_hand("a CSV field of 200,000 characters", refused=False)
def long_field(bench: Bench) -> Sequence[str]:
    """Longer than Python's csv module takes."""
    text = bench.stock.path("table.csv").read_text()
    bench.write("table.csv", text + "x" * 200_000 + "\n")
    return _words("table.csv")


@KIND.by_hand("a quote that is never closed")
def open_quote(bench: Bench) -> Sequence[str]:
    """The rest of the file is one field."""
    head, mark, rest = bench.stock.path("table.csv").read_text().partition("\ncandidate,")
    bench.write("table.csv", head + mark + '"' + rest)
    return _words("table.csv")


_text("JSON 100,000 deep", "table.json", "[" * DEEP)
_text("JSON that is a number", "table.json", "1" * 5000)
_text("zeros", "table.csv", "\0" * 5000)
_text("a header that is nested", "table.csv", "# machine: " + "[" * DEEP + "\n")
_text("200,000 columns", "table.csv", ",".join(map(str, range(200_000))) + "\n1\n")

for _suffix in (".csv", ".json"):
    add_special(KIND, f"table{_suffix}", _words)
