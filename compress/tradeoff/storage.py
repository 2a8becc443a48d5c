"""The table as a file: measured on the machine that serves, read on the one that trains.

CSV (or JSON, by the name's ending). A CSV file begins with comment lines "# key: JSON" that say on
what machine and under which conditions it was measured.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from compress.errors import InputError
from compress.files import read_json, read_text, write_json, write_text
from compress.results import Estimate, Machine
from compress.schema import decode, parse_csv, parse_json
from compress.schema.rules import (
    Batch,
    Beside,
    Between,
    Classes,
    Count,
    ImageShape,
    Name,
    Number,
    PartOf,
    Percentile,
    Positive,
    Threads,
    known,
)
from compress.spec import AUTO, PRECISIONS, ModelSpec
from compress.tradeoff.choice import Choice, TradeoffRow, budget_to_dict
from compress.tradeoff.search import Measurement
from compress.tradeoff.trials import PrecisionTrial

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
    "all_calls_ms",
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


@dataclass(frozen=True)
class StoredChoice:
    """A choice that was made when a run began, as far as the run needs it to go on.

    Attributes:
        spec: of the student.
        machine: that its latency was measured on.
        precision: of the student's file.
        precisions: that were tried.
    """

    spec: ModelSpec
    machine: dict[str, Any]
    precision: Annotated[str, known(*PRECISIONS)] = "fp32"
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
    if not path.exists():
        raise InputError(f"Cannot read the table {path}: there is no such file.")
    text = read_text(path, "a table")
    where, mend = (
        f"{path} is not a table of `compress select --save`",
        "Measure it again on that machine.",
    )
    try:
        values = parse_json(text, "it") if path.suffix.lower() == ".json" else _from_csv(text)
    except InputError as error:
        raise InputError(f"{where}: {str(error).rstrip('.')}. {mend}") from error
    found = decode(_Table, values, where, mend=mend)
    teacher = found.teacher
    return StoredTable(
        path=path,
        conditions=asdict(found.conditions),
        num_classes=found.num_classes,
        input_shape=found.input_shape,
        machine=values["machine"],
        measured={
            row.candidate: measurement
            for row in found.candidates
            if (measurement := row.measurement()) is not None
        },
        teacher_spec=teacher.spec if teacher else None,
        teacher=teacher.measurement() if teacher else None,
        precisions=found.precisions,
    )


# --- The file's layout ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Conditions:
    runtime: Name
    precision: Annotated[str, known(*PRECISIONS, AUTO)]
    threads: Threads
    batch: Batch
    percentile: Percentile


@dataclass(frozen=True)
class _Figures:
    """What was measured; nulls, or empty cells, where nothing was."""

    latency_ms: Positive | None
    latency_low_ms: Positive | None
    latency_high_ms: Positive | None
    all_calls_ms: Positive | None
    size_bytes: Number | None
    rounds: Count | None

    def __post_init__(self) -> None:
        if self.latency_ms is not None:
            low, high = self.latency_low_ms, self.latency_high_ms
            if low is None or high is None or self.size_bytes is None:
                raise ValueError("latency_low_ms, latency_high_ms or size_bytes is missing")
            if not low <= self.latency_ms <= high:
                raise ValueError(
                    f"{low:g} <= latency_ms, {self.latency_ms:g}, <= {high:g} does not hold"
                )

    def measurement(self) -> Measurement | None:
        """None where nothing was measured."""
        times_ms = (self.latency_ms, self.latency_low_ms, self.latency_high_ms, self.all_calls_ms)
        value, low, high, whole = (None if time is None else time / 1e3 for time in times_ms)
        if value is None or low is None or high is None or self.size_bytes is None:
            return None
        # It cannot be timed again here, so what is undecided stays so.
        return Measurement(
            Estimate(value, low, high),
            self.size_bytes,
            rounds=self.rounds or 0,
            all_calls_s=whole,
            undecided=True,
        )


@dataclass(frozen=True)
class _Row(_Figures):
    candidate: Name


@dataclass(frozen=True)
class _Teacher(_Figures):
    spec: ModelSpec


@dataclass(frozen=True)
class _Table:
    schema_version: Annotated[int, Between(SCHEMA_VERSION, SCHEMA_VERSION)]
    conditions: _Conditions
    num_classes: Classes
    input_shape: ImageShape
    machine: Annotated[dict[str, Any], PartOf(Machine, beside=("digest",))]
    candidates: tuple[Annotated[_Row, Beside(COLUMNS)], ...]
    teacher: _Teacher | None = None
    precisions: tuple[PrecisionTrial, ...] = ()
    budget: Any = None
    scale: Any = None


def read_choice(path: Path) -> StoredChoice:
    """What choice.json of a run folder says.

    Raises:
        InputError: it is damaged.
    """
    where = f"{path} does not describe a choice"
    mend = "Remove it to choose again."
    return decode(StoredChoice, read_json(path), where, mend=mend, beside=("*",))


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
        return dict.fromkeys(COLUMNS[COLUMNS.index("latency_ms") : COLUMNS.index("rounds") + 1])
    latency, whole = found.latency, found.all_calls_s
    return {
        "latency_ms": round(latency.value * 1e3, 6),
        "latency_low_ms": round(latency.low * 1e3, 6),
        "latency_high_ms": round(latency.high * 1e3, 6),
        "all_calls_ms": None if whole is None else round(whole * 1e3, 6),
        "size_bytes": found.size_bytes,
        "rounds": found.rounds,
    }


def _teacher(spec: ModelSpec | None, found: Measurement | None) -> dict[str, Any] | None:
    if spec is None or found is None:
        return None
    return {"spec": spec.to_dict(), **_figures(found)}


def _from_csv(text: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    lines = text.splitlines(keepends=True)
    for line in lines:
        if line.startswith("# "):
            key, _, value = line[2:].strip().partition(": ")
            values[key] = parse_json(value, f"the line '# {key[:40]}'")
    rows = parse_csv("".join(line for line in lines if not line.startswith("#")), "it")
    return values | {"candidates": rows}
