from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.cli import main
from compress.export import predictor_of, read_artifact
from compress.models.checkpoint import save_checkpoint
from compress.models.registry import Network, build
from compress.spec import ModelSpec, Normalization

SPEC = ModelSpec.parse("wrn-10-1", num_classes=3, input_shape=(3, 32, 32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our own checkpoint, the same weights as a bare state dict, and a ResNet's."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    network = build(SPEC)
    save_checkpoint(
        folder / "own.safetensors",
        network,
        normalization=Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        classes=("a", "b", "c"),
    )
    torch.save(network.state_dict(), folder / "bare.pt")
    torch.save(build(ModelSpec.parse("resnet-20")).state_dict(), folder / "resnet.pt")
    return folder


def test_our_own_checkpoint_says_everything(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.onnx"
    assert main(["export", str(folder / "own.safetensors"), "--output", str(output)]) == 0
    captured = capsys.readouterr()
    assert "wrn-10-1" in captured.out
    assert "The same class as the checkpoint on all 132 seeded inputs" in captured.out
    artifact = read_artifact(output)
    assert artifact.classes == ("a", "b", "c")
    assert artifact.normalization == Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert artifact.source["checkpoint"] == "own.safetensors"
    assert len(artifact.source["checkpoint_sha256"]) == 64


def test_a_bare_state_dict_has_no_normalisation_unless_it_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.onnx"
    arguments = ["export", str(folder / "bare.pt"), "-o", str(output), "--json"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["normalization"] is None
    assert result["parity"]["top1_agreement"] == 1
    assert result["parity"]["max_abs_diff"] < 1e-4
    assert result["sha256"] == read_artifact(output).sha256
    assert "The normalisation is not known" in captured.err
    assert read_artifact(output).normalization is None
    assert main([*arguments, "--normalize", "imagenet"]) == 0
    assert json.loads(capsys.readouterr().out)["normalization"]["mean"] == [0.485, 0.456, 0.406]


def test_what_weights_do_not_show_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(folder / "resnet.pt"), "-o", str(tmp_path / "f.onnx")]) == 0
    told = capsys.readouterr().err
    assert "The weights do not show everything: resnet-20 with shortcuts padded" in told
    assert "Give --data to find out, or state it with --teacher-arch (resnet-20,short" in told
    said = ["--teacher-arch", "resnet-20,shortcut=pad,stride_conv=2"]
    output = tmp_path / "said.onnx"
    assert main(["export", str(folder / "resnet.pt"), "-o", str(output), *said]) == 0
    assert "do not show" not in capsys.readouterr().err
    spec = read_artifact(output).spec
    assert spec is not None
    assert (spec.shortcut, spec.stride_conv) == ("pad", 2)


def test_with_data_the_proof_is_on_its_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network that has learned which half of an image is bright."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = rng.integers(0, 60, (120, 16, 16, 1), dtype=np.uint8)
    images[labels == 0, :8] += 180
    images[labels == 1, 8:] += 180
    np.savez(
        tmp_path / "data.npz",
        x_train=images[:100],
        y_train=labels[:100],
        x_test=images[100:],
        y_test=labels[100:],
    )
    network = train(torch.from_numpy(images), torch.from_numpy(labels))
    save_checkpoint(tmp_path / "t.safetensors", network, normalization=None)
    output = tmp_path / "f.onnx"
    arguments = ["export", str(tmp_path / "t.safetensors"), "-o", str(output)]
    data = ["--data", str(tmp_path / "data.npz"), "--validation", "50"]
    normalize = ["--normalize", "half-gray"]
    assert main([*arguments, *data, *normalize, "--images", "30"]) == 0
    captured = capsys.readouterr()
    assert "on all 30 validation images" in captured.out
    assert read_artifact(output).normalization == Normalization((0.5,), (0.5,))
    assert read_artifact(output).classes == ("0", "1")
    pixels = (images.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.5
    logits = predictor_of(output)(pixels.astype(np.float32))
    assert (logits.argmax(axis=1) == labels).mean() > 0.9
    # One that always gives the same class is no teacher, and is exported all the same.
    torch.nn.init.zeros_(network.linear.weight)
    save_checkpoint(tmp_path / "t.safetensors", network, normalization=None)
    assert main([*arguments, *data, *normalize, "--images", "30"]) == 0
    assert "50.00% on 50 validation images" in capsys.readouterr().err


def train(images: torch.Tensor, labels: torch.Tensor) -> Network:
    torch.manual_seed(0)
    network = build(ModelSpec.parse("wrn-10-1", num_classes=2, input_shape=(1, 16, 16)))
    x = (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    network.train()
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()
    network.eval()
    return network


@pytest.mark.parametrize(
    ("content", "extra", "message"),
    [
        (None, [], "no.pt"),
        (b"", [], "no.pt"),
        (b"not a checkpoint", [], "no.pt"),
        (None, ["--normalize", "imagnet"], "Did you mean 'imagenet'"),
        (None, ["--images", "0"], "--images"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    content: bytes | None,
    extra: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / "no.pt").write_bytes(content)
    output = tmp_path / "f.onnx"
    assert main(["export", str(tmp_path / "no.pt"), "-o", str(output), *extra]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not output.exists()


@pytest.mark.parametrize(
    "extra", [["--images", "30"], ["--validation", "50"], ["--data-dir", "d"]], ids=" ".join
)
def test_what_is_said_of_the_data_needs_data(
    extra: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.onnx"
    assert main(["export", str(folder / "own.safetensors"), "-o", str(output), *extra]) == 2
    assert f"Without --data there is nothing that {extra[0]}" in capsys.readouterr().err
    assert not output.exists()


def test_the_wrong_architecture_or_normalisation_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(folder / "own.safetensors"), "-o", str(tmp_path / "f.onnx")]
    assert main([*arguments, "--arch", "wrn-16-4"]) == 2
    assert "wrn-10-1" in capsys.readouterr().err
    assert main([*arguments, "--normalize", "mnist"]) == 2
    assert "1 channels" in capsys.readouterr().err
    assert not (tmp_path / "f.onnx").exists()
