from __future__ import annotations

import pytest
import torch
from torch import Tensor

from compress.errors import UsageError
from compress.models.registry import Network, build
from compress.recipes.recipe import FEATURES, LOGITS
from compress.spec import ModelSpec, Normalization
from compress.training.evaluation import logits_of, predictor
from compress.training.outputs import ComputedOutputs, Outputs, Teaching, feature_shape

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
