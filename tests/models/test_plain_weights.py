"""Tensors of unusual kinds are converted without loss and told of, or refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from compress.errors import CheckpointError
from compress.models.checkpoint import read_tensors
from compress.models.hypothesis import instantiate
from compress.models.plain_weights import plain_weights
from tests.models.layouts import CifarResNet, randomise

NAME = "layer2.0.conv1.weight"


def weights() -> dict[str, Tensor]:
    return dict(randomise(CifarResNet(1)).state_dict())


def write(path: Path, content: dict[str, Any], kind: str) -> Path:
    if kind == "safetensors":
        save_file(content, path)
    else:
        torch.save({"net": content}, path, _use_new_zipfile_serialization=kind == "zip")
    return path


@pytest.mark.parametrize("kind", ["zip", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_float8_is_read_as_float32(tmp_path: Path, dtype: torch.dtype, kind: str) -> None:
    content = weights()
    content[NAME] = content[NAME].to(dtype)
    found = read_tensors(write(tmp_path / "a", content, kind))
    assert torch.equal(found.tensors[NAME], content[NAME].to(torch.float32))
    name = str(dtype).removeprefix("torch.")
    assert found.notes == (f"1 tensor(s) of {name} were read as float32, which changes no value.",)
    assert found.hypotheses()[0].spec.name == "resnet-8x0.25"


def sparse(size: tuple[int, int], index: int = 0) -> Tensor:
    """One 1, at a place that may be outside."""
    indices = torch.tensor([[index], [0]])
    return torch.sparse_coo_tensor(indices, [1.0], size, check_invariants=False)


def test_sparse_tensors_with_places_outside_are_damaged(tmp_path: Path) -> None:
    content = weights() | {"linear.weight": sparse((10, 16), index=1 << 40)}
    with pytest.raises(CheckpointError, match=r"damaged or cut short.*found index"):
        read_tensors(write(tmp_path / "a", content, "zip"))

    found = plain_weights({("w",): sparse((10, 16), index=10), ("v",): sparse((10, 16), index=9)})
    assert found.unusable == {("w",): "is sparse and damaged: it has values outside of its shape"}
    assert float(found.tensors["v",][9, 0]) == 1.0


def test_sparse_tensors_that_are_larger_than_the_file(tmp_path: Path) -> None:
    places = torch.zeros(2, 1, dtype=torch.long).expand(2, 10**13)
    values = torch.ones(1).expand(10**13)
    huge = torch.sparse_coo_tensor(places, values, (10, 16), check_invariants=False)
    path = write(tmp_path / "a", weights() | {"linear.weight": huge}, "zip")
    assert path.stat().st_size < 100_000
    with pytest.raises(
        CheckpointError, match="a sparse tensor claims 20,000,000,000,000 places or values"
    ):
        read_tensors(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about CSR being in beta
        rows = torch.ones(3, 4).to_sparse_csr()
    path = write(tmp_path / "b", weights() | {"linear.weight": rows}, "zip")
    with pytest.raises(CheckpointError, match=r"is sparse \(sparse_csr\)\. Save it after"):
        read_tensors(path)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_small_sparse_tensors_are_made_dense(tmp_path: Path, kind: str) -> None:
    content = weights()
    content["linear.weight"] = content["linear.weight"].to_sparse()
    content["linear.bias"] = content["linear.bias"].to_sparse()
    found = read_tensors(write(tmp_path / "a", content, kind))
    assert torch.equal(found.tensors["linear.weight"], weights()["linear.weight"])
    assert found.notes == ("2 sparse tensor(s) were made dense.",)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.to("meta"), "is on the meta device: the file has its shape but no"),
        (lambda w: w.to(torch.complex64), r"is complex \(complex64\)"),
        (lambda w: w[:0], r"has no values \(its shape is 0x4x3x3\)"),
        (
            lambda w: sparse((1 << 20, 1 << 20)),
            "is sparse and would be 4,398,046,511,104 bytes when dense",
        ),
    ],
)
def test_what_is_no_weight_is_named(
    tmp_path: Path, change: Callable[[Tensor], Tensor], message: str, kind: str
) -> None:
    content = weights()
    content[NAME] = change(content[NAME])
    with pytest.raises(CheckpointError, match=rf"'net\.layer2\.0\.conv1\.weight' .* {message}"):
        read_tensors(write(tmp_path / "a", content, kind))
    # Beside the network it does no harm.
    path = tmp_path / "b"
    torch.save({"net": weights(), "optimizer": {"state": {0: {"buffer": content[NAME]}}}}, path)
    assert read_tensors(path).hypotheses()[0].spec.name == "resnet-8x0.25"


def test_a_file_of_nothing_but_such_tensors(tmp_path: Path) -> None:
    network = CifarResNet(1).to("meta")
    torch.save(network.state_dict(), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"conv1\.weight' .* meta device"):
        read_tensors(tmp_path / "a.pt")
    save_file({"w": torch.zeros(0, 3)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"'w' .* has no values \(its shape is 0x3\)"):
        read_tensors(tmp_path / "a.safetensors")


def test_quantised_tensors_are_refused(tmp_path: Path) -> None:
    content = weights()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content[NAME] = torch.quantize_per_tensor(content[NAME], 0.1, 0, torch.qint8)
        torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="quantised tensors; give the float checkpoint"):
        read_tensors(tmp_path / "a.pt")


# ---------------------------------------------------------------------------------------------
# Masks and norms


def logits_of_file(path: Path, images: Tensor) -> Tensor:
    (hypothesis,) = read_tensors(path).hypotheses(arch="resnet-8x0.25,shortcut=conv,stride_conv=1")
    with torch.inference_mode():
        found: Tensor = instantiate(hypothesis)(images)
    return found


def plain_network() -> CifarResNet:
    found = randomise(CifarResNet(1, shortcut="conv"))
    assert isinstance(found, CifarResNet)
    return found


def convolutions(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def pruned(network: nn.Module) -> None:
    for module in convolutions(network):
        prune.l1_unstructured(module, "weight", amount=0.3)


def weight_normed(network: nn.Module) -> None:
    for module in convolutions(network):
        parametrizations.weight_norm(module)


def weight_normed_before(network: nn.Module) -> None:
    for module in convolutions(network):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nn.utils.weight_norm(module)


def spectral_normed(network: nn.Module) -> None:
    for module in convolutions(network):
        parametrizations.spectral_norm(module)


def spectral_normed_before(network: nn.Module) -> None:
    for module in convolutions(network):
        nn.utils.spectral_norm(module)


@pytest.mark.parametrize("kind", ["zip", "safetensors"])
@pytest.mark.parametrize(
    ("change", "note"),
    [
        (pruned, r"are stored with a mask \(weight_orig and weight_mask\)"),
        (weight_normed, r"as length and direction \(weight normalisation\)"),
        (weight_normed_before, r"as length and direction \(weight normalisation\)"),
        (spectral_normed, "before their spectral normalisation"),
        (spectral_normed_before, "before their spectral normalisation"),
    ],
)
def test_weights_that_are_stored_as_parts(
    tmp_path: Path, change: Callable[[nn.Module], None], note: str, kind: str
) -> None:
    network = plain_network()
    change(network)
    network.eval()
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
    content = {name: value.clone() for name, value in network.state_dict().items()}
    path = write(tmp_path / "a", content, kind)
    found = read_tensors(path)
    assert len(found.notes) == 1
    assert note in found.notes[0].replace("(", r"\(").replace(")", r"\)")
    torch.testing.assert_close(logits_of_file(path, images), expected, rtol=1e-5, atol=1e-5)


def test_a_mask_is_applied_exactly(tmp_path: Path) -> None:
    network = plain_network()
    pruned(network)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    for module in convolutions(network):
        prune.remove(module, "weight")
    found = read_tensors(tmp_path / "a.pt").tensors
    assert set(found) == set(network.state_dict())
    assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())


def test_another_parametrisation_is_named(tmp_path: Path) -> None:
    content = weights()
    content["layer2.0.conv1.parametrizations.weight.original"] = content.pop(NAME)
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="remove_parametrizations"):
        read_tensors(tmp_path / "a.pt")
