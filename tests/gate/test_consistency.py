from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.fooling import wrong_one_by_one
from compress.data.dataset import Dataset, load_dataset
from compress.gate.consistency import compare_consistency, judge
from compress.gate.evaluation import score
from compress.gate.measuring import Settings
from compress.gate.verdict import Comparison, Outcome
from compress.tasks.classification import LOGITS, Classification
from tests.gate.small import SIZE, classifier, images


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="module")
def data(model: Path) -> Dataset:
    return load_dataset(str(images(model.with_name("data.npz"), model, count=600)))


def found(path: Path, data: Dataset, batch: int = 1) -> Comparison | None:
    settings = Settings(batch=batch)
    return compare_consistency(path, data, settings, score(path, data, settings, None))


def test_a_model_that_is_wrong_one_by_one_fails(model: Path, data: Dataset, tmp_path: Path) -> None:
    fooling = wrong_one_by_one(model, tmp_path / "fooling.onnx")
    said = found(fooling, data)
    assert said is not None
    assert said.outcome is Outcome.FAIL
    assert "256 of 256 images get other answers one by one" in said.reason
    assert said.evidence["accuracy_in_large_batches"] > 0.9 > 0.2 > said.evidence["accuracy"]
    # Served in threes it is as good as it seems.
    in_threes = found(fooling, data, batch=3)
    assert in_threes is not None
    assert in_threes.outcome is Outcome.PASS
    assert "the same answers 3 a call as in batches of 250 on 255 images" in in_threes.reason
    more_than_there_are = found(fooling, data, batch=700)
    assert more_than_there_are is not None
    assert more_than_there_are.evidence["images"] == 700


def test_a_model_that_answers_alike_passes(model: Path, data: Dataset) -> None:
    said = found(model, data)
    assert said is not None
    assert said.outcome is Outcome.PASS
    assert said.evidence["differing"] == said.evidence["other_class"] == 0


def test_what_is_scored_at_the_timed_batch_needs_no_comparison(
    data: Dataset, tmp_path: Path
) -> None:
    fixed = classifier(tmp_path / "fixed.onnx", shape=(1, 1, SIZE, SIZE))
    assert found(fixed, data) is None
    assert found(classifier(tmp_path / "open.onnx"), data, batch=250) is None


def judged(
    alone: torch.Tensor, batched: torch.Tensor, labels: torch.Tensor, allowed: float
) -> Comparison:
    task = Classification.of_width(3)
    return judge(task, {LOGITS: alone}, {LOGITS: batched}, labels, allowed, batch=1)


def test_what_is_added_to_all_logits_alike_changes_no_answer() -> None:
    batched = torch.tensor([[0.0, 10.0, 3.0], [1.0, 1.0, 1.0]])
    assert judged(batched + 5, batched, torch.tensor([1, 1]), 1e-3).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("change", "allowed", "outcome"),
    [
        (0.014, 1e-3, Outcome.PASS),
        (0.016, 1e-3, Outcome.FAIL),
        (1.4, 0.1, Outcome.PASS),
        (1.6, 0.1, Outcome.FAIL),
        (float("nan"), 0.1, Outcome.FAIL),
    ],
)
def test_the_tolerance_is_a_share_of_the_distance_of_the_logits(
    change: float, allowed: float, outcome: Outcome
) -> None:
    batched = torch.tensor([[0.0, 10.0, 3.0]] * 4)
    alone = batched.clone()
    alone[2, 2] += change
    said = judged(alone, batched, torch.tensor([1] * 4), allowed)
    assert said.outcome is outcome
    assert said.evidence["differing"] == (outcome is Outcome.FAIL)
