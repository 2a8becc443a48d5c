from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from compress.errors import UsageError
from compress.models.registry import Network, build
from compress.recipes.recipe import FEATURES, LOGITS
from compress.spec import ModelSpec, Normalization
from compress.training.evaluation import logits_of, predictor
from compress.training.outputs import (
    ComputedOutputs,
    KeptOutputs,
    Outputs,
    Teaching,
    feature_shape,
)

GRAY = Normalization((0.5,), (0.25,))
OTHER = Normalization((0.1,), (0.5,))
INDEX = torch.tensor([3, 0, 40])


def network(name: str = "wrn-10-0.5", seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build(ModelSpec.parse(name, num_classes=3, input_shape=(1, 8, 8))).eval()


@pytest.fixture
def images() -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (50, 1, 8, 8), generator=rng, dtype=torch.uint8)


def outputs(images: Tensor, pixels: Tensor, logits: str, *teachers: Teaching) -> Outputs:
    source = ComputedOutputs(
        teachers or [Teaching(network(), GRAY)],
        wanted=frozenset({LOGITS, FEATURES}),
        logits=logits,
        images=images,
    )
    return source(INDEX, 1, pixels)


def test_stored_logits_are_of_the_image_and_exact_ones_of_the_crop(images: Tensor) -> None:
    expected = logits_of(predictor(network()), images, GRAY)[INDEX]
    shifted = images[INDEX].roll(2, dims=3)
    for logits, pixels, equal in (
        ("stored", shifted, True),
        ("exact", images[INDEX], True),
        ("exact", shifted, False),
    ):
        (found,) = outputs(images, pixels, logits).logits
        assert torch.allclose(found, expected, atol=1e-5) == equal
        assert not found.requires_grad


def test_feature_maps_are_of_the_crop(images: Tensor) -> None:
    shifted = images[INDEX].roll(2, dims=3)
    features = outputs(images, shifted, "stored").features
    assert features is not None
    expected = network().features((shifted / 255 - 0.5) / 0.25)
    assert torch.allclose(features, expected, atol=1e-5)
    assert not features.requires_grad
    assert features.shape[1:] == feature_shape(network()) == (32, 2, 2)


@pytest.mark.parametrize("logits", ["stored", "exact"])
def test_each_teacher_sees_its_own_normalisation(images: Tensor, logits: str) -> None:
    two = (Teaching(network(), GRAY), Teaching(network("resnet-8", seed=1), OTHER))
    found = outputs(images, images[INDEX], logits, *two)
    assert len(found.logits) == 2
    for mine, teacher in zip(found.logits, two, strict=True):
        expected = logits_of(predictor(teacher.network), images[INDEX], teacher.normalization)
        assert torch.allclose(mine, expected, atol=1e-5)


def test_dropout_is_on_for_logits_alone_and_off_again(images: Tensor) -> None:
    teacher = network()
    pixels = images[INDEX]
    dropped = [outputs(images, pixels, "dropout", Teaching(teacher, GRAY)) for _ in range(2)]
    assert not torch.allclose(dropped[0].logits[0], dropped[1].logits[0])
    assert dropped[0].features is not None
    assert dropped[1].features is not None
    assert torch.equal(dropped[0].features, dropped[1].features)
    assert not any(module.training for module in teacher.modules())
    assert {m.p for m in teacher.modules() if isinstance(m, torch.nn.Dropout)} == {0.0}
    exact = outputs(images, pixels, "exact").logits[0]
    assert not torch.allclose(dropped[0].logits[0], exact)


def test_a_teacher_without_dropout_has_none_to_turn_on(images: Tensor) -> None:
    with pytest.raises(UsageError, match=r"resnet-8 has no dropout .* --teacher-logits exact"):
        outputs(images, images[INDEX], "dropout", Teaching(network("resnet-8"), GRAY))


def test_what_is_not_wanted_is_not_computed(images: Tensor) -> None:
    for wanted, has_logits in ((frozenset({LOGITS}), True), (frozenset({FEATURES}), False)):
        source = ComputedOutputs(
            [Teaching(network(), GRAY)], wanted=wanted, logits="exact", images=images
        )
        found = source(INDEX, 1, images[INDEX])
        assert bool(found.logits) == has_logits
        assert (found.features is None) == has_logits


class Shifting:
    """An augmenter; view v is shifted by v pixels."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __call__(self, index: Tensor, view: int) -> Tensor:
        return self.images[index].roll(view, dims=3)


def kept(images: Tensor, folder: Path, teacher: Network, logits: str = "exact") -> KeptOutputs:
    wanted = frozenset({LOGITS, FEATURES})
    teaching = [Teaching(teacher, GRAY), Teaching(network("resnet-8", 1), OTHER)]
    source = ComputedOutputs(teaching, wanted=wanted, logits=logits, images=images)
    return KeptOutputs(source, Shifting(images), len(images), folder)


@pytest.mark.parametrize("logits", ["exact", "stored"])
def test_kept_outputs_are_those_of_the_crops(images: Tensor, tmp_path: Path, logits: str) -> None:
    source = kept(images, tmp_path, network(), logits)
    computed = ComputedOutputs(
        [Teaching(network(), GRAY), Teaching(network("resnet-8", 1), OTHER)],
        wanted=frozenset({LOGITS, FEATURES}),
        logits=logits,
        images=images,
    )
    for view in (1, 2, 1):
        pixels = Shifting(images)(INDEX, view)
        found, expected = source(INDEX, view, pixels), computed(INDEX, view, pixels)
        assert len(found.logits) == 2
        for mine, other in zip(found.logits, expected.logits, strict=True):
            assert torch.allclose(mine, other, atol=1e-5)
        assert found.features is not None
        assert expected.features is not None
        assert torch.allclose(found.features, expected.features, rtol=1e-3, atol=1e-4)
        assert found.features.dtype == torch.float32
    assert len(list(tmp_path.iterdir())) == 2


def test_kept_outputs_are_shared_and_never_stale(images: Tensor, tmp_path: Path) -> None:
    pixels = Shifting(images)(INDEX, 1)
    first = kept(images, tmp_path, network())(INDEX, 1, pixels)
    held = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = kept(images, tmp_path, network())(INDEX, 1, pixels)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == held
    assert first.features is not None
    assert again.features is not None
    assert torch.equal(first.features, again.features)
    # Another teacher, or other images, find nothing of it.
    other = kept(images, tmp_path, network(seed=3))(INDEX, 1, pixels)
    assert other.features is not None
    assert not torch.allclose(first.features, other.features)
    brighter = (images // 2 + 100).to(torch.uint8)
    kept(brighter, tmp_path, network())(INDEX, 1, pixels)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_view_that_was_interrupted_is_computed_again(images: Tensor, tmp_path: Path) -> None:
    pixels = Shifting(images)(INDEX, 1)
    first = kept(images, tmp_path, network())(INDEX, 1, pixels)
    (folder,) = tmp_path.iterdir()
    (folder / "whole").unlink()
    (folder / "features.npy").write_bytes(b"half")
    again = kept(images, tmp_path, network())(INDEX, 1, pixels)
    assert first.features is not None
    assert again.features is not None
    assert torch.equal(first.features, again.features)


def test_large_maps_are_kept_as_float32(images: Tensor, tmp_path: Path) -> None:
    teacher = network()
    with torch.no_grad():
        teacher.get_parameter("bn.weight").mul_(1e6)
    found = kept(images, tmp_path, teacher)(INDEX, 1, Shifting(images)(INDEX, 1)).features
    assert found is not None
    assert found.max() > 65504
    assert torch.isfinite(found).all()


def test_outputs_with_dropout_cannot_be_kept(images: Tensor, tmp_path: Path) -> None:
    source = ComputedOutputs(
        [Teaching(network(), GRAY)], wanted=frozenset({LOGITS}), logits="dropout", images=images
    )
    with pytest.raises(ValueError, match="cannot be kept"):
        KeptOutputs(source, Shifting(images), len(images), tmp_path)
