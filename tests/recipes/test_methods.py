"""What a step of each recipe moves, and that each can learn."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.models.registry import Network, build
from compress.recipes import logit_gan
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


def one_gradient(
    loss: Callable[[nn.Module, nn.Module], Tensor], student: nn.Module, D: nn.Module, of: nn.Module
) -> list[Tensor]:
    return list(torch.autograd.grad(loss(student, D), list(of.parameters())))


def test_the_discriminator_climbs_eq_6_and_then_the_student_descends_eq_8() -> None:
    """One step with plain SGD, against gradients taken apart from the recipe."""
    torch.manual_seed(0)
    student, batch, rate = build(SPEC), a_batch(), 0.01
    method = make_recipe("logit-gan", dropout=0.0).start(
        setting(student, lambda module: torch.optim.SGD(module.parameters(), lr=rate))
    )
    D = method.modules["discriminator"]
    student_then, D_then = copy.deepcopy(student), copy.deepcopy(D)
    (t,), labels = batch.teacher_logits, batch.labels

    method.step(batch, "train")

    ascent = one_gradient(
        lambda F, D: logit_gan.L_GAN(D(t), D(F(batch.images).detach()), labels),
        student_then,
        D_then,
        D_then,
    )
    for old, slope, new in zip(D_then.parameters(), ascent, D.parameters(), strict=True):
        assert torch.allclose(old + rate * slope, new, atol=1e-6)
    # Eq. 8 is taken at the discriminator as it is after its own update.
    D_now = copy.deepcopy(D)

    def eq_8(F: nn.Module, D: nn.Module) -> Tensor:
        logits = F(batch.images)
        return logit_gan.L_2(logits, t, labels, D(t), D(logits))

    descent = one_gradient(eq_8, student_then, D_now, student_then)
    for old, slope, new in zip(
        student_then.parameters(), descent, student.parameters(), strict=True
    ):
        assert torch.allclose(old - rate * slope, new, atol=1e-5)


def test_the_discriminator_has_the_paper_s_shape() -> None:
    D = logit_gan.Discriminator(num_classes=100)
    linears = [m for m in D.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == [(100, 100)] * 3 + [(100, 102)]
    assert isinstance(next(iter(D.children())), nn.BatchNorm1d)
    assert {m.p for m in D.modules() if isinstance(m, nn.Dropout)} == {0.3}
    assert D(torch.randn(5, 100)).shape == (5, 102)


def test_unknown_names_and_values_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no recipe 'logitgan'. Did you mean 'logit-gan'\?"):
        make_recipe("logitgan")
    with pytest.raises(UsageError, match="no option depth; its options are temperature, weight"):
        make_recipe("kd", depth=3)
    with pytest.raises(UsageError, match="temperature is 0"):
        make_recipe("kd", temperature=0.0)
    with pytest.raises(UsageError, match="l1 is 'max'"):
        make_recipe("logit-gan", l1="max")
    with pytest.raises(UsageError, match="depth is 0"):
        make_recipe("logit-gan", depth=0)
