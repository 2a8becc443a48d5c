"""Data and networks that the tests of several commands start from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from compress.cli import main
from compress.models.checkpoint import save_checkpoint
from compress.models.network import Network
from compress.models.registry import build, spec_of


@pytest.fixture(scope="session")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and a network that has learned which half of an image is bright."""
    folder = tmp_path_factory.mktemp("bright")
    rng = np.random.default_rng(0)
    labels = np.arange(620) % 2
    images = rng.integers(0, 60, (620, 16, 16, 1), dtype=np.uint8)
    images[labels == 0, :8] += 180
    images[labels == 1, 8:] += 180
    np.savez(
        folder / "data.npz",
        x_train=images[:600],
        y_train=labels[:600],
        x_test=images[600:],
        y_test=labels[600:],
    )
    network = train(torch.from_numpy(images[:120]), torch.from_numpy(labels[:120]))
    save_checkpoint(folder / "t.safetensors", network, normalization=None)
    torch.nn.init.zeros_(network.linear.weight)
    save_checkpoint(folder / "constant.safetensors", network, normalization=None)
    options = ["--data", str(folder / "data.npz"), "--normalize", "half-gray"]
    arguments = ["export", str(folder / "t.safetensors"), "-o", str(folder / "t.onnx"), *options]
    assert main([*arguments, "--images", "30"]) == 0
    return folder


def train(images: torch.Tensor, labels: torch.Tensor) -> Network:
    torch.manual_seed(0)
    network = build(spec_of("wrn-10-1", num_classes=2, input_shape=(1, 16, 16)))
    x = (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    network.train()
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()
    network.eval()
    return network
