"""What a finished run says is read back as it was, or what is wrong with it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.errors import InputError, RunFolderError
from compress.pipelines.distill import DistillResult
from compress.pipelines.distill.report import document_of
from compress.pipelines.distill.result import BudgetResult
from compress.pipelines.reproduce.finished import FinishedTraining
from compress.pipelines.train import TrainResult
from compress.profiling.fresh import FreshTiming, Loading
from compress.profiling.timing import ModelTiming
from compress.report import terminal
from compress.results import Estimate
from compress.spec import Budget
from compress.tasks.registry import unstated
from compress.training.runfolder import RunFolder
from tests.pipelines.results import document, precision
from tests.schema.broken import answers, broken_json

TUNING = {
    "epochs": 2,
    "lr": 0.01,
    "before": precision("undecided"),
    "after": precision("kept"),
    "taken": True,
}
DISTILLED = document(outcome="inconclusive", reduced="kept", size_mb=1.0, fine_tuning=TUNING)
TRAINED: dict[str, Any] = {
    "schema_version": 1,
    "model": {"name": "wrn-10-1", "params": 77_850, "file": "model.safetensors"},
    "accuracy": {"validation": None, "test": 0.9},
    "n": {"validation": 0, "test": 20},
    "epochs": 3,
    "seed": 0,
}
REPRODUCED: dict[str, Any] = {
    "schema_version": 1,
    "student": "wrn-10-1",
    "method": "KD",
    "seed": 0,
    "params": 77_850,
    "last": {"validation": 0.9, "test": 0.88, "epoch": 3},
}


@pytest.mark.parametrize(
    ("layout", "values"),
    [(DistillResult, DISTILLED), (TrainResult, TRAINED), (FinishedTraining, REPRODUCED)],
    ids=["distill", "train", "reproduce"],
)
def test_every_field_of_result_json_is_read_or_told(
    layout: type, values: dict[str, Any], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path, {})

    def read(text: str) -> None:
        (tmp_path / "result.json").write_text(text)
        found: Any = folder.result(layout)
        if isinstance(found, DistillResult):
            terminal.text_of(document_of(found, tmp_path.iterdir()))

    read(json.dumps(values))
    counts = answers(broken_json(values), read, RunFolderError)
    assert min(counts.values()) > 5


def test_a_result_is_read_back_as_it_was() -> None:
    found = DistillResult.from_dict(DISTILLED)
    assert found.to_dict() == DISTILLED
    assert found.shipped is not None
    assert found.shipped.fine_tuning is not None
    trained = TrainResult.from_dict(TRAINED)
    assert trained.to_dict() == TRAINED


def test_a_result_is_judged_by_another_limit() -> None:
    found = DistillResult.from_dict(DISTILLED)
    assert found.judged(unstated(), None).accuracy_drop.outcome is None
    assert found.judged(unstated(), 0.9).accuracy_drop.outcome == "pass"
    damaged = json.loads(json.dumps(DISTILLED))
    del damaged["accuracy_drop"]["lost"]
    with pytest.raises(InputError, match="impossible counts"):
        DistillResult.from_dict(damaged).judged(unstated(), 0.9)


@pytest.mark.parametrize(
    ("limits", "elsewhere", "outcome"),
    [
        ({}, False, "not judged"),
        ({"latency_s": 1.2e-3}, False, "kept"),
        ({"latency_s": 1.0e-3}, False, "undecided"),
        # The interval keeps it, and with the calls that others disturbed the median does not.
        ({"latency_s": 1.15e-3}, False, "undecided"),
        ({"latency_s": 0.8e-3}, False, "missed"),
        ({"latency_s": 0.8e-3}, True, "not judged"),
        ({"speedup": 2.0}, False, "undecided"),
        ({"speedup": 1.9, "size_bytes": 100.0}, False, "kept"),
        ({"latency_s": 1.0e-3, "size_bytes": 99.0}, False, "missed"),
        ({"latency_s": 1.0e-3, "size_bytes": 99.0}, True, "missed"),
        ({"latency_s": 1.2e-3, "size_bytes": 100.0}, True, "not judged"),
    ],
)
def test_the_worst_limit_is_the_outcome_of_a_budget(
    limits: dict[str, Any], elsewhere: bool, outcome: str
) -> None:
    latency = Estimate(1e-3, 0.9e-3, 1.1e-3)
    model = ModelTiming(latency, latency, 1.2e-3, 6, 90, ())
    timing = FreshTiming(Loading(0.1, 0.2, 3), model, model, Estimate(2.0, 1.9, 2.1))
    found = BudgetResult.of(Budget(**limits), 100, timing, elsewhere=elsewhere)
    assert found.outcome == outcome
