from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from compress.data.dataset import Dataset, load_dataset
from compress.errors import DataError, ModelFileError, UsageError
from compress.spec import Normalization, Target
from compress.tasks.classification import LOGITS
from compress.tasks.classification.accuracy import Right
from compress.tasks.registry import unstated
from compress.training.evaluation import file_predictor
from compress.training.scoring import score_onnx
from tests.gate.small import CLASSES, SIZE, classifier, images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scoring")
    images(folder / "data.npz", classifier(folder / "model.onnx"), count=301)
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> Dataset:
    return load_dataset(str(folder / "data.npz"))


def test_what_is_right_is_what_the_labels_say(folder: Path, data: Dataset) -> None:
    found = score_onnx(folder / "model.onnx", data, normalization=None, target=Target())
    assert found.outputs[LOGITS].shape == (301, CLASSES)
    assert found.notes == ()
    assert found.evidence == Right(
        tuple((found.outputs[LOGITS].argmax(1) == data.test.targets).tolist())
    )
    assert 0.9 < found.evidence.value < 1


def test_a_file_that_states_its_normalisation_for_bytes(
    folder: Path, data: Dataset, tmp_path: Path
) -> None:
    model = onnx.load(folder / "model.onnx")
    said = {"compress.normalization": json.dumps({"mean": [127.5], "std": [63.75]})}
    onnx.helper.set_model_props(model, said)
    onnx.save(model, tmp_path / "bytes.onnx")
    plain = score_onnx(folder / "model.onnx", data, normalization=None, target=Target())
    found = score_onnx(tmp_path / "bytes.onnx", data, normalization=None, target=Target())
    assert found.normalization == plain.normalization == Normalization((0.5,), (0.25,))
    assert torch.equal(found.outputs[LOGITS], plain.outputs[LOGITS])
    (note,) = found.notes
    assert "given for pixels in 0..255. Divided by 255 it is mean 0.5; std 0.25" in note


@pytest.mark.parametrize("batch", [1, 7, 400])
def test_a_file_of_a_fixed_batch_answers_as_one_of_an_open_one(
    batch: int, folder: Path, data: Dataset, tmp_path: Path
) -> None:
    fixed = classifier(tmp_path / "fixed.onnx", shape=(batch, 1, SIZE, SIZE))
    open_one = score_onnx(folder / "model.onnx", data, normalization=None, target=Target())
    found = score_onnx(fixed, data, normalization=None, target=Target())
    torch.testing.assert_close(
        found.outputs[LOGITS], open_one.outputs[LOGITS], atol=1e-4, rtol=1e-4
    )


NAMES, ORDER = ("cat", "dog", "ship", "car"), (2, 0, 3, 1)


def test_answers_are_taken_by_name(tmp_path: Path) -> None:
    model = classifier(tmp_path / "model.onnx", names=NAMES)
    data = load_dataset(str(images(tmp_path / "data.npz", model, names=NAMES)))
    other = classifier(
        tmp_path / "other.onnx", names=[NAMES[place] for place in ORDER], order=ORDER
    )
    ours, theirs = (
        score_onnx(path, data, normalization=None, target=Target()) for path in (model, other)
    )
    assert ours.evidence == theirs.evidence
    torch.testing.assert_close(ours.outputs[LOGITS], theirs.outputs[LOGITS])
    assert ours.notes == ()
    assert "in another order than data; its answers are matched by name" in theirs.notes[0]
    strange = classifier(tmp_path / "strange.onnx", names=(*NAMES[:3], "truck"))
    found = score_onnx(strange, data, normalization=None, target=Target())
    assert found.evidence == ours.evidence
    assert "only the model has 'truck', only the data has 'car'" in found.notes[0]
    mixed = classifier(tmp_path / "mixed.onnx", names=("dog", "cat", "ship", "truck"))
    with pytest.raises(DataError, match="'cat' is class 1 of the model and class 0 of the data"):
        score_onnx(mixed, data, normalization=None, target=Target())


def test_a_normalisation_is_looked_for_by_name_too(tmp_path: Path) -> None:
    model = classifier(tmp_path / "model.onnx", names=NAMES)
    data = load_dataset(str(images(tmp_path / "data.npz", model, names=NAMES)))
    bare = onnx.load(
        classifier(tmp_path / "o.onnx", names=[NAMES[place] for place in ORDER], order=ORDER)
    )
    (said,) = [one for one in bare.metadata_props if one.key == "compress.classes"]
    del bare.metadata_props[:]
    bare.metadata_props.append(said)
    onnx.save(bare, tmp_path / "bare.onnx")
    # What is right of the validation images decides; these are the test images here.
    found = score_onnx(
        tmp_path / "bare.onnx",
        replace(data, validation=data.test),
        normalization=None,
        target=Target(),
    )
    assert found.evidence.value > 0.9


def test_images_are_not_changed_by_filling_a_batch(tmp_path: Path) -> None:
    fixed = classifier(tmp_path / "fixed.onnx", shape=(4, 1, SIZE, SIZE))
    pixels = torch.randn(6, 1, SIZE, SIZE)
    before = pixels.clone()
    with file_predictor(fixed, Target(), unstated()) as predict:
        assert predict(pixels)[LOGITS].shape == (6, CLASSES)
    assert torch.equal(pixels, before)


def test_answers_that_are_no_numbers_are_counted(data: Dataset, tmp_path: Path) -> None:
    model = onnx.load(classifier(tmp_path / "model.onnx"))
    # The square root of a negative number is none: about half of the answers.
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Sqrt", ["before"], ["logits"]))
    onnx.save(model, tmp_path / "root.onnx")
    with pytest.raises(ModelFileError, match=r"of 301 test images with values that are not finite"):
        score_onnx(tmp_path / "root.onnx", data, normalization=None, target=Target())


def test_what_cannot_be_scored_is_told(folder: Path, data: Dataset, tmp_path: Path) -> None:
    colour = Normalization((0.5,) * 3, (0.5,) * 3)
    with pytest.raises(UsageError, match=r"3 channel\(s\)"):
        score_onnx(folder / "model.onnx", data, normalization=colour, target=Target())
    five = classifier(tmp_path / "five.onnx", classes=5)
    with pytest.raises(ModelFileError, match="gives 5 classes"):
        score_onnx(five, data, normalization=None, target=Target())
    hollow = replace(data, test=data.test.take(torch.arange(0)))
    with pytest.raises(DataError, match="no test images"):
        score_onnx(folder / "model.onnx", hollow, normalization=None, target=Target())
