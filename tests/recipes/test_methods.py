"""What a step of each recipe moves, and that each can learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.errors import UsageError
from compress.models.network import FEATURES, LOGITS, Network
from compress.models.registry import build, spec_of
from compress.recipes.recipe import Batch, Method, OptimizerFactory, Setting
from compress.recipes.registry import RECIPES, check_task, make_recipe
from compress.training.outputs import shapes_of

SPEC = spec_of("wrn-10-0.5", num_classes=4, input_shape=(1, 8, 8))
TEACHER_MAP = (24, 4, 4)


def sgd(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)


def a_batch(*, teacher: bool = True) -> Batch:
    rng = torch.Generator().manual_seed(3)
    labels = torch.arange(16) % 4
    images = torch.randn(16, 1, 8, 8, generator=rng)
    logits = 4.0 * nn.functional.one_hot(labels, 4) + torch.randn(16, 4, generator=rng)
    maps = torch.relu(torch.randn(16, *TEACHER_MAP, generator=rng))
    outputs = ({LOGITS: logits, FEATURES: maps},) if teacher else ()
    return Batch(images, labels, labels, outputs)


def with_logits(batch: Batch, *logits: Tensor) -> Batch:
    """The batch with a teacher for each of these logits."""
    return replace(batch, teachers=[{LOGITS: each} for each in logits])


def setting(
    student: Network | None = None, optimizer: OptimizerFactory = sgd, epochs: int = 60
) -> Setting:
    """Of a student of SPEC and a teacher whose feature map is TEACHER_MAP."""
    student = student or build(SPEC)
    return Setting(
        student=student,
        num_classes=4,
        input_shape=(1, 8, 8),
        optimizer=optimizer,
        loss=functional.cross_entropy,
        epochs=epochs,
        student_shapes=shapes_of(student, student.taps),
        teacher_shapes={FEATURES: TEACHER_MAP},
    )


def run(method: Method, batch: Batch) -> dict[str, Tensor]:
    """Every phase, a step an epoch; what the last step told."""
    for phase in method.phases:
        for _ in range(phase.epochs):
            scalars = method.step(batch, phase.name)
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
    spec = spec_of(student, num_classes=4, input_shape=(1, 8, 8))
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


def test_a_recipe_is_refused_for_a_task_that_its_equations_mean_nothing_for() -> None:
    for name in RECIPES:
        check_task(make_recipe(name), "classification")
    for name in ("supervised", "fitnet", "at"):
        check_task(make_recipe(name), "regression")
    with pytest.raises(UsageError) as caught:
        check_task(make_recipe("kd"), "regression")
    assert str(caught.value) == (
        "Recipe 'kd' serves classification, and the data are of regression. Take one that serves "
        "it: supervised, fitnet, at."
    )


def test_the_loss_on_labels_is_the_task_s() -> None:
    def square(answers: Tensor, targets: Tensor) -> Tensor:
        return (answers.sum(dim=1) - targets).square().mean()

    batch = a_batch()
    for name in ("supervised", "fitnet", "at"):
        torch.manual_seed(0)
        student = build(SPEC)
        expected = square(student(batch.images), batch.targets)
        options = {} if name == "supervised" else {"weight": 0.0}
        method = make_recipe(name, **options).start(replace(setting(student), loss=square))
        assert torch.allclose(method.step(batch, "train")["loss"], expected), name


def test_unknown_names_and_values_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no recipe 'logitgan'. Did you mean 'logit-gan'\?"):
        make_recipe("logitgan")
    with pytest.raises(UsageError, match="no option depth; its options are temperature, weight"):
        make_recipe("kd", depth=3)
    with pytest.raises(UsageError, match="temperature is 0"):
        make_recipe("kd", temperature=0.0)
