from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compress.errors import Inconclusive, InputError, NoStudentFits, UsageError
from compress.models.registry import read_spec, spec_of, with_dropout
from compress.results import Estimate
from compress.spec import PRECISIONS, Budget, ModelSpec, Target
from compress.tradeoff import (
    OwnRun,
    Plan,
    PrecisionTrial,
    load_table,
    record_run,
    try_precisions,
    write_csv,
)
from compress.tradeoff.candidates import grid
from compress.tradeoff.choice import Choice, status_of
from compress.tradeoff.costs import costs_of
from compress.tradeoff.predictor import EXPECTED_LOSS, Predictor
from compress.tradeoff.search import Limits, Measurement
from compress.tradeoff.table import TradeoffTable, limits_of
from compress.tradeoff.trials import FLOAT

# What a file takes, by that of the float32 one.
SPEED = {"fp32": 1.0, "fp16": 1.0, "int8": 0.5}
SIZE = {"fp32": 1.0, "fp16": 0.5, "int8": 0.25}
TEACHER = spec_of("wrn-40-4", dropout=0.3)


class Laboratory:
    """A machine that takes 10 ns a kMAC and 10 us a layer, with intervals of 2%."""

    paired = False

    def __init__(self) -> None:
        self.machine: dict[str, Any] = {"cpu": "made for tests"}
        self.asked: list[tuple[str, bool]] = []

    def measure(
        self, spec: ModelSpec, budget: Budget, limit_s: float | None, *, again: bool = False
    ) -> Measurement:
        self.asked.append((spec.name, again))
        costs = costs_of(spec)
        value = budget.batch * (1e-5 * costs.layers + 1e-11 * costs.macs) / budget.target.threads
        value *= SPEED[budget.target.precision]
        return Measurement(
            Estimate(value, value * 0.99, value * 1.01),
            round(costs.file_bytes * SIZE[budget.target.precision]),
            rounds=6,
            warnings=("it was noisy.",),
        )


def table(teacher: ModelSpec | None = None) -> TradeoffTable:
    return TradeoffTable(
        grid(num_classes=10, input_shape=(3, 32, 32)),
        Predictor(),
        Laboratory(),
        scale="Of a test.",
        teacher=teacher,
    )


# As on a processor with VNNI: 8 bits take half the time, 16 bits no less than 32.
TRIALS = (
    FLOAT,
    PrecisionTrial("fp16", True, False, "not shown to be faster", Estimate(1.0, 0.99, 1.01)),
    PrecisionTrial("bf16", False, False, "this machine does not run it"),
    PrecisionTrial("int8", True, True, "twice as fast", Estimate(0.5, 0.49, 0.51)),
)


def auto_table(teacher: ModelSpec | None = None) -> TradeoffTable:
    return TradeoffTable(
        grid(num_classes=10, input_shape=(3, 32, 32), precisions=("fp32", "fp16", "int8")),
        Predictor(),
        Laboratory(),
        scale="Of a test.",
        teacher=teacher,
        precisions=TRIALS,
    )


AUTOMATIC = Budget(latency_s=3e-3, target=Target(precision="auto"))


def test_architecture_and_precision_are_chosen_together(choice: Choice) -> None:
    both = auto_table().select(AUTOMATIC)
    assert both.precision == "int8"
    assert both.row.measured is not None
    assert both.row.measured.latency.high <= 3e-3
    # A larger network in the same time, and still the better one with what 8 bits cost.
    assert both.row.candidate.costs.macs > 1.5 * choice.row.candidate.costs.macs
    assert both.row.prediction.error < choice.row.prediction.error
    assert both.row.prediction.loss == EXPECTED_LOSS["int8"]
    plain = Predictor().predict(both.spec)
    assert both.row.prediction.error == pytest.approx(plain.error + EXPECTED_LOSS["int8"])
    assert len(both.rows) == 3 * 65
    slow = [row for row in both.rows if row.status == "not faster"]
    assert [row.candidate.precision for row in slow] == ["fp16"] * 65
    assert all(row.measured is None for row in slow)
    values = json.loads(json.dumps(both.to_dict(), allow_nan=False))
    assert values["precision"] == "int8"
    assert [each["precision"] for each in values["precisions"]] == list(PRECISIONS)


def test_bits_are_not_saved_where_there_is_time() -> None:
    plenty = auto_table().select(replace(AUTOMATIC, latency_s=1.0))
    assert (plenty.spec.name, plenty.precision) == ("wrn-40-10", "fp32")
    # Its weights take 224 MB in 32 bits, and 56 in 8.
    small = auto_table().select(Budget(size_bytes=6e7, target=Target(precision="auto")))
    assert (small.spec.name, small.precision) == ("wrn-40-10", "int8")


def test_all_precisions_are_measured_on_request(tmp_path: Path) -> None:
    everything = auto_table().measure_all(AUTOMATIC)
    assert all(row.measured is not None for row in everything.rows)
    path = tmp_path / "t.csv"
    write_csv(path, everything)
    task: dict[str, Any] = {"num_classes": 10, "input_shape": (3, 32, 32)}
    assert try_precisions(AUTOMATIC, **task, tradeoff=path) == TRIALS
    for asked in (AUTOMATIC, replace(AUTOMATIC, latency_s=1e-3)):
        there = load_table(path, precisions=TRIALS).select(asked)
        here = auto_table().select(asked)
        assert (there.spec, there.precision) == (here.spec, here.precision)
    # What has all precisions serves one of them.
    one = AUTOMATIC.in_precision("int8")
    alone = load_table(path, precisions=try_precisions(one, **task, tradeoff=path)).select(one)
    assert {row.candidate.precision for row in alone.rows} == {"int8"}


def test_a_table_of_one_precision_serves_no_other(choice: Choice, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_csv(path, choice)
    task: dict[str, Any] = {"num_classes": 10, "input_shape": (3, 32, 32)}
    with pytest.raises(UsageError, match="was measured with precision fp32, not auto"):
        try_precisions(AUTOMATIC, **task, tradeoff=path)
    one = AUTOMATIC.in_precision("int8")
    trials = try_precisions(one, **task, tradeoff=path)
    with pytest.raises(UsageError, match="precision fp32, not int8"):
        load_table(path, precisions=trials).select(one)


@pytest.fixture(scope="module")
def choice() -> Choice:
    return table().select(Budget(latency_s=3e-3))


def test_every_candidate_is_there_with_its_reason(choice: Choice) -> None:
    assert len(choice.rows) == 65
    assert [row.name for row in choice.rows if row.status == "chosen"] == [choice.spec.name]
    errors = [row.prediction.error for row in choice.rows]
    assert errors == sorted(errors)
    place = choice.rows.index(choice.row)
    for index, row in enumerate(choice.rows):
        if row.status == "ruled out":
            assert index < place
            assert row.measured is None
            assert "is too slow already" in row.why
        elif row.status == "worse":
            assert index > place
        elif row.status == "too slow":
            assert row.measured is not None
            assert row.measured.latency.low > 3e-3
        else:
            assert row.status in ("chosen", "fits")
    assert {"chosen", "too slow", "ruled out", "worse"} <= {row.status for row in choice.rows}
    assert choice.row.measured is not None
    assert choice.row.measured.latency.high <= 3e-3
    assert choice.warnings[0] == f"{choice.spec.name}: it was noisy."
    assert len(choice.warnings) == 4


def test_the_choice_as_json(choice: Choice) -> None:
    values = json.loads(json.dumps(choice.to_dict(), allow_nan=False))
    assert values["student"] == choice.spec.name
    assert values["limits"] == {"latency_ms": 3.0, "size_bytes": None}
    assert len(values["candidates"]) == 65
    assert values["leave_one_out_error"] == choice.leave_one_out
    assert read_spec(values["spec"]) == choice.spec


def test_a_percentage_of_the_teacher() -> None:
    chosen = table(TEACHER).select(Budget(speedup=4))
    assert chosen.teacher is not None
    assert chosen.teacher_spec == with_dropout(TEACHER, 0.0)
    assert chosen.limits.latency_s == pytest.approx(chosen.teacher.latency.low / 4)
    assert chosen.row.measured is not None
    assert chosen.teacher.latency.low / chosen.row.measured.latency.high >= 4


@pytest.mark.parametrize(
    "budget", [Budget(latency_s=10.0), Budget(size_bytes=1e12), Budget(speedup=0.1)]
)
def test_a_student_never_takes_more_than_its_teacher(budget: Budget) -> None:
    chosen = table(TEACHER).select(budget)
    found, teacher = chosen.row.measured, chosen.teacher
    assert found is not None
    assert teacher is not None
    if budget.size_bytes is None:
        assert found.latency.high <= teacher.latency.low
    else:
        assert found.size_bytes < teacher.size_bytes
    assert chosen.spec.name != TEACHER.name


def test_all_limits_hold_together() -> None:
    chosen = table(TEACHER).select(Budget(latency_s=5e-3, size_bytes=4e6, speedup=2))
    found = chosen.row.measured
    assert found is not None
    assert found.latency.high <= 5e-3
    assert found.size_bytes <= 4e6
    too_large = [row for row in chosen.rows if row.status == "too large"]
    assert too_large
    assert all("its file would take" in row.why for row in too_large)


def test_limits() -> None:
    teacher = Measurement(Estimate(0.010, 0.009, 0.011), 1000)
    assert limits_of(Budget(latency_s=1e-3), None).latency_s == 1e-3
    assert limits_of(Budget(latency_s=1.0), teacher).latency_s == 0.009
    free = limits_of(Budget(latency_s=1e-3, speedup=3, headroom=0.1), teacher)
    assert free.latency_s == pytest.approx(0.9e-3)
    # A ratio is one of times of the same rounds, so nothing of it is left free.
    assert limits_of(Budget(speedup=3, headroom=0.1), teacher).latency_s == pytest.approx(0.003)
    assert limits_of(Budget(speedup=3), teacher).latency_s == pytest.approx(0.003)
    paired = limits_of(Budget(speedup=3), teacher, paired=True)
    assert paired.latency_s == pytest.approx(0.01 / 3)
    both = limits_of(Budget(speedup=3, latency_s=1e-3, size_bytes=50), teacher)
    assert (both.latency_s, both.size_bytes) == (1e-3, 50)
    assert limits_of(Budget(size_bytes=5e3), teacher).size_bytes == 1000
    assert limits_of(Budget(size_bytes=5e3), teacher).latency_s is None


def test_an_impossible_time_names_the_nearest_with_its_figures() -> None:
    expected = (
        r"No candidate keeps 10\.0 us with batch 1 and 1 thread .* The nearest is wrn-10-1: "
        r"2\d\d us \(95% interval 2\d\d us to 2\d\d us\), 318 kB, predicted error 4\d\.\d%"
    )
    with pytest.raises(NoStudentFits, match=expected):
        table().select(Budget(latency_s=1e-5))


def test_what_keeps_the_budget_but_not_the_headroom_is_told_so() -> None:
    """wrn-10-1 takes 0.24 ms: it keeps 0.27 ms, and not the 0.216 ms that 20% leave."""
    budget = Budget(latency_s=0.27e-3, headroom=0.2)
    with pytest.raises(NoStudentFits) as told:
        table().select(budget)
    said = str(told.value)
    assert "No candidate keeps 216 us (270 us with 20% of it left free)" in said
    assert said.endswith(
        "It keeps 270 us, but not the 216 us that are left after the 20% headroom; --headroom 0 "
        "would accept it."
    )
    assert table().select(replace(budget, headroom=0.0)).spec.name == "wrn-10-1"
    rows = {row.name: row for row in table().select(replace(budget, latency_s=0.5e-3)).rows}
    kept = [row for row in rows.values() if row.status == "no headroom"]
    assert kept
    for row in kept:
        assert row.measured is not None
        assert 0.4e-3 < row.measured.latency.high <= 0.5e-3
        assert row.why.startswith("keeps 500 us, but not the 400 us")


def test_fewer_images_a_call_are_named_only_where_there_are_several() -> None:
    for batch, told in ((1, False), (8, True)):
        with pytest.raises(NoStudentFits) as error:
            table().select(Budget(latency_s=1e-5, batch=batch))
        assert ("use a smaller --batch" in str(error.value)) is told


def test_runs_of_other_trainings_do_not_count(
    choice: Choice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial of one epoch is no ground for a choice of two hundred."""
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    record_run(OwnRun("d" * 64, "wrn-10-2", "kd", 1, 4500, 0.07, 500, 0, schedule="steps"))
    write_csv(tmp_path / "t.csv", choice)

    def chosen(use_runs: bool = True, **plan: Any) -> Choice:
        asked = replace(Plan("kd", None, "steps", 4500), **plan)
        found = load_table(
            tmp_path / "t.csv", dataset_sha256="d" * 64, plan=asked, use_runs=use_runs
        )
        return found.select(Budget(latency_s=3e-3))

    def counts(found: Choice) -> bool:
        return any(row.prediction.basis == "own" for row in found.rows)

    assert counts(chosen(epochs=1))
    assert counts(chosen(epochs=2))
    for other in (
        chosen(epochs=200),
        chosen(epochs=3),
        chosen(epochs=1, schedule="cosine"),
        chosen(epochs=1, train_images=45_000),
        chosen(epochs=1, use_runs=False),
    ):
        assert not counts(other)
        assert "1 own run on this data does not count" in other.scale
    assert "--ignore-runs" in chosen(epochs=1, use_runs=False).scale


def test_an_impossible_size_names_the_nearest_with_its_figures() -> None:
    with pytest.raises(NoStudentFits, match=r"No candidate keeps 50\.0 kB .* wrn-10-1: .*318 kB"):
        table().select(Budget(size_bytes=5e4))


def test_a_speedup_needs_a_teacher() -> None:
    with pytest.raises(UsageError, match="--teacher"):
        table().select(Budget(speedup=4))


def test_all_are_measured_on_request() -> None:
    everything = table().measure_all(Budget(latency_s=3e-3))
    assert all(row.measured is not None for row in everything.rows)
    assert everything.spec == table().select(Budget(latency_s=3e-3)).spec
    assert {row.status for row in everything.rows} == {"chosen", "fits", "too slow"}
    assert table().measure_all(Budget()).spec.name == "wrn-40-10"


@pytest.mark.parametrize("name", ["table.csv", "table.json"])
def test_a_saved_table_chooses_the_same_elsewhere(name: str, tmp_path: Path) -> None:
    budget = Budget(speedup=4, target=Target(threads=2))
    here = table(TEACHER).select(budget)
    write_csv(tmp_path / name, here)
    stored = load_table(tmp_path / name, num_classes=10, input_shape=(3, 32, 32), teacher=TEACHER)
    there = stored.select(budget)
    assert there.spec == here.spec
    assert there.machine == {"cpu": "made for tests"}
    assert [row.status for row in there.rows] == [row.status for row in here.rows]
    for one, other in zip(there.rows, here.rows, strict=True):
        assert (one.measured is None) == (other.measured is None)
        if one.measured is not None and other.measured is not None:
            assert one.measured.latency.value == pytest.approx(other.measured.latency.value)
            assert one.measured.size_bytes == other.measured.size_bytes


def test_the_csv_has_every_candidate(choice: Choice, tmp_path: Path) -> None:
    write_csv(tmp_path / "tradeoff.csv", choice)
    lines = (tmp_path / "tradeoff.csv").read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert [row["candidate"] for row in rows] == [row.name for row in choice.rows]
    assert {row["status"] for row in rows} == {row.status for row in choice.rows}
    assert all(row["why"] for row in rows)


def test_a_table_of_the_whole_grid_answers_any_budget(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", table().measure_all(Budget()))
    stored = load_table(tmp_path / "t.csv")
    for limit_s in (0.3e-3, 1e-3, 2e-3, 5e-3, 2e-2, 1.0):
        assert stored.select(Budget(latency_s=limit_s)).spec == (
            table().select(Budget(latency_s=limit_s)).spec
        )


def test_a_table_that_does_not_decide_says_what_it_lacks(choice: Choice, tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", choice)
    with pytest.raises(UsageError, match=r"it has no wrn-.*select --all --save"):
        load_table(tmp_path / "t.csv").select(Budget(latency_s=20e-3))


def test_a_table_of_other_conditions_is_refused(choice: Choice, tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", choice)
    with pytest.raises(UsageError, match="with threads 1, not 2; batch 1, not 8"):
        load_table(tmp_path / "t.csv").select(
            Budget(latency_s=3e-3, batch=8, target=Target(threads=2))
        )
    with pytest.raises(UsageError, match="was measured for 10, but the data has 100"):
        load_table(tmp_path / "t.csv", num_classes=100)
    with pytest.raises(UsageError, match="--input-shape 1,28,28"):
        load_table(tmp_path / "t.csv", input_shape=(1, 28, 28))
    with pytest.raises(UsageError, match="does not have the teacher wrn-40-4"):
        load_table(tmp_path / "t.csv", teacher=TEACHER).select(Budget(speedup=2))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", ""),
        ("t.csv", "candidate,latency_ms\nwrn-10-1,3\n"),
        ("t.csv", "# schema_version: {\n"),
        ("t.json", "{}"),
        ("t.json", "[1]"),
        ("t.json", '{"schema_version": 99, "candidates": []}'),
        ("t.csv", "\x00\x01"),
    ],
)
def test_what_is_no_table_is_refused(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match="is not a table of"):
        load_table(tmp_path / name)


def test_a_missing_or_damaged_table_is_refused(choice: Choice, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot read the table"):
        load_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="it is not text"):
        load_table(tmp_path / "t.csv")
    write_csv(tmp_path / "t.csv", choice)
    text = (tmp_path / "t.csv").read_text()
    found = choice.row.measured
    assert found is not None
    damaged = text.replace(f"{found.latency.low * 1e3:.6f}".rstrip("0"), "-1")
    assert damaged != text
    (tmp_path / "t.csv").write_text(damaged)
    with pytest.raises(InputError, match=r"latency_low_ms is -1.0, it must be more than 0"):
        load_table(tmp_path / "t.csv")


def test_own_runs_on_the_data_are_looked_up(
    choice: Choice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    record_run(OwnRun("d" * 64, "wrn-10-2", "kd", 30, 4500, 0.07, 500, 0))
    write_csv(tmp_path / "t.csv", choice)
    budget = Budget(latency_s=3e-3)
    known = load_table(tmp_path / "t.csv", dataset_sha256="d" * 64, plan=Plan("kd", 30))
    row = next(row for row in known.select(budget).rows if row.name == "wrn-10-2")
    assert row.prediction.error == pytest.approx(0.07)
    assert "1 own run on this data" in known.select(budget).scale
    other = load_table(tmp_path / "t.csv", dataset_sha256="e" * 64, dataset_name="cifar100")
    assert other.select(budget).scale.endswith("Table 5 of arXiv 1709.00513 (CIFAR-100).")
    assert "only their order is meaningful" in load_table(tmp_path / "t.csv").select(budget).scale


def test_a_budget_within_the_smallest_interval_is_undecided() -> None:
    """The smallest candidate may keep it, so that nobody knows that none does."""
    smallest = Laboratory().measure(spec_of("wrn-10-1"), Budget(), None)
    told = "No candidate is known to keep .* The nearest is wrn-10-1"
    with pytest.raises(Inconclusive, match=told):
        table().select(Budget(latency_s=smallest.latency.value))
    with pytest.raises(NoStudentFits, match="No candidate keeps"):
        table().select(Budget(latency_s=smallest.latency.low / 2))


def test_a_candidate_that_only_undisturbed_calls_make_fast_enough_is_undecided() -> None:
    latency = Estimate(1e-3, 0.9e-3, 1.1e-3)
    for all_calls_s, judgement in ((None, "kept"), (1.2e-3, "kept"), (1.3e-3, "undecided")):
        found = Measurement(latency, 10, all_calls_s=all_calls_s)
        assert Limits(1.2e-3).judge(found) == judgement
    assert status_of(found, Limits(1.2e-3), better=True) == (
        "undecided",
        "with calls that others disturbed 1.30 ms, 1.20 ms allowed",
    )
