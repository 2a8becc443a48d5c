"""KTAN: its losses against figures, the Teacher-to-Student layer, and what each step moves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.errors import UsageError
from compress.models.network import FEATURES, LOGITS
from compress.models.registry import build, spec_of
from compress.recipes import ktan
from compress.recipes.recipe import Batch, Method, Phase
from compress.recipes.registry import make_recipe
from compress.recipes.teacher_to_student import TeacherToStudent, Window, window
from compress.training.outputs import shapes_of
from compress.training.passes import Passes
from tests.recipes.test_methods import SPEC, TEACHER_MAP, a_batch, moved, setting, weights

RATE = 0.01
FAMILY = ["dln", "ktan", "ktan+kd"]


def close(value: Tensor, expected: float) -> bool:
    return float(value) == pytest.approx(expected, abs=2e-6)


# The losses


def test_eq_2_is_the_mean_square() -> None:
    # Two images, one channel, 2x2. Squares 1, 0, 4, 4 and 0, 0, 0, 1: 9 and 1 by four values.
    R = torch.tensor([[[[1.0, 2.0], [3.0, -1.0]]], [[[0.0, 0.0], [1.0, 0.0]]]])
    m_s = torch.tensor([[[[0.0, 2.0], [1.0, 1.0]]], [[[0.0, 0.0], [1.0, 1.0]]]])
    assert close(ktan.L_MSE(R, m_s), (9 / 4 + 1 / 4) / 2)
    # The same by channel and by side: 3 channels, 1x2.
    assert close(ktan.L_MSE(torch.full((1, 3, 1, 2), 3.0), torch.ones(1, 3, 1, 2)), 4.0)


def test_l_d_is_the_binary_cross_entropy() -> None:
    # log(1 + exp(-D)) of 0, 2 and -1: 0.693147181, 0.126928011, 1.313261688.
    D = torch.tensor([0.0, 2.0, -1.0])
    assert close(ktan.L_D(ktan.REAL, D), 0.711112293)
    # log(1 + exp(D)): 0.693147181, 2.126928011, 0.313261688.
    assert close(ktan.L_D(ktan.FAKE, D), 1.044445626)
    # log(1 - 1 / (1 + exp(-D))) is the opposite.
    assert close(ktan.L_minimax(D), -1.044445626)


def test_the_discriminator_s_loss_is_of_both_maps() -> None:
    # Real: log(1 + exp(-D)) of 1 and -0.5; fake: log(1 + exp(D)) of 0.5 and -2.
    D_R, D_s = torch.tensor([1.0, -0.5]), torch.tensor([0.5, -2.0])
    assert close(ktan.L_D_both(D_R, D_s), 0.597085917)
    assert close(ktan.L_D_both(torch.zeros(4), torch.zeros(4)), 0.693147181)


# The Teacher-to-Student layer


@pytest.mark.parametrize(
    ("M_t", "M_s", "expected"),
    [
        (8, 8, (1, 1, 0)),
        (1, 1, (1, 1, 0)),
        (8, 4, (2, 2, 0)),
        (28, 7, (4, 4, 0)),
        (7, 4, (3, 2, 1)),
        (8, 5, (2, 2, 1)),
        (7, 3, (3, 2, 0)),
        (8, 7, (2, 1, 0)),
        (7, 8, (2, 1, 1)),
        (8, 1, (8, 1, 0)),
    ],
)
def test_the_smallest_kernel_is_taken(M_t: int, M_s: int, expected: tuple[int, int, int]) -> None:
    assert window(M_t, M_s) == Window(*expected)


def test_the_formula_holds_and_every_pixel_is_read() -> None:
    for M_t, M_s in product(range(1, 20), range(1, 20)):
        found = window(M_t, M_s)
        assert (found is None) == (M_s > M_t + 1), (M_t, M_s)
        if found is None:
            continue
        K, S, P = found.kernel, found.stride, found.padding
        assert (M_t + 2 * P - K) / S + 1 == M_s
        pixels = torch.ones(1, 1, M_t, requires_grad=True)
        out = functional.conv1d(pixels, torch.ones(1, 1, K), stride=S, padding=P)
        assert out.shape[2] == M_s
        assert (out > 0).all()
        (read,) = torch.autograd.grad(out.sum(), pixels)
        assert (read > 0).all()
        # No smaller kernel does it.
        for k, s, p in product(range(1, K), range(1, M_t + 1), range(M_t)):
            if s <= k and 2 * p <= k:
                assert (M_t + 2 * p - k) != s * (M_s - 1)


@pytest.mark.parametrize("rectify", [True, False])
def test_height_and_width_go_apart(rectify: bool) -> None:
    torch.manual_seed(0)
    R = TeacherToStudent((6, 8, 9), (10, 4, 9), rectify=rectify)
    m_t = torch.randn(3, 6, 8, 9)
    maps = R(m_t)
    assert maps.shape == (3, 10, 4, 9)
    (conv,) = [module for module in R.modules() if isinstance(module, nn.Conv2d)]
    assert (conv.kernel_size, conv.stride, conv.padding) == ((2, 1), (2, 1), (0, 0))
    assert torch.equal(maps, torch.relu(conv(m_t)) if rectify else conv(m_t))
    assert bool(maps.min() >= 0) == rectify


def test_a_teacher_s_map_that_is_too_small_is_told() -> None:
    with pytest.raises(UsageError) as caught:
        make_recipe("ktan").start(replace(setting(), student_shapes={FEATURES: (32, 2, 8)}))
    for told in ("(M_t + 2P - K)/S + 1 = M_s", "4x4, the student's 2x8", "kd, fitnet or at"):
        assert told in str(caught.value)


# The phases


@pytest.mark.parametrize(
    ("epochs", "pretrain", "dln", "expected"),
    [
        (200, 0.5, 0.5, {"pretrain": 100, "dln": 50, "adversarial": 50}),
        (3, 0.5, 0.5, {"pretrain": 1, "dln": 1, "adversarial": 1}),
        (3, 0.9, 0.9, {"pretrain": 1, "dln": 1, "adversarial": 1}),
        (10, 0.01, 0.99, {"pretrain": 1, "dln": 8, "adversarial": 1}),
        (10, 0.3, 0.25, {"pretrain": 3, "dln": 2, "adversarial": 5}),
        (7, 0.0, 0.5, {"dln": 4, "adversarial": 3}),
        (7, 0.5, 0.0, {"pretrain": 4, "adversarial": 3}),
        (1, 0.0, 0.0, {"adversarial": 1}),
        (2, 0.5, 1.0, {"pretrain": 1, "dln": 1}),
        (1, 0.0, 1.0, {"dln": 1}),
    ],
)
def test_the_phases_share_the_epochs(
    epochs: int, pretrain: float, dln: float, expected: dict[str, int]
) -> None:
    assert ktan.share_epochs(epochs, pretrain, dln) == expected


def test_all_epochs_are_shared_whatever_the_rounding() -> None:
    shares = (0.0, 0.01, 0.3, 0.5, 0.77, 0.99)
    for epochs, pretrain, dln in product(range(3, 40), shares, (*shares, 1.0)):
        found = ktan.share_epochs(epochs, pretrain, dln)
        assert sum(found.values()) == epochs
        assert min(found.values()) >= 1


def test_too_few_epochs_are_told() -> None:
    with pytest.raises(UsageError, match=r"3 phases here \(pretrain, dln, adversarial\).*are 2"):
        make_recipe("ktan").start(setting(epochs=2))
    with pytest.raises(UsageError, match=r"2 phases here \(pretrain, dln\).*--epochs 2 or more"):
        make_recipe("dln").start(setting(epochs=1))
    make_recipe("ktan").start(replace(setting(epochs=2), student_trained=True))
    make_recipe("ktan", pretrain=0.0, dln=0.0).start(setting(epochs=1))


def test_the_phases_of_alg_1_and_2() -> None:
    pretrain = Phase("pretrain", 30, {}, uses_teacher=False)
    regressor = Phase("regressor", 1, {"regressor": 0.01}, trains_student=False)

    def phases(name: str, **changes: Any) -> list[Phase]:
        return list(make_recipe(name).start(replace(setting(), **changes)).phases)

    assert phases("dln") == [pretrain, regressor, Phase("dln", 30)]
    rates = {"student": 0.01, "classifier": 0.01, "discriminator": 0.001}
    last = Phase("adversarial", 15, rates)
    for name in ("ktan", "ktan+kd"):
        assert phases(name) == [pretrain, regressor, Phase("dln", 15), last]
    trained = phases("ktan", student_trained=True)
    assert trained == [regressor, Phase("dln", 30), replace(last, epochs=30)]


@pytest.mark.parametrize("name", ["ktan", "ktan+kd"])
def test_learning_rates_are_those_of_the_options(name: str) -> None:
    rates = {"lr_regressor": 0.3, "lr_dln": 0.2, "lr_adversarial": 0.02, "lr_d": 0.004}
    method = make_recipe(name, **rates, teacher_epochs=2).start(setting())
    assert [phase.lr for phase in method.phases] == [
        {},
        {"regressor": 0.3},
        {"student": 0.2},
        {"student": 0.02, "classifier": 0.02, "discriminator": 0.004},
    ]
    assert method.phases[1].epochs == 2
    for phase in method.phases:
        assert set(phase.lr) <= set(method.optimizers)


# What each step moves

Copies = dict[str, Any]


def plain(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=RATE)


def started(name: str, **options: Any) -> Method:
    torch.manual_seed(0)
    return make_recipe(name, **options).start(setting(build(SPEC), plain))


def parameters(modules: Copies) -> dict[str, list[nn.Parameter]]:
    """Of S, C and the others; the networks' classifier is their layer ``linear``."""
    found = {name: list(m.parameters()) for name, m in modules.items() if name != "student"}
    named = list(modules["student"].named_parameters())
    found["S"] = [p for key, p in named if not key.startswith("linear.")]
    found["C"] = [p for key, p in named if key.startswith("linear.")]
    return found


def step_moves(
    method: Method, phase: str, losses: Callable[[Copies, Copies], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """One step, which has to move what ``losses`` names against its own loss, and nothing else.

    ``losses`` gets the modules as they were and as they are.
    """
    batch = a_batch()
    seen = [batch.images, batch.labels, *batch.of_teachers(LOGITS), target(batch)]
    kept = [each.clone() for each in seen]
    then = {name: copy.deepcopy(module) for name, module in method.modules.items()}
    told = method.step(batch, phase)
    now = dict(method.modules)
    # The reference's passes move running statistics, so they are of copies.
    reference = copied(then)
    wanted = losses(reference, copied(now))
    for name, new in parameters(now).items():
        old, same = parameters(then)[name], parameters(reference)[name]
        if name not in wanted:
            assert all(torch.equal(a, b) for a, b in zip(old, new, strict=True)), name
            continue
        gradients = torch.autograd.grad(wanted[name], same, retain_graph=True)
        assert any(gradient.abs().max() > 1e-4 for gradient in gradients), name
        for before, gradient, after in zip(old, gradients, new, strict=True):
            assert torch.allclose(before - RATE * gradient, after, rtol=1e-4, atol=1e-6), name
    assert all(torch.equal(a, b) for a, b in zip(seen, kept, strict=True))
    more = 0 if phase == "regressor" else 1
    assert passes(now["student"]) == {count + more for count in passes(then["student"])}
    return told


def passes(network: nn.Module) -> set[int]:
    """How often its batch norms have taken in a batch."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    counts = [norm.num_batches_tracked for norm in norms]
    return {int(count) for count in counts if count is not None}


def copied(modules: Copies) -> Copies:
    return {name: copy.deepcopy(module) for name, module in modules.items()}


def target(batch: Batch) -> Tensor:
    return batch.of_teacher(FEATURES)


def ce(student: Any) -> Tensor:
    batch = a_batch()
    return functional.cross_entropy(student(batch.images), batch.labels)


def soft(student: Any, T: float, weight: float) -> Tensor:
    """(1 - weight) H + weight T^2 KL, by torch's own functions."""
    batch = a_batch()
    F, (t,) = student(batch.images), batch.of_teachers(LOGITS)
    log_F, log_t = functional.log_softmax(F / T, 1), functional.log_softmax(t / T, 1)
    kl = functional.kl_div(log_F, log_t, reduction="batchmean", log_target=True)
    return (1 - weight) * functional.cross_entropy(F, batch.labels) + weight * T**2 * kl


def maps(modules: Copies) -> tuple[Tensor, Tensor]:
    """R(m_t), as a convolution and a ReLU, and m_s."""
    batch = a_batch()
    with torch.no_grad():
        R = torch.relu(modules["regressor"].conv(target(batch)))
    return R, modules["student"].features(batch.images)


def bce(D: nn.Module, of: Tensor, label: float) -> Tensor:
    q = torch.sigmoid(D(of))
    return -(label * torch.log(q) + (1 - label) * torch.log(1 - q)).mean()


def mse(modules: Copies) -> Tensor:
    return functional.mse_loss(*maps(modules))


@pytest.mark.parametrize("name", FAMILY)
def test_pretrain_moves_the_student_by_the_labels(name: str) -> None:
    method = started(name)

    def losses(then: Copies, now: Copies) -> dict[str, Tensor]:
        loss = ce(then["student"])
        return {"S": loss, "C": loss}

    told = step_moves(method, "pretrain", losses)
    assert set(told) == {"loss"}


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("head", ["student", "new"])
def test_alg_1_moves_r_and_a_new_classifier_alone(name: str, head: str) -> None:
    method = started(name, head=head)
    batch = a_batch()
    told: dict[str, Tensor] = {}

    def losses(then: Copies, now: Copies) -> dict[str, Tensor]:
        R = torch.relu(then["regressor"].conv(target(batch)))
        of = then["regressor_classifier"] if head == "new" else then["student"]
        logits = of.linear(R.mean((2, 3)))
        told["hits"] = (logits.argmax(1) == batch.labels).float().mean()
        loss = functional.cross_entropy(logits, batch.labels)
        return {"regressor": loss} | ({"regressor_classifier": loss} if head == "new" else {})

    found = step_moves(method, "regressor", losses)
    assert set(found) == {"loss", "regressor_accuracy"}
    assert torch.equal(found["regressor_accuracy"], told["hits"])


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize(("options", "beta"), [({}, 0.5), ({"beta": 7.0}, 7.0)])
def test_dln_moves_s_alone(name: str, options: dict[str, Any], beta: float) -> None:
    method = started(name, **options)

    def losses(then: Copies, now: Copies) -> dict[str, Tensor]:
        student = then["student"]
        task = soft(student, 4.0, 0.9) if name == "ktan+kd" else ce(student)
        return {"S": task + beta * mse(then)}

    method.step(a_batch(), "regressor")
    told = step_moves(method, "dln", losses)
    assert set(told) == {"loss", "task_loss", "mse"}
    assert close(told["loss"] - told["task_loss"] - beta * told["mse"], 0.0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ktan", {}),
        ("ktan", {"alpha": 5.0, "beta": 2.0, "channels_d": 3}),
        ("ktan", {"minimax": True}),
        ("ktan+kd", {}),
        ("ktan+kd", {"minimax": True}),
        ("ktan+kd", {"kd_classifier": False, "temperature": 2.0, "weight": 0.3}),
    ],
)
def test_the_adversarial_phase_moves_each_by_its_own_loss(
    name: str, options: dict[str, Any]
) -> None:
    method = started(name, **options)
    alpha, beta = options.get("alpha", 0.6), options.get("beta", 0.5)
    T, weight = options.get("temperature", 4.0), options.get("weight", 0.9)
    seen: dict[str, Tensor] = {}

    def losses(then: Copies, now: Copies) -> dict[str, Tensor]:
        student, D = then["student"], then["discriminator"]
        hard = ce(student)
        task = soft(student, T, weight) if name == "ktan+kd" else hard
        R, m_s = maps(then)
        loss_D = (bce(D, R, 1.0) + bce(D, m_s.detach(), 0.0)) / 2
        # S meets the discriminator as it is after its own step.
        adversarial = bce(now["discriminator"], m_s, 1.0)
        if options.get("minimax"):
            adversarial = -bce(now["discriminator"], m_s, 0.0)
        seen["real_recognised"] = (D(R) > 0).float().mean()
        seen["fake_recognised"] = (D(m_s) < 0).float().mean()
        seen["discriminator_loss"], seen["adversarial_loss"] = loss_D, adversarial
        seen["task_loss"], seen["mse"] = task, mse(then)
        seen["loss"] = task + alpha * adversarial + beta * seen["mse"]
        return {
            "S": seen["loss"],
            "C": task if options.get("kd_classifier", True) else hard,
            "discriminator": loss_D,
        }

    method.step(a_batch(), "regressor")
    told = step_moves(method, "adversarial", losses)
    both = (seen["real_recognised"] + seen["fake_recognised"]) / 2
    seen["discriminator_accuracy"] = both
    assert set(told) == set(seen)
    for key, value in seen.items():
        assert torch.allclose(told[key], value, rtol=1e-4, atol=1e-6), key


@pytest.mark.parametrize("name", FAMILY)
def test_r_stands_still_after_alg_1(name: str) -> None:
    torch.manual_seed(0)
    method = make_recipe(name, head="new").start(setting(epochs=12))
    before = {key: weights(method.modules[key]) for key in ("regressor", "regressor_classifier")}
    for phase in method.phases:
        for _ in range(phase.epochs):
            method.step(a_batch(), phase.name)
        for key, old in before.items():
            assert moved(old, method.modules[key]) == (phase.name == "regressor")
            before[key] = weights(method.modules[key])


def test_the_classifier_of_alg_1_is_not_used_later() -> None:
    torch.manual_seed(0)
    method = make_recipe("ktan", head="new").start(setting())
    for parameter in method.modules["regressor_classifier"].parameters():
        nn.init.constant_(parameter, float("nan"))
    for phase in ("pretrain", "dln", "adversarial"):
        told = method.step(a_batch(), phase)
        assert all(torch.isfinite(value) for value in told.values())


@pytest.mark.parametrize("name", ["wrn-10-2", "resnet-8", "resnet-8-b"])
def test_s_and_c_are_the_whole_student_also_under_autocast(name: str) -> None:
    student = build(spec_of(name, num_classes=4, input_shape=(1, 8, 8)))
    for network in (student, Passes(student, bf16=True)):
        S, C = ktan.parts(network)
        of_S, of_C = ({id(p) for p in part.parameters()} for part in (S, C))
        assert of_C == {id(p) for p in student.linear.parameters()}
        assert not of_S & of_C
        assert of_S | of_C == {id(p) for p in student.parameters()}


def test_the_discriminator_is_shallow_and_sees_places() -> None:
    torch.manual_seed(0)
    D = ktan.Discriminator((5, 4, 6), channels=7)
    (conv,) = [m for m in D.modules() if isinstance(m, nn.Conv2d)]
    assert (conv.in_channels, conv.out_channels, conv.kernel_size) == (5, 7, (3, 3))
    m = torch.randn(2, 5, 4, 6)
    assert D(m).shape == (2,)
    assert not torch.allclose(D(m), D(m.flip(3)))
    # As VGG begins and ends.
    hidden = functional.max_pool2d(torch.relu(conv(m)), 2).flatten(1)
    (linear,) = [m for m in D.modules() if isinstance(m, nn.Linear)]
    assert torch.allclose(D(m), linear(hidden)[:, 0])
    for shape in ((5, 1, 1), (5, 3, 7)):
        assert ktan.Discriminator(shape, 2)(torch.randn(2, *shape)).shape == (2,)


# Every pair of families

STUDENTS = ["wrn-10-1", "resnet-8", "resnet-8-b"]
TEACHERS = ["wrn-16-2", "resnet-14x1.5", "resnet-14-b"]


@pytest.mark.parametrize("name", ["at", "fitnet", *FAMILY])
@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize("teacher", TEACHERS)
def test_each_pair_of_families(name: str, student: str, teacher: str) -> None:
    """The teacher sees larger images, so that its map is larger: 3x4 of 12x16 against 2x3."""
    torch.manual_seed(0)
    small = build(spec_of(student, num_classes=4, input_shape=(1, 8, 12)))
    large = build(spec_of(teacher, num_classes=4, input_shape=(1, 12, 16))).eval()
    shapes = [shapes_of(each, (FEATURES,)) for each in (small, large)]
    assert [each[FEATURES][1:] for each in shapes] == [(2, 3), (3, 4)]
    images, labels = torch.randn(6, 1, 12, 16), torch.tensor([0, 1, 2, 3, 0, 1])
    with torch.no_grad():
        outputs = large.outputs(images, (LOGITS, FEATURES))
        batch = Batch(images[:, :, :8, :12], labels, labels, (outputs,))
    work = replace(setting(small, epochs=3), student_shapes=shapes[0], teacher_shapes=shapes[1])
    method = make_recipe(name).start(work)
    before = {part: weights(module) for part, module in method.modules.items()}
    for phase in method.phases:
        told = method.step(batch, phase.name)
        assert all(torch.isfinite(v) for v in told.values())
    assert all(moved(before[part], module) for part, module in method.modules.items())


# Advice and options


def test_a_discriminator_that_teaches_nothing_is_told() -> None:
    method = started("ktan")

    def advice(real: float, fake: float) -> str | None:
        accuracy = (real + fake) / 2
        parts = {"real_recognised": real, "fake_recognised": fake}
        found = {"loss": 1.0, "discriminator_loss": 0.6, "discriminator_accuracy": accuracy}
        return method.advice(found | parts)

    assert advice(0.5, 0.5) is None
    assert advice(0.98, 0.98) is None
    assert advice(0.2, 0.9) is None
    assert advice(0.96, 0.5) is None
    assert advice(0.5, 0.96) is None
    for said, real, fake in (
        ("lower lr_d", 1.0, 0.995),
        ("for the teacher's (99.0% of", 0.99, 0.01),
        ("for the student's (0.0% of", 0.0, 1.0),
    ):
        assert said in str(advice(real, fake))
    assert method.advice({"loss": 1.0, "mse": 1.0, "task_loss": 1.0}) is None
    assert started("dln").advice({"loss": 1.0}) is None


def test_wrong_options_are_told_at_once() -> None:
    wrong: dict[str, Any] = {
        "alpha": -1.0,
        "beta": -2.0,
        "pretrain": 1.0,
        "dln": -0.1,
        "teacher_epochs": 0,
        "channels_d": 0,
        "head": "teacher",
        "lr_regressor": 0.0,
        "lr_dln": -3.0,
        "lr_adversarial": float("nan"),
        "lr_d": float("inf"),
        "temperature": 0.0,
        "weight": 1.5,
    }
    with pytest.raises(UsageError) as caught:
        make_recipe("ktan+kd", **wrong)
    for fault in (
        "alpha is -1.0",
        "beta is -2.0",
        "pretrain of the epochs is 1.0",
        "dln of the epochs is -0.1",
        "teacher_epochs is 0",
        "channels_d is 0",
        "head is 'teacher'",
        "lr_regressor is 0.0",
        "lr_dln is -3.0",
        "lr_adversarial is nan",
        "lr_d is inf",
        "temperature is 0.0",
        "weight of kd is 1.5",
    ):
        assert fault in str(caught.value)


def test_the_paper_s_values_are_the_defaults() -> None:
    chosen = make_recipe("ktan+kd").to_dict()
    assert (chosen["alpha"], chosen["beta"]) == (0.6, 0.5)
    assert (chosen["temperature"], chosen["weight"]) == (4.0, 0.9)
    assert chosen["lr_adversarial"] == 0.01
    shared = make_recipe("ktan").to_dict()
    assert shared == chosen | {"weight": None}
    alone = make_recipe("dln").to_dict()
    assert alone == {key: chosen[key] for key in alone}
    assert TEACHER_MAP[1:] > shapes_of(build(SPEC), (FEATURES,))[FEATURES][1:]
