"""How a checkpoint is to be run is found on images, or it is said that it was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.data.normalization import KNOWN, normalize
from compress.errors import CheckpointError, TeacherError
from compress.exporting import onnx_from_torch
from compress.models.checkpoint import save_checkpoint
from compress.models.registry import build
from compress.spec import Normalization, Target
from compress.tasks.classification import LOGITS
from compress.tasks.registry import unstated
from compress.training.evaluation import file_predictor
from compress.training.identification import Identified, identify
from tests.models.layouts import WindowedResNet
from tests.training.quarters import CLASSES, CPU, SIZE, SPEC, dataset, toy_images


def identified(path: Path, images: Tensor, labels: Tensor, **said: Any) -> Identified:
    said = {"normalization": None, "arch": None} | said
    return identify(path, dataset(images, labels), device=CPU, **said)


# ---------------------------------------------------------------------------------------------
# Normalisation


@pytest.fixture
def untrained(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(build(SPEC).state_dict(), tmp_path / "untrained.pt")
    return tmp_path / "untrained.pt"


def test_no_normalisation_is_found_for_a_network_that_guesses(untrained: Path) -> None:
    images, labels = toy_images(500, 2)
    notes = " ".join(identified(untrained, images, labels).notes)
    assert "was found" not in notes
    assert "Tried 6 normalisations; it is better than chance with none of them" in notes
    assert "(with the best, it is right on " in notes
    assert "is assumed, because it fits the statistics of the first batch norm best" in notes
    assert "The images do not determine the structure: shortcuts padded" in notes
    assert "are as good" not in notes


def test_a_statement_of_bytes_is_told_and_applied_to_unit_pixels(untrained: Path) -> None:
    images, labels = toy_images(20, 2)
    stated = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    found = identified(untrained, images, labels, normalization=stated)
    assert found.normalization == KNOWN["imagenet"]
    assert any("given for pixels in 0..255" in note for note in found.notes)


# ---------------------------------------------------------------------------------------------
# Averages over windows of the last map, which shapes alone do not prove


@pytest.fixture(scope="module")
def windowed() -> WindowedResNet:
    """A network that knows the toy images, in plain torch."""
    torch.manual_seed(0)
    network = WindowedResNet(1, 4, side=SIZE, pool=2, classes=CLASSES).train()
    images, labels = toy_images(512, 1)
    inputs = normalize(images, KNOWN["half"])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(12):
        for start in range(0, 512, 64):
            part = slice(start, start + 64)
            loss = nn.functional.cross_entropy(network(inputs[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


@pytest.fixture
def path(windowed: WindowedResNet, tmp_path: Path) -> Path:
    torch.save({"state_dict": windowed.state_dict()}, tmp_path / "windowed.pth")
    return tmp_path / "windowed.pth"


def test_it_is_recognised_where_images_show_it(
    path: Path, windowed: WindowedResNet, tmp_path: Path
) -> None:
    images, labels = toy_images(300, 2)
    found = identified(path, images, labels)
    assert (found.spec.parameters["pool"], found.spec.parameters["stem_channels"]) == (2, 16)
    assert found.normalization == KNOWN["half"]
    (note,) = (note for note in found.notes if "averages over 2x2 windows of the last map" in note)
    assert "better than chance: it is right on" in note
    inputs = normalize(images, found.normalization)
    with torch.inference_mode():
        assert torch.equal(found.network(inputs), windowed(inputs))
    artifact, parity = onnx_from_torch(
        found.network,
        tmp_path / "a.onnx",
        spec=found.spec,
        normalization=found.normalization,
        classes=(),
        images=inputs[:100],
        source={},
    )
    assert parity.top1_agreement == 1.0
    assert artifact.spec == found.spec
    with (
        file_predictor(tmp_path / "a.onnx", Target(), unstated()) as predict,
        torch.inference_mode(),
    ):
        torch.testing.assert_close(predict(inputs)[LOGITS], windowed(inputs), rtol=1e-4, atol=1e-4)


def test_it_is_refused_where_images_do_not_show_it(
    path: Path, windowed: WindowedResNet, tmp_path: Path
) -> None:
    images, labels = toy_images(300, 2)
    with pytest.raises(CheckpointError, match=r"assumed.* it is no better than chance"):
        identified(path, images, (labels + 1) % CLASSES)
    with pytest.raises(CheckpointError, match="no validation images to find out") as error:
        identified(path, images[:0], labels[:0], normalization=KNOWN["half"])
    assert "State it if you know it: resnet-8x0.25-b,shortcut=conv" in str(error.value)
    said = "resnet-8x0.25-b,pool=2"
    found = identified(path, images[:0], labels[:0], normalization=KNOWN["half"], arch=said)
    assert found.spec.parameters["pool"] == 2
    with pytest.raises(CheckpointError, match="pool=2, not the stated 4"):
        identified(path, images, labels, arch="resnet-8x0.25-b,pool=4")


def test_its_images_are_of_one_size(path: Path) -> None:
    images, labels = toy_images(30, 2)
    large = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    # On 32x32 images its classifier would read averages over 4x4 windows.
    assert (
        identified(path, large, labels, arch="resnet-8x0.25-b,pool=4").spec.parameters["pool"] == 4
    )
    network = identified(path, images, labels, arch="resnet-8x0.25-b,pool=2").network
    own = path.with_suffix(".safetensors")
    save_checkpoint(own, network, normalization=KNOWN["half"])
    assert identified(own, images, labels).spec.parameters["pool"] == 2
    with pytest.raises(TeacherError, match=r"of 16x16 only.* the data's images are 32x32"):
        identified(own, large, labels)
