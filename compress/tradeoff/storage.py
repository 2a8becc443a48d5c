"""The table as a file: measured on the machine that serves, read on the one that trains.

CSV (or JSON, by the name's ending). A CSV file begins with comment lines "# key: JSON" that say on
what machine and under which conditions it was measured.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.errors import CompressError, InputError
from compress.files import write_json, write_text
from compress.results import Estimate
from compress.spec import ModelSpec
from compress.tradeoff.choice import Choice, TradeoffRow, budget_to_dict
from compress.tradeoff.precisions import PrecisionTrial
from compress.tradeoff.search import Measurement

SCHEMA_VERSION = 1
CONDITIONS = ("runtime", "precision", "threads", "batch", "percentile")
COLUMNS = (
    "candidate",
    "precision",
    "params",
    "macs",
    "latency_ms",
    "latency_low_ms",
    "latency_high_ms",
    "size_bytes",
    "rounds",
    "predicted_error",
    "basis",
    "status",
    "why",
)


@dataclass(frozen=True)
class StoredTable:
    """Measurements that were made elsewhere.

    Attributes:
        path: the file.
        conditions: runtime, precision, threads, batch, percentile.
        num_classes, input_shape: of the candidates that were measured.
        machine: of the measurements.
        measured: by candidate's name.
        teacher_spec, teacher: of the teacher, where it was measured.
        precisions: that were tried there.
    """

    path: Path
    conditions: dict[str, Any]
    num_classes: int
    input_shape: tuple[int, int, int]
    machine: dict[str, Any]
    measured: dict[str, Measurement]
    teacher_spec: ModelSpec | None = None
    teacher: Measurement | None = None
    precisions: tuple[PrecisionTrial, ...] = ()


def write_csv(path: Path, choice: Choice) -> None:
    """Writes every candidate with what it measured and why it was not taken; atomically.

    A name that ends in .json gets JSON. ``read_table`` reads both.

    Raises:
        UsageError: the folder cannot be written to.
    """
    spec, conditions = choice.rows[0].candidate.spec, budget_to_dict(choice.budget)
    header: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "conditions": {key: conditions[key] for key in CONDITIONS},
        "budget": {key: value for key, value in conditions.items() if key not in CONDITIONS},
        "num_classes": spec.num_classes,
        "input_shape": list(spec.input_shape),
        "machine": choice.machine,
        "precisions": [trial.to_dict() for trial in choice.precisions],
        "teacher": _teacher(choice.teacher_spec, choice.teacher),
        "scale": choice.scale,
    }
    rows = [_to_row(row) for row in choice.rows]
    if path.suffix.lower() == ".json":
        write_json(path, header | {"candidates": rows})
        return
    text = io.StringIO()
    for key, value in header.items():
        text.write(f"# {key}: {json.dumps(value, allow_nan=False)}\n")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_table(path: Path) -> StoredTable:
    """Reads what ``write_csv`` wrote.

    Raises:
        InputError: there is no such file, or it is no such table.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(f"Cannot read the table {path}: {reason}.") from error
    try:
        if path.suffix.lower() == ".json":
            values = json.loads(text)
            rows = values["candidates"]
        else:
            values, rows = _from_csv(text)
        if values["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"its version is {values['schema_version']}, not {SCHEMA_VERSION}")
        planes, height, width = (int(size) for size in values["input_shape"])
        measured = {
            str(row["candidate"]): found for row in rows if (found := _measurement(row)) is not None
        }
        teacher = values.get("teacher")
        return StoredTable(
            path=path,
            conditions={key: values["conditions"][key] for key in CONDITIONS},
            num_classes=int(values["num_classes"]),
            input_shape=(planes, height, width),
            machine=dict(values["machine"]),
            measured=measured,
            teacher_spec=ModelSpec.from_dict(teacher["spec"]) if teacher else None,
            teacher=_measurement(teacher) if teacher else None,
            precisions=tuple(map(PrecisionTrial.from_dict, values.get("precisions", ()))),
        )
    except (ValueError, KeyError, TypeError, AttributeError, CompressError) as error:
        fault = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{path} is not a table of `compress select --save`: {fault}. Measure it again there."
        ) from error


def _to_row(row: TradeoffRow) -> dict[str, Any]:
    found = row.measured
    return {
        "candidate": row.name,
        "precision": row.candidate.precision,
        "params": row.candidate.costs.params,
        "macs": row.candidate.costs.macs,
        **_figures(found),
        "predicted_error": round(row.prediction.error, 6),
        "basis": row.prediction.basis,
        "status": row.status,
        "why": row.why,
    }


def _figures(found: Measurement | None) -> dict[str, Any]:
    if found is None:
        names = ("latency_ms", "latency_low_ms", "latency_high_ms", "size_bytes", "rounds")
        return dict.fromkeys(names)
    latency = found.latency
    return {
        "latency_ms": round(latency.value * 1e3, 6),
        "latency_low_ms": round(latency.low * 1e3, 6),
        "latency_high_ms": round(latency.high * 1e3, 6),
        "size_bytes": found.size_bytes,
        "rounds": found.rounds,
    }


def _teacher(spec: ModelSpec | None, found: Measurement | None) -> dict[str, Any] | None:
    if spec is None or found is None:
        return None
    return {"spec": spec.to_dict(), **_figures(found)}


def _measurement(row: Mapping[str, Any]) -> Measurement | None:
    if row["latency_ms"] in (None, ""):
        return None
    value, low, high = (
        float(row[key]) / 1e3 for key in ("latency_ms", "latency_low_ms", "latency_high_ms")
    )
    if not 0 < low <= value <= high:
        raise ValueError(f"latency {low:g} <= {value:g} <= {high:g} does not hold")
    # It cannot be timed again here, so what straddles the budget straddles it.
    return Measurement(
        Estimate(value, low, high),
        int(row["size_bytes"]),
        rounds=int(row["rounds"] or 0),
        straddles=True,
    )


def _from_csv(text: str) -> tuple[dict[str, Any], Sequence[dict[str, Any]]]:
    values: dict[str, Any] = {}
    lines = text.splitlines()
    for line in lines:
        if line.startswith("# "):
            key, _, value = line[2:].partition(": ")
            values[key] = json.loads(value)
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    return values, rows
