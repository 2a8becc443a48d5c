from __future__ import annotations

import pytest
import torch
from torch import Tensor

from compress.errors import UsageError
from compress.models.network import FEATURES, LOGITS, Network
from compress.models.registry import build, spec_of
from compress.spec import Normalization
from compress.tasks.registry import unstated
from compress.teachers.network import NetworkTeacher
from compress.training.evaluation import answers_to, predictor
from compress.training.outputs import (
    ComputedOutputs,
    OutputsByTeacher,
    shapes_of,
)

GRAY = Normalization((0.5,), (0.25,))
OTHER = Normalization((0.1,), (0.5,))
INDEX = torch.tensor([3, 0, 40])


def network(name: str = "wrn-10-0.5", seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build(spec_of(name, num_classes=3, input_shape=(1, 8, 8))).eval()


@pytest.fixture
def images() -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (50, 1, 8, 8), generator=rng, dtype=torch.uint8)


def outputs(pixels: Tensor, *teachers: NetworkTeacher, dropout: float = 0.0) -> OutputsByTeacher:
    source = ComputedOutputs(
        teachers or [NetworkTeacher(network(), GRAY)],
        wanted=frozenset({LOGITS, FEATURES}),
        dropout=dropout,
    )
    return source(INDEX, 1, pixels)


def test_outputs_are_of_the_crop(images: Tensor) -> None:
    shifted = images[INDEX].roll(2, dims=3)
    (found,) = outputs(shifted)
    inputs = (shifted / 255 - 0.5) / 0.25
    assert torch.allclose(found[FEATURES], network().features(inputs), atol=1e-5)
    assert torch.allclose(found[LOGITS], network()(inputs), atol=1e-5)
    assert not found[FEATURES].requires_grad
    assert not found[LOGITS].requires_grad
    assert found[FEATURES].shape[1:] == (32, 2, 2)
    assert shapes_of(network(), (FEATURES, LOGITS)) == {FEATURES: (32, 2, 2), LOGITS: (3,)}


def test_each_teacher_sees_its_own_normalisation(images: Tensor) -> None:
    two = (NetworkTeacher(network(), GRAY), NetworkTeacher(network("resnet-8", seed=1), OTHER))
    found = outputs(images[INDEX], *two)
    assert [set(each) for each in found] == [{FEATURES, LOGITS}, {LOGITS}]
    for mine, teacher in zip(found, two, strict=True):
        predict = predictor(teacher.network, unstated())
        expected = answers_to(predict, images[INDEX], teacher.normalization)[LOGITS]
        assert torch.allclose(mine[LOGITS], expected, atol=1e-5)


def test_dropout_is_on_for_logits_alone_and_off_again(images: Tensor) -> None:
    teacher = NetworkTeacher(network(), GRAY)
    pixels = images[INDEX]
    dropped = [outputs(pixels, teacher, dropout=0.3)[0] for _ in range(2)]
    assert not torch.allclose(dropped[0][LOGITS], dropped[1][LOGITS])
    assert torch.equal(dropped[0][FEATURES], dropped[1][FEATURES])
    modules = list(teacher.network.modules())
    assert not any(module.training for module in modules)
    assert {m.p for m in modules if isinstance(m, torch.nn.Dropout)} == {0.0}
    assert not torch.allclose(outputs(pixels, teacher)[0][LOGITS], dropped[0][LOGITS])


def test_a_teacher_without_dropout_has_none_to_turn_on(images: Tensor) -> None:
    with pytest.raises(UsageError, match=r"resnet-8 has no dropout\. Leave --teacher-dropout out"):
        outputs(images[INDEX], NetworkTeacher(network("resnet-8"), GRAY), dropout=0.3)


def test_what_is_not_wanted_is_not_computed(images: Tensor) -> None:
    for name, size_bytes in ((LOGITS, 6), (FEATURES, 256), ("stage1", 1024)):
        source = ComputedOutputs([NetworkTeacher(network(), GRAY)], wanted=frozenset({name}))
        (found,) = source(INDEX, 1, images[INDEX])
        assert set(found) == set(source.shapes) == {name}
        assert source.bytes_an_image == size_bytes
