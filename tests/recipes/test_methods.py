"""What a step of each recipe moves, and that each can learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.models.network import Network
from compress.models.registry import build
from compress.recipes.recipe import Batch, Method, OptimizerFactory, Setting
from compress.recipes.registry import RECIPES, make_recipe
from compress.spec import ModelSpec
from compress.training.outputs import feature_shape

SPEC = ModelSpec("wrn", 10, 0.5, num_classes=4, input_shape=(1, 8, 8))
TEACHER_MAP = (24, 4, 4)


def sgd(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)


def a_batch(*, teacher: bool = True) -> Batch:
    rng = torch.Generator().manual_seed(3)
    labels = torch.arange(16) % 4
    images = torch.randn(16, 1, 8, 8, generator=rng)
    logits = 4.0 * nn.functional.one_hot(labels, 4) + torch.randn(16, 4, generator=rng)
    maps = torch.relu(torch.randn(16, *TEACHER_MAP, generator=rng))
    return Batch(images, labels, (logits,), maps) if teacher else Batch(images, labels)


def setting(
    student: Network | None = None, optimizer: OptimizerFactory = sgd, epochs: int = 60
) -> Setting:
    """Of a student of SPEC and a teacher whose feature map is TEACHER_MAP."""
    student = student or build(SPEC)
    shape = feature_shape(student)
    return Setting(student, 4, (1, 8, 8), optimizer, epochs, shape, TEACHER_MAP)


def given(method: Method, batch: Batch, phase: str) -> Batch:
    """The batch as the engine gives it to a phase."""
    through = next(each.maps_through for each in method.phases if each.name == phase)
    if through is None or batch.teacher_features is None:
        return batch
    with torch.no_grad():
        return replace(batch, teacher_features=through(batch.teacher_features))


def run(method: Method, batch: Batch) -> dict[str, Tensor]:
    """Every phase, a step an epoch; what the last step told."""
    for phase in method.phases:
        for _ in range(phase.epochs):
            scalars = method.step(given(method, batch, phase.name), phase.name)
    return scalars


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def moved(before: list[Tensor], module: nn.Module) -> bool:
    return any(
        not torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_each_recipe_learns_one_batch(name: str) -> None:
    torch.manual_seed(0)
    method = make_recipe(name).start(setting())
    student = method.modules["student"]
    scalars = run(method, a_batch())
    assert all(not value.requires_grad and value.ndim == 0 for value in scalars.values())
    assert (student(a_batch().images).argmax(dim=1) == a_batch().labels).all()


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("student", ["wrn-10-1", "resnet-8", "resnet-8-b"])
def test_each_recipe_takes_each_family(name: str, student: str) -> None:
    spec = ModelSpec.parse(student, num_classes=4, input_shape=(1, 8, 8))
    method = make_recipe(name).start(setting(build(spec), epochs=8))
    before = {part: weights(module) for part, module in method.modules.items()}
    assert torch.isfinite(run(method, a_batch())["loss"])
    for part, module in method.modules.items():
        assert moved(before[part], module), part


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"supervised"}))
def test_a_missing_teacher_is_an_error(name: str) -> None:
    method = make_recipe(name).start(setting())
    with pytest.raises(ValueError, match="needs the teacher's"):
        run(method, a_batch(teacher=False))


def test_unknown_names_and_values_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no recipe 'logitgan'. Did you mean 'logit-gan'\?"):
        make_recipe("logitgan")
    with pytest.raises(UsageError, match="no option depth; its options are temperature, weight"):
        make_recipe("kd", depth=3)
    with pytest.raises(UsageError, match="temperature is 0"):
        make_recipe("kd", temperature=0.0)
