"""Files as others export them are scored, or refused with what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from compress.cli import main
from compress.data.dataset import Dataset, load_dataset
from compress.errors import ModelFileError, UnknownName, UsageError
from compress.exporting.artifact import write_output_name
from compress.exporting.fidelity import Proof
from compress.exporting.half import fp16_from_onnx
from compress.exporting.parity import predictor_of
from compress.gate.measuring import Settings
from compress.gate.signature import signature_of
from compress.spec import Normalization, Target
from compress.tasks.classification import LOGITS
from compress.tasks.registry import unstated
from compress.training.scoring import Scored, score_onnx
from tests import foreign

NORMALIZATION = Normalization((0.0,) * 3, (1.0,) * 3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Images of which a channel is bright, or none."""
    rng = np.random.default_rng(0)
    labels = np.arange(80) % foreign.CLASSES
    pixels = rng.integers(0, 40, (80, 8, 8, 3)).astype(np.uint8)
    for channel in range(3):
        pixels[labels == channel, :, :, channel] += 150
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    return load_dataset(str(path))


def score(path: Path, data: Dataset, output: str | None = None) -> Scored:
    stated = None if "uint8" in path.name else NORMALIZATION
    return score_onnx(path, data, normalization=stated, target=Target(), output=output)


@pytest.fixture(scope="module")
def expected(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    return score(foreign.save(tmp_path_factory.mktemp("plain") / "m.onnx"), data).outputs[LOGITS]


@pytest.mark.parametrize("output", ["1x1", "row", "two, one called logits"])
def test_outputs_that_hold_the_logits_are_found(
    output: str, data: Dataset, expected: torch.Tensor, tmp_path: Path
) -> None:
    path = foreign.save(tmp_path / "m.onnx", output)
    found = score(path, data)
    torch.testing.assert_close(found.outputs[LOGITS], expected)
    assert any("'logits'" in note for note in found.notes) is output.startswith("two")
    assert signature_of(path, Settings(), unstated()).width == foreign.CLASSES
    images = torch.rand(2, 3, 8, 8).numpy()
    assert predictor_of(path)(images)[LOGITS].shape == (2, foreign.CLASSES)


def test_probabilities_beside_a_label_are_taken_and_told(
    data: Dataset, expected: torch.Tensor, tmp_path: Path
) -> None:
    found = score(foreign.save(tmp_path / "m.onnx", "label and probabilities"), data)
    torch.testing.assert_close(found.outputs[LOGITS], expected.softmax(1))
    assert "'probabilities'" in found.notes[0]
    assert "not 'label'" in found.notes[0]


def test_of_two_outputs_one_is_named(data: Dataset, expected: torch.Tensor, tmp_path: Path) -> None:
    path = foreign.save(tmp_path / "m.onnx", "two")
    for refused in (lambda: score(path, data), lambda: signature_of(path, Settings(), unstated())):
        with pytest.raises(ModelFileError, match=r"'a' .*'b' .*--output-name"):
            refused()
    torch.testing.assert_close(score(path, data, "b").outputs[LOGITS], expected)
    torch.testing.assert_close(score(path, data, "a").outputs[LOGITS], -expected)
    assert signature_of(path, Settings(output="b"), unstated()).width == foreign.CLASSES
    with pytest.raises(UnknownName, match="There is no output 'c'"):
        score(path, data, "c")


@pytest.mark.parametrize("entry", ["float16", "nhwc"])
def test_images_are_cast_and_transposed(
    entry: str, data: Dataset, expected: torch.Tensor, tmp_path: Path
) -> None:
    path = foreign.save(tmp_path / "m.onnx", entry=entry)
    found = score(path, data)
    torch.testing.assert_close(found.outputs[LOGITS], expected, atol=3e-3, rtol=0)
    assert "m.onnx takes 'x' as" in found.notes[0]
    assert signature_of(path, Settings(), unstated()).image_shape == (3, 8, 8)


def test_bytes_are_pixels_without_a_normalisation(
    data: Dataset, expected: torch.Tensor, tmp_path: Path
) -> None:
    path = foreign.save(tmp_path / "uint8.onnx", entry="uint8")
    found = score(path, data)
    torch.testing.assert_close(found.outputs[LOGITS], expected)
    assert "as uint8 [n, c, h, w]" in found.notes[0]
    with pytest.raises(UsageError, match="normalises them itself"):
        score_onnx(path, data, normalization=NORMALIZATION, target=Target())


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("label", "is int64: perhaps labels"),
        ("bool", "bool"),
        ("string", "is (str|object): perhaps labels"),
        ("scalar", "has no row per image"),
        ("one row", "has 1 rows for 2 images"),
        ("zipmap", "zipmap=False"),
        ("dropout", "differently each time. It has Dropout"),
        ("noise", "differently each time. It has RandomNormalLike"),
    ],
)
def test_what_cannot_be_scored_is_refused_by_all(
    output: str, said: str, data: Dataset, tmp_path: Path
) -> None:
    path = foreign.save(tmp_path / "m.onnx", output)
    with pytest.raises(ModelFileError, match=said):
        score(path, data)
    with pytest.raises(ModelFileError, match=said):
        signature_of(path, Settings(), unstated())


def test_integers_are_no_images(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="int64"):
        score(foreign.save(tmp_path / "m.onnx", entry="int64"), data)


@pytest.mark.parametrize("output", ["two", "1x1"])
def test_a_file_in_fewer_bits_gives_the_same_logits(output: str, tmp_path: Path) -> None:
    source = foreign.save(tmp_path / "m.onnx", output)
    if output == "two":
        source = write_output_name(source, tmp_path / "stated.onnx", "b")
    images = torch.rand(6, 3, 8, 8).numpy()
    artifact, found = fp16_from_onnx(source, tmp_path / "half.onnx", proof=Proof(images))
    assert found.top1_agreement == 1
    np.testing.assert_allclose(
        predictor_of(artifact.path)(images)[LOGITS],
        predictor_of(source)(images)[LOGITS],
        atol=0.01,
    )


@pytest.mark.parametrize("entry", ["nhwc", "uint8"])
def test_what_takes_images_otherwise_is_converted_by_nobody(
    entry: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = foreign.save(tmp_path / "m.onnx", entry=entry)
    words = ["export", str(path), "-o", str(tmp_path / "o.onnx"), "--precision", "fp16"]
    assert main(words) == 2
    assert "only float32 [n, c, h, w] can be converted" in capsys.readouterr().err
