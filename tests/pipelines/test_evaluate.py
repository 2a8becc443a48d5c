from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from compress.cli import main
from compress.data.dataset import Dataset, Split, load_dataset
from compress.errors import DataError, ModelFileError, TeacherError, UsageError
from compress.exporting import onnx_from_torch
from compress.models.checkpoint import save_checkpoint
from compress.models.network import Network
from compress.models.registry import build, spec_of
from compress.pipelines.evaluate import evaluate
from compress.recipes.registry import make_recipe
from compress.spec import Normalization
from compress.tasks.classification import Classification
from compress.training.engine import fit
from compress.training.evaluation import stratified_sample
from compress.training.options import TrainingOptions
from tests.training.toy import Listener

DARK = Normalization((0.1307,), (0.3081,))  # MNIST's, which is among the known ones


@pytest.fixture(scope="module")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of stripes, sorted by class, as a careless export would have them."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 100)
    images = rng.integers(0, 100, (300, 8, 8), dtype=np.uint8)
    images[labels == 1, :, ::2] += 150
    images[labels == 2, ::2, :] += 150
    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[::4], y_test=labels[::4])
    return path


@pytest.fixture(scope="module")
def data(npz: Path) -> Dataset:
    return load_dataset(str(npz))


@pytest.fixture(scope="module")
def network(data: Dataset) -> Network:
    torch.manual_seed(0)
    network = build(spec_of("wrn-10-0.5", num_classes=3, input_shape=(1, 8, 8)))
    options = TrainingOptions(epochs=8, batch_size=32, lr=0.05)
    fit(
        make_recipe("supervised"),
        network,
        data,
        options,
        teacher=None,
        folder=None,
        listener=Listener(),
    )
    return network


def exported(network: Network, path: Path, normalization: Normalization | None) -> Path:
    onnx_from_torch(
        network, path, spec=network.spec, normalization=normalization, classes=(), source={}
    )
    return path


def test_a_checkpoint_and_its_onnx_file_score_alike(
    network: Network, data: Dataset, npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "model.safetensors"
    save_checkpoint(checkpoint, network, normalization=data.normalization)
    file = exported(network, tmp_path / "model.onnx", data.normalization)
    from_torch, from_onnx = evaluate(checkpoint, data), evaluate(file, data)
    assert from_torch.test == from_onnx.test > 0.8
    assert main(["evaluate", str(file), "--data", str(npz), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["accuracy"] == {"test": from_onnx.test, "n": 75}
    assert printed["schema_version"] == 1
    assert main(["evaluate", str(file), "--data", str(npz)]) == 0
    assert "of 75 test images" in capsys.readouterr().out


def test_a_missing_normalisation_is_found_or_given(
    network: Network, data: Dataset, npz: Path, tmp_path: Path
) -> None:
    file = exported(network, tmp_path / "model.onnx", None)
    found = evaluate(file, data)
    assert "does not state its normalisation" in found.notes[0]
    assert found.test >= evaluate(file, data, normalization=DARK).test - 0.1
    assert evaluate(file, data, normalization=DARK).normalization == DARK
    without = load_dataset(str(npz), validation=0)
    with pytest.raises(DataError, match="Give --normalize"):
        evaluate(file, without)
    checkpoint = tmp_path / "model.pt"
    torch.save(network.state_dict(), checkpoint)
    with pytest.raises(DataError, match="Give --normalize"):
        evaluate(checkpoint, without)
    assert evaluate(checkpoint, without, normalization=DARK).n == 75
    colour = Normalization((0.5,) * 3, (0.5,) * 3)
    for model in (file, checkpoint):
        with pytest.raises(UsageError, match=r"--normalize has 3 channel\(s\)"):
            evaluate(model, data, normalization=colour)


def test_a_network_that_guesses_is_scored(data: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    untrained = build(spec_of("wrn-10-0.5", num_classes=3, input_shape=(1, 8, 8)))
    torch.nn.init.zeros_(untrained.linear.weight)
    torch.save(untrained.state_dict(), tmp_path / "untrained.pt")
    file = exported(untrained, tmp_path / "untrained.onnx", data.normalization)
    for model in (tmp_path / "untrained.pt", file):
        found = evaluate(model, data)
        assert found.test == pytest.approx(1 / 3)
        assert "On the test images it is no better than chance" in found.notes[-1]


def test_other_classes_and_shapes_are_refused(data: Dataset, tmp_path: Path) -> None:
    wider = build(spec_of("wrn-10-0.5", num_classes=5, input_shape=(1, 8, 8)))
    with pytest.raises(ModelFileError, match=r"gives 5 classes, .* has 3"):
        evaluate(exported(wider, tmp_path / "five.onnx", None), data)
    save_checkpoint(tmp_path / "five.safetensors", wider, normalization=None)
    with pytest.raises(TeacherError, match="5 classes"):
        evaluate(tmp_path / "five.safetensors", data)
    colour = build(spec_of("wrn-10-0.5", num_classes=3, input_shape=(3, 8, 8)))
    with pytest.raises(ModelFileError, match="does not take the 1x8x8 images"):
        evaluate(exported(colour, tmp_path / "colour.onnx", None), data)


def test_a_truncated_file_is_refused(network: Network, data: Dataset, tmp_path: Path) -> None:
    whole = exported(network, tmp_path / "model.onnx", None).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError):
        evaluate(tmp_path / "cut.onnx", data)
    onnx.checker.check_model(str(tmp_path / "model.onnx"))


def test_a_sample_has_all_classes() -> None:
    labels = torch.arange(300) // 100
    split, task = Split(torch.zeros(300, 1, 8, 8), labels), Classification.of_width(3)
    some = stratified_sample(split, task, 30)
    assert torch.bincount(labels[some]).tolist() == [10, 10, 10]
    assert sorted(stratified_sample(split, task, 999).tolist()) == list(range(300))
