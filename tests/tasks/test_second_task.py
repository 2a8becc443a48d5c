"""A task that has no labels goes through the same house: data, training, export, gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from compress.data import dataset
from compress.data.dataset import Dataset, load_dataset
from compress.data.normalization import normalize
from compress.errors import DataError, ParityError, UsageError
from compress.exporting import onnx_from_torch, predictor_of
from compress.exporting.fidelity import Proof
from compress.exporting.half import fp16_from_onnx
from compress.gate import check as checking
from compress.gate import update as making
from compress.gate.accuracy import AccuracyRule
from compress.gate.baseline import read_baseline
from compress.gate.calibration import CalibrationRule
from compress.gate.check import CheckRequest, check
from compress.gate.measuring import Judged, Trial, outcomes
from compress.gate.precision import PrecisionRule
from compress.gate.report import baseline_document
from compress.gate.update import UpdateRequest, update
from compress.gate.verdict import Outcome
from compress.models.network import Network
from compress.models.registry import build, spec_of
from compress.recipes.registry import make_recipe
from compress.report.document import Facts
from compress.spec import Target
from compress.tasks import registry
from compress.training.engine import Fitted, fit
from compress.training.evaluation import evaluate, predictor
from compress.training.listener import Silent
from compress.training.options import TrainingOptions
from compress.training.scoring import score_onnx
from tests.gate.small import rounds
from tests.tasks.brightness import METRIC, SIZE, VALUE, Brightness, read_grey

SPEC = spec_of("resnet-8x0.5", num_classes=1, input_shape=(1, SIZE, SIZE))
OPTIONS = TrainingOptions(epochs=6, batch_size=32, lr=0.05, crop_padding=0)


@pytest.fixture(scope="module")
def house() -> Iterator[pytest.MonkeyPatch]:
    """What a new task adds: a source of data, and its line in the registry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "read_source", read_grey)
        patch.setitem(registry.TASKS, Brightness.name, lambda width: Brightness())
        yield patch


@pytest.fixture(scope="module")
def data(house: pytest.MonkeyPatch) -> Dataset:
    return load_dataset("grey", validation=60)


@pytest.fixture(scope="module")
def trained(data: Dataset) -> tuple[Network, Fitted]:
    torch.manual_seed(0)
    network = build(SPEC)
    fitted = fit(
        make_recipe("supervised"),
        network,
        data,
        OPTIONS,
        teacher=None,
        folder=None,
        listener=Silent(),
    )
    return network.eval(), fitted


def exported(network: nn.Module, data: Dataset, path: Path) -> Path:
    _, parity = onnx_from_torch(
        network,
        path,
        spec=SPEC,
        normalization=data.normalization,
        classes=(),
        images=normalize(data.validation.images[:], data.normalization),
        source={},
        task=data.task,
    )
    assert parity.images == 60
    assert parity.max_abs_diff < 1e-4
    return path


@pytest.fixture(scope="module")
def model(
    trained: tuple[Network, Fitted], data: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return exported(trained[0], data, tmp_path_factory.mktemp("model") / "model.onnx")


def test_it_is_learnt_and_scored_by_its_own_measure(
    trained: tuple[Network, Fitted], data: Dataset
) -> None:
    network, fitted = trained
    found = evaluate(predictor(network, data.task), data.task, data.test, data.normalization)
    # The mean of all images is off by a quarter.
    assert -0.1 < found < 0
    reached = [line["validation_negative_error"] for line in fitted.history]
    assert reached[-1] > 2 * reached[0]
    assert fitted.best is not None
    assert fitted.best.score == max(reached)


def test_the_exported_file_is_proved_and_scored(
    model: Path, trained: tuple[Network, Fitted], data: Dataset, tmp_path: Path
) -> None:
    scored = score_onnx(model, data, normalization=None, target=Target())
    predict = predictor(trained[0], data.task)
    expected = evaluate(predict, data.task, data.test, data.normalization)
    assert scored.evidence.value == pytest.approx(expected, abs=1e-5)
    images = normalize(data.test.images[:3], data.normalization)
    assert predictor_of(model, data.task)(images.numpy())[VALUE].shape == (3, 1)

    class Lying(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # What an exporter traces is not what is run.
            found: torch.Tensor = trained[0](x)
            return found + (0 if torch.compiler.is_compiling() else 1)

    with pytest.raises(ParityError, match=r"differ at image 0: the model gives .*, the file "):
        exported(Lying(), data, tmp_path / "lying.onnx")


def test_fewer_bits_are_judged_by_its_score(model: Path, data: Dataset, tmp_path: Path) -> None:
    images = normalize(data.validation.images[:], data.normalization).numpy()
    rule = PrecisionRule(0.01)
    proof = Proof(images, data.validation.targets, rule.judge, data.task)
    _, found = fp16_from_onnx(model, tmp_path / "half.onnx", proof=proof)
    assert found.task == "regression"
    assert found.score == pytest.approx(found.float_score, abs=0.01)
    assert rule.of(found).outcome is Outcome.PASS
    assert rule.of(found).name == METRIC.name


def test_a_candidate_is_judged_against_a_baseline(
    model: Path,
    trained: tuple[Network, Fitted],
    data: Dataset,
    house: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    house.setattr(making, "measure", lambda trial: rounds(other=trial.against is not None))

    def judged(trial: Trial, say: object) -> Judged:
        found = rounds(other=trial.against is not None)
        return Judged(*outcomes(trial, found), found, None)

    house.setattr(checking, "judge", judged)
    output = tmp_path / "compress-baseline.json"
    made = update(UpdateRequest(model, "default", "the first one", output))
    read = read_baseline(output)
    assert read.evidence == made.evidence
    assert read.signature == made.signature
    assert str(read.signature) == "1x8x8 images, 1 numbers"
    (facts,) = baseline_document(read).parts
    assert isinstance(facts, Facts)
    shown = f"{METRIC.text(made.evidence.value)} of 120 test images of default"
    assert ("negative_error", shown) in facts.pairs

    def verdict(shift: float) -> dict[str, Outcome]:
        torch.manual_seed(1)
        network = build(SPEC)
        network.load_state_dict(trained[0].state_dict())
        network.linear.bias.data += shift
        candidate = exported(network.eval(), data, tmp_path / f"{shift}.onnx")
        found = check(CheckRequest(candidate, output, accuracy=AccuracyRule(0.02)))
        return {each.name: each.outcome for each in found.comparisons}

    same = verdict(1e-7)
    assert list(same) == ["latency", "size", "negative_error", "consistency"]
    assert set(same.values()) == {Outcome.PASS}
    assert verdict(0.3)["negative_error"] is Outcome.FAIL
    sure = CheckRequest(model, output, calibration=CalibrationRule(0.01))
    assert check(sure).outcome is Outcome.PASS  # the same file: there is nothing to compare
    with pytest.raises(UsageError, match="the answers of regression do not"):
        check(replace(sure, candidate=tmp_path / "0.3.onnx"))


def test_what_means_nothing_to_it_is_refused(data: Dataset) -> None:
    with pytest.raises(UsageError, match="no labels to smooth"):
        data.task.targets(data.train.targets, 0.1)
    with pytest.raises(DataError, match="at least one image"):
        data.task.tally(torch.device("cpu")).value()
