from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.cli import main
from compress.commands.display import Display
from compress.files import try_lock
from compress.models.checkpoint import read_tensors


@pytest.fixture(scope="module")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = rng.integers(0, 100, (120, 8, 8), dtype=np.uint8)
    images[labels == 1, :, ::2] += 150
    images[labels == 2, ::2, :] += 150
    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:30], y_test=labels[:30])
    return path


def train(npz: Path, out: Path, *extra: str) -> int:
    command = ["train", "--arch", "wrn-10-0.5", "--data", str(npz), "--out", str(out)]
    settings = ["--epochs", "2", "--batch-size", "32", "--device", "cpu"]
    return main([*command, *settings, *extra])


def test_it_leaves_a_checkpoint_and_a_result(
    npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(npz, tmp_path / "run", "--json") == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result == json.loads((tmp_path / "run/result.json").read_text())
    assert 0 <= result["accuracy"]["test"] <= 1
    assert "epoch   2  loss" in captured.err
    saved = read_tensors(tmp_path / "run/model.safetensors")
    assert saved.spec is not None
    assert saved.spec.name == "wrn-10-0.5"
    assert saved.normalization is not None
    assert train(npz, tmp_path / "run") == 0
    assert "already finished" in capsys.readouterr().err


def test_it_can_start_from_a_checkpoint(npz: Path, tmp_path: Path) -> None:
    assert train(npz, tmp_path / "first") == 0
    start = tmp_path / "first/model.safetensors"
    # A rate of next to nothing leaves the weights where they started.
    assert train(npz, tmp_path / "second", "--init", str(start), "--lr", "1e-12") == 0
    first, second = (
        read_tensors(tmp_path / run / "model.safetensors").tensors for run in ("first", "second")
    )
    assert torch.allclose(first["linear.weight"], second["linear.weight"], atol=1e-6)


def test_another_network_is_no_start(
    npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(npz, tmp_path / "first") == 0
    start = str(tmp_path / "first/model.safetensors")
    command = ["train", "--arch", "wrn-16-0.5", "--data", str(npz), "--init", start]
    assert main([*command, "--out", str(tmp_path / "other"), "--device", "cpu"]) == 2
    assert "is a wrn-10-0.5 with 3 classes" in capsys.readouterr().err


def test_the_padding_of_crops_changes_what_is_learned(npz: Path, tmp_path: Path) -> None:
    assert train(npz, tmp_path / "wide") == 0
    assert train(npz, tmp_path / "none", "--crop-padding", "0") == 0
    wide, none = (
        read_tensors(tmp_path / run / "model.safetensors").tensors for run in ("wide", "none")
    )
    assert not torch.equal(wide["linear.weight"], none["linear.weight"])


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_saves_and_the_same_command_goes_on(
    npz: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
    word: str,
) -> None:
    assert train(npz, tmp_path / "whole") == 0
    capsys.readouterr()

    def send(self: Display, progress: object) -> None:
        signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(Display, "progress", send)
        assert train(npz, tmp_path / "run", "--resume") == code
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("Nothing is saved in ")
    assert said[-2:] == [
        "Stopped after step 2 of 4 of epoch 1 of 2; its state is saved.",
        f"{word}; run the same command again to go on",
    ]
    assert train(npz, tmp_path / "run", "--resume") == 0
    assert "Resuming after step 2 of 4" in capsys.readouterr().err
    whole, run = (
        read_tensors(tmp_path / name / "model.safetensors").tensors for name in ("whole", "run")
    )
    assert all(torch.equal(whole[name], run[name]) for name in whole)


def test_a_run_that_another_process_is_at_is_left_alone(
    npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with try_lock(tmp_path / "run"):
        assert train(npz, tmp_path / "run") == 2
    assert "Another process uses the run folder" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to(
    npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert train(npz, tmp_path / "file/run") == 2
    assert "Choose another folder" in capsys.readouterr().err
