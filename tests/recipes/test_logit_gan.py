"""Logit-GAN: its losses against figures worked out by hand, and its steps against plain ones."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.models.network import LOGITS, Network
from compress.models.registry import build
from compress.recipes import logit_gan
from compress.recipes.logit_gan import LogitGan
from compress.recipes.recipe import Batch, Setting
from compress.recipes.registry import make_recipe
from tests.recipes.test_methods import SPEC, a_batch, moved, run, setting, weights, with_logits

# Two images in three classes.
F = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]])
t = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 4.0]])
LABELS = torch.tensor([1, 2])
# Three class scores, then Real, then Fake.
D_T = torch.tensor([[1.0, 0.0, 2.0, 3.0, 1.0], [0.0, 1.0, 0.0, 2.0, 2.0]])
D_F = torch.tensor([[0.0, 2.0, 1.0, 1.0, 2.0], [1.0, 0.0, 1.0, 0.0, 3.0]])
# The same two images of a second teacher.
D_T2 = torch.tensor([[2.0, 1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 3.0, 4.0, 0.0]])
# Three scores of {l, Real}, then three of {l, Fake}.
D_T_2C = torch.tensor([[1.0, 0.0, 2.0, 3.0, 1.0, 0.0], [0.0, 1.0, 0.0, 2.0, 2.0, 1.0]])
D_F_2C = torch.tensor([[0.0, 2.0, 1.0, 1.0, 2.0, 0.0], [1.0, 0.0, 1.0, 0.0, 3.0, 2.0]])


def close(value: Tensor, expected: float) -> bool:
    return value.item() == pytest.approx(expected, abs=2e-6)


def joint(D: Tensor) -> Tensor:
    """C+2 scores -> 2C scores of the same probabilities, label and origin being independent."""
    return (D[:, -2:, None] + D[:, None, :-2]).flatten(1)


# Figures without a working were computed with Python's exp and log, by the papers' equations.


def test_eq_6_and_its_parts() -> None:
    assert close(logit_gan.log_P_origin(D_T, logit_gan.REAL), -0.410037596)
    assert close(logit_gan.log_P_origin(D_F, logit_gan.FAKE), -0.180924520)
    assert close(logit_gan.log_P_label(D_T, LABELS), -1.979525339)
    assert close(logit_gan.log_P_label(D_F, LABELS), -0.634800384)
    assert close(logit_gan.L_A(D_T, D_F), -0.590962115)
    assert close(logit_gan.L_DS(D_T, D_F, LABELS), -2.614325723)
    assert close(logit_gan.L_GAN(D_T, D_F, LABELS), -1.602643919)


def test_two_teachers_weigh_as_much_as_one() -> None:
    both = torch.cat([D_T, D_T2])
    assert close(logit_gan.L_A(both, D_F), -0.718796221)
    assert close(logit_gan.L_DS(both, D_F, LABELS), -2.036350737)
    assert close(logit_gan.L_GAN(both, D_F, LABELS), -1.377573479)


def test_eq_7_sums_over_the_classes() -> None:
    # |1-2| + |2-1| + |0-0| = 2 and |0-0| + |1-0| + |3-4| = 2
    assert close(logit_gan.L_L1(F, t), 2.0)
    assert close(logit_gan.L_L1(F, t, "mean"), 2 / 3)
    assert close(logit_gan.L_L1(F[:1], torch.zeros(1, 3)), 3.0)


def test_the_last_term_of_eq_8_turns_the_sign_of_the_labels() -> None:
    # (-0.590962115 + 2.614325723) / 2
    assert close(logit_gan.L_2_GAN(D_T, D_F, LABELS), 1.011681804)


def test_eq_5_is_of_class_and_origin_together() -> None:
    # Teacher: scores 0 and 0 of {1, Real} and {2, Real}; student: 2 and 2 of {1, Fake}, {2, Fake}.
    assert close(logit_gan.log_P_joint(D_T_2C, LABELS, logit_gan.REAL), -3.326779799)
    assert close(logit_gan.log_P_joint(D_F_2C, LABELS, logit_gan.FAKE), -1.326779799)
    assert close(logit_gan.L_prime_GAN(D_T_2C, D_F_2C, LABELS), -4.653559599)


def test_the_student_s_half_of_the_2c_form_is_of_the_marginals() -> None:
    # Of scores log 1, log 2, log 3 | log 4, log 5, log 5, whose sum is 20:
    # P(l) = 5/20, 7/20, 8/20 and P(Real) = 6/20, P(Fake) = 14/20.
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 5.0]]).log()
    expected = torch.tensor([[0.25, 0.35, 0.4, 0.3, 0.7]]).log()
    assert torch.allclose(logit_gan.marginals(scores), expected, atol=1e-6)
    D_t, D_f = logit_gan.marginals(D_T_2C), logit_gan.marginals(D_F_2C)
    assert close(logit_gan.L_A(D_t, D_f), -1.795725169)
    assert close(logit_gan.L_DS(D_t, D_f, LABELS), -2.837093477)
    assert close(logit_gan.L_2_GAN(D_t, D_f, LABELS), 0.520684154)


def test_where_class_and_origin_are_independent_the_two_forms_agree() -> None:
    D_t, D_f = joint(D_T), joint(D_F)
    assert close(logit_gan.L_prime_GAN(D_t, D_f, LABELS), 2 * -1.602643919)
    marginals = logit_gan.marginals(D_t), logit_gan.marginals(D_f)
    assert close(logit_gan.L_2_GAN(*marginals, LABELS), 1.011681804)


def test_lsgan_wants_1_of_real_and_0_of_fake_and_the_student_1_of_fake() -> None:
    # s is 2, 0 for the teacher and -1, -3 for the student.
    # V_D = 1/2 (1 + 1)/2 + 1/2 (1 + 9)/2 = 3 and V_F = 1/2 (4 + 16)/2 = 5
    assert logit_gan.s(D_T).tolist() == [2.0, 0.0]
    assert close(logit_gan.V_D(D_T, D_F), 3.0)
    assert close(logit_gan.V_F(D_F), 5.0)
    # (-3 - 2.614325723) / 2 and (5 + 2.614325723) / 2
    assert close(logit_gan.L_GAN(D_T, D_F, LABELS, "lsgan"), -2.807162862)
    assert close(logit_gan.L_2_GAN(D_T, D_F, LABELS, "lsgan"), 3.807162862)


def test_wgan_parts_the_mean_scores() -> None:
    # (2 + 0)/2 - (-1 - 3)/2 = 3; (3 - 2.614325723) / 2 and (3 + 2.614325723) / 2
    assert close(logit_gan.W(D_T, D_F), 3.0)
    assert close(logit_gan.L_GAN(D_T, D_F, LABELS, "wgan-gp"), 0.192837138)
    assert close(logit_gan.L_2_GAN(D_T, D_F, LABELS, "wgan-gp"), 2.807162862)


def test_the_penalty_is_of_each_gradient_s_length() -> None:
    # The gradient of |z|^2 / 2 is z, and e t + (1 - e) F is (1, 0) and (0, 3):
    # ((1-1)^2 + (3-1)^2) / 2 = 2.
    real, fake = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 4.0]])
    e = torch.tensor([[0.5], [0.25]])
    assert close(logit_gan.GP(lambda z: 0.5 * z.square().sum(dim=1), real, fake, e), 2.0)
    # Of w (3, 4).z it is 5w everywhere: (5w - 1)^2 = 16, whose gradient by w is 2 (5w - 1) 5 = 40.
    w = torch.ones((), requires_grad=True)
    penalty = logit_gan.GP(lambda z: w * (z @ torch.tensor([3.0, 4.0])), real, fake, e)
    assert close(penalty, 16.0)
    assert close(torch.autograd.grad(penalty, w)[0], 40.0)


VARIANTS: list[dict[str, Any]] = [
    {},
    {"l1": "mean"},
    *({"terms": terms} for terms in ("s", "l1", "gan", "s+l1", "gan+s", "l1+gan")),
    {"form": "2c"},
    {"objective": "lsgan"},
    {"objective": "wgan-gp"},
    {"objective": "wgan-gp", "penalty": 3.0, "condition": "teacher"},
    {"objective": "wgan-gp", "condition": "image"},
    *({"condition": condition} for condition in ("image", "label", "teacher")),
    {"form": "2c", "condition": "label"},
    {"objective": "lsgan", "condition": "image", "terms": "gan", "depth": 1},
]


def taught_by(teachers: int) -> Batch:
    """The usual batch, with further teachers that are not like the first."""
    batch = a_batch()
    rng = torch.Generator().manual_seed(5)
    more = tuple(2 * torch.randn(16, 4, generator=rng) for _ in range(teachers - 1))
    return with_logits(batch, *batch.of_teachers(LOGITS), *more)


def with_rate(student: Network, rate: float) -> Setting:
    return setting(student, lambda module: torch.optim.SGD(module.parameters(), lr=rate))


def condition_of(options: LogitGan, D: nn.Module, batch: Batch) -> Tensor | None:
    if options.condition == "none":
        return None
    if options.condition == "teacher":
        of = torch.stack(batch.of_teachers(LOGITS)).mean(dim=0)
    else:
        of = batch.images if options.condition == "image" else torch.eye(4)[batch.labels]
    return D.embedding(of)  # type: ignore[no-any-return, operator]


def scores_of(options: LogitGan, D: nn.Module, batch: Batch, F: Tensor) -> tuple[Tensor, Tensor]:
    """D of all teachers' logits and of the student's."""
    condition = condition_of(options, D, batch)
    k = len(batch.teachers)
    of_each = None if condition is None else torch.cat([condition] * k)
    return D(torch.cat(batch.of_teachers(LOGITS)), of_each), D(F, condition)


def log_likelihoods(options: LogitGan, D: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """log P of Real, of Fake, of the label, of {label, Real}, of {label, Fake}; each [kN].

    By plain softmaxes, where the recipe works with logarithms.
    """
    at, labels = torch.arange(len(D)), torch.cat([labels] * (len(D) // len(labels)))
    if options.form == "2c":
        P = D.softmax(dim=1)
        real, fake = P[:, :4], P[:, 4:]
    else:
        P_l, P_o = D[:, :4].softmax(dim=1), D[:, 4:].softmax(dim=1)
        real, fake = P_l * P_o[:, :1], P_l * P_o[:, 1:]
    P_label = (real + fake)[at, labels]
    wanted = real.sum(dim=1), fake.sum(dim=1), P_label, real[at, labels], fake[at, labels]
    return tuple(p.log() for p in wanted)


def eq_6(
    options: LogitGan, D: nn.Module, batch: Batch, F: Tensor, e: Tensor
) -> tuple[Tensor, Tensor]:
    """What D ascends, and GP where it is a part of that."""
    D_t, D_F = scores_of(options, D, batch, F)
    real, _, label_t, label_real, _ = log_likelihoods(options, D_t, batch.labels)
    _, fake, label_F, _, label_fake = log_likelihoods(options, D_F, batch.labels)
    penalty = torch.zeros(())
    if options.form == "2c":
        return label_real.mean() + label_fake.mean(), penalty
    L_A = real.mean() + fake.mean()
    s_t, s_F = D_t[:, 4] - D_t[:, 5], D_F[:, 4] - D_F[:, 5]
    if options.objective == "lsgan":
        L_A = -((s_t - 1) ** 2).mean() / 2 - (s_F**2).mean() / 2
    if options.objective == "wgan-gp":
        k = len(batch.teachers)
        z = e * torch.cat(batch.of_teachers(LOGITS)) + (1 - e) * torch.cat([F] * k)
        z.requires_grad_()
        condition = condition_of(options, D, batch)
        out = D(z, None if condition is None else torch.cat([condition] * k))
        gradients = torch.autograd.grad(
            out[:, 4].sum() - out[:, 5].sum(), z, create_graph=True, retain_graph=True
        )[0]
        penalty = ((gradients.pow(2).sum(dim=1).sqrt() - 1) ** 2).mean()
        L_A = s_t.mean() - s_F.mean() - options.penalty * penalty
    return (L_A + label_t.mean() + label_F.mean()) / 2, penalty


def eq_8(options: LogitGan, D: nn.Module | None, batch: Batch, F: Tensor) -> Tensor:
    """What F descends."""
    loss, terms = torch.zeros(()), options.terms.split("+")
    if "s" in terms:
        loss = loss - F.softmax(dim=1)[torch.arange(16), batch.labels].log().mean()
    if "l1" in terms:
        apart = torch.stack([(F - t).abs() for t in batch.of_teachers(LOGITS)])
        loss = loss + apart.mean() * (4 if options.l1 == "sum" else 1)
    if D is not None:
        D_t, D_F = scores_of(options, D, batch, F)
        real, _, label_t, _, _ = log_likelihoods(options, D_t, batch.labels)
        _, fake, label_F, _, _ = log_likelihoods(options, D_F, batch.labels)
        L_A = real.mean() + fake.mean()
        s_t, s_F = D_t[:, 4] - D_t[:, 5], D_F[:, 4] - D_F[:, 5]
        if options.objective == "lsgan":
            L_A = ((s_F - 1) ** 2).mean() / 2
        if options.objective == "wgan-gp":
            L_A = s_t.mean() - s_F.mean()
        loss = loss + (L_A - label_t.mean() - label_F.mean()) / 2
    return loss


def moved_by(module: nn.Module, then: nn.Module, gradients: tuple[Tensor, ...]) -> bool:
    """Whether each parameter, and nothing else, moved by its gradient; it did at a rate of 1."""
    return all(
        torch.allclose(new - old, gradient, rtol=1e-4, atol=1e-5)
        for new, old, gradient in zip(
            module.parameters(), then.parameters(), gradients, strict=True
        )
    )


@pytest.mark.parametrize("teachers", [1, 2])
@pytest.mark.parametrize("values", VARIANTS, ids=str)
def test_d_climbs_its_own_loss_alone_and_then_f_descends_its_own_alone(
    values: dict[str, Any], teachers: int
) -> None:
    torch.manual_seed(0)
    options, batch, student = LogitGan(**values, dropout=0.0), taught_by(teachers), build(SPEC)
    method = options.start(with_rate(student, 1.0))
    then = copy.deepcopy(dict(method.modules))
    for module in method.modules.values():
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)  # of a step before, to be forgotten

    torch.manual_seed(7)
    scalars = method.step(batch, "train")

    torch.manual_seed(7)
    e = torch.rand(16 * teachers, 1)
    F = then["student"](batch.images)
    D_now = None
    if "gan" in options.terms:
        D, D_then = method.modules["discriminator"], then["discriminator"]
        climbed, penalty = eq_6(options, D_then, batch, F.detach(), e)
        assert torch.allclose(scalars["discriminator_loss"], -climbed, rtol=1e-4)
        if options.objective == "wgan-gp":
            assert torch.allclose(scalars["discriminator_penalty"], penalty, rtol=1e-4)
        gradients = torch.autograd.grad(climbed, list(D_then.parameters()))
        assert moved_by(D, D_then, gradients)
        # The student's update leaves nothing with it, and does not keep it held.
        for parameter, gradient in zip(D.parameters(), gradients, strict=True):
            assert parameter.requires_grad
            assert parameter.grad is not None
            assert torch.allclose(parameter.grad, -gradient, rtol=1e-4, atol=1e-5)
        # Eq. 8 is taken at the discriminator as it is after its own update.
        D_now = copy.deepcopy(D)
    else:
        assert set(method.modules) == set(method.optimizers) == {"student"}
        assert set(scalars) == {"loss"}
    descended = eq_8(options, D_now, batch, F)
    assert torch.allclose(scalars["loss"], descended, rtol=1e-4)
    gradients = torch.autograd.grad(descended, list(then["student"].parameters()))
    assert moved_by(student, then["student"], tuple(-gradient for gradient in gradients))


@pytest.mark.parametrize("values", VARIANTS, ids=str)
def test_each_variant_learns_one_batch(values: dict[str, Any]) -> None:
    torch.manual_seed(0)
    method = make_recipe("logit-gan", **values).start(setting())
    for name, rate in method.phases[0].lr.items():
        method.optimizers[name].param_groups[0]["lr"] = rate
    before = {part: weights(module) for part, module in method.modules.items()}
    scalars = run(method, a_batch())
    assert all(torch.isfinite(value) and not value.requires_grad for value in scalars.values())
    assert all(moved(before[part], module) for part, module in method.modules.items())
    logits = method.modules["student"](a_batch().images)
    assert (logits.argmax(dim=1) == a_batch().labels).all()


@pytest.mark.parametrize("values", [{}, {"form": "2c"}, {"objective": "lsgan"}], ids=str)
def test_the_same_teacher_twice_is_one_teacher(values: dict[str, Any]) -> None:
    told = []
    for times in (1, 2):
        torch.manual_seed(0)
        method = LogitGan(**values, condition="teacher", dropout=0.0).start(setting())
        batch = a_batch()
        batch = with_logits(batch, *batch.of_teachers(LOGITS) * times)
        method.step(batch, "train")
        scalars = method.step(batch, "train").items()
        told.append({name: float(value) for name, value in scalars})
    assert told[0] == pytest.approx(told[1], rel=1e-4)


class Fixed(nn.Module):
    """A discriminator that says what it was told to of the first logits, then of the second."""

    def __init__(self, D_t: Tensor, D_F: Tensor) -> None:
        super().__init__()
        self.said = [D_F, D_t] * 2
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, logits: Tensor, condition: Tensor | None) -> Tensor:
        return self.said.pop() + self.weight


@pytest.mark.parametrize(
    ("form", "objective", "real", "fake"),
    [
        ("c+2", "bce", 0.5, 0.75),
        ("2c", "bce", 0.5, 0.75),
        ("c+2", "lsgan", 0.25, 1.0),
        ("c+2", "wgan-gp", 0, 0),
    ],
)
def test_what_is_told_of_the_discriminator(
    form: str, objective: str, real: float, fake: float
) -> None:
    # s above 0, for lsgan above 1/2, is called Real.
    s_t, s_F = torch.tensor([2.0, 0.3, -1.0, -1.0]), torch.tensor([-1.0, 0.3, -2.0, -3.0])
    labels = torch.tensor([0, 1, 2, 3])
    called_t, called_F = torch.tensor([0, 1, 0, 0]), torch.tensor([0, 1, 2, 0])

    def scores(called: Tensor, s: Tensor) -> Tensor:
        D = torch.cat([torch.eye(4)[called], s[:, None] + 5, torch.full((4, 1), 5.0)], dim=1)
        return joint(D) if form == "2c" else D

    options = LogitGan(form=form, objective=objective, terms="s+gan")
    method: Any = options.start(setting())
    method.discriminator = Fixed(scores(called_t, s_t), scores(called_F, s_F))
    method._penalty = lambda batch, F: method.discriminator.weight + 2.0
    batch = a_batch()
    some = Batch(batch.images[:4], labels, labels)
    some = with_logits(some, batch.of_teacher(LOGITS)[:4])
    told = {name: float(value) for name, value in method.step(some, "train").items()}
    assert told.pop("discriminator_label_accuracy_real") == 0.5
    assert told.pop("discriminator_label_accuracy_fake") == 0.75
    assert {"loss", "discriminator_loss"} <= set(told)
    del told["loss"], told["discriminator_loss"]
    if objective == "wgan-gp":
        # (2 + 0.3 - 1 - 1)/4 - (-1 + 0.3 - 2 - 3)/4 = 0.3/4 + 5.7/4
        expected = {"discriminator_distance": 1.5, "discriminator_penalty": 2.0}
    else:
        expected = {
            "discriminator_accuracy": (real + fake) / 2,
            "discriminator_real_recognised": real,
            "discriminator_fake_recognised": fake,
        }
    assert told == pytest.approx(expected)


def test_a_useless_discriminator_is_told_of() -> None:
    def advice(real: float, fake: float, objective: str = "bce") -> str | None:
        means = {
            "discriminator_accuracy": (real + fake) / 2,
            "discriminator_real_recognised": real,
            "discriminator_fake_recognised": fake,
        }
        return LogitGan(objective=objective).start(setting()).advice(means)

    saturated, all_real, all_fake = advice(0.99, 0.98), advice(0.97, 0.02), advice(0.02, 0.97)
    assert saturated is not None
    assert "tells 98% or more" in saturated
    assert all_real is not None
    assert "calls nearly all logits the teacher's" in all_real
    assert all_fake is not None
    assert "calls nearly all logits the student's" in all_fake
    assert all("--lr-d" in text for text in (saturated, all_real, all_fake))
    # The same text in each epoch, so that it is told once.
    assert advice(0.985, 0.985) == saturated
    for healthy in ((0.96, 0.99), (0.5, 0.5), (0.94, 0.02), (0.97, 0.2), (0.2, 0.97)):
        assert advice(*healthy) is None
    # Least squares do not vanish where the two are told apart, but one answer is one answer.
    assert advice(1.0, 1.0, "lsgan") is None
    assert advice(1.0, 0.0, "lsgan") == all_real
    assert LogitGan(terms="s+l1").start(setting()).advice({"loss": 1.0}) is None
    wgan = LogitGan(objective="wgan-gp").start(setting())
    assert wgan.advice({"discriminator_penalty": 1.0}) is None
    assert "far longer" in (wgan.advice({"discriminator_penalty": 2.0}) or "")


def test_the_discriminator_has_the_paper_s_shape() -> None:
    D = logit_gan.Discriminator(num_classes=100)
    linears = [m for m in D.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == [(100, 100)] * 3 + [(100, 102)]
    assert isinstance(D.norm, nn.BatchNorm1d)
    assert len([m for m in D.modules() if isinstance(m, nn.BatchNorm1d)]) == 4
    assert {m.p for m in D.modules() if isinstance(m, nn.Dropout)} == {0.3}
    assert D(torch.randn(5, 100)).shape == (5, 102)


@pytest.mark.parametrize("depth", [1, 2, 4, 6])
def test_table_4_has_other_depths(depth: int) -> None:
    D: Any = LogitGan(depth=depth, dropout=0.1).start(setting()).modules["discriminator"]
    assert len(D.blocks) == depth
    assert {m.p for m in D.modules() if isinstance(m, nn.Dropout)} == {0.1}


def test_a_block_adds_to_what_it_gets() -> None:
    block = logit_gan.DiscriminatorBlock(4, 0.0)
    x = torch.randn(6, 4)
    y = block.linear(x)
    y = (y - y.mean(dim=0)) / (y.var(dim=0, unbiased=False) + 1e-5).sqrt()
    assert torch.allclose(block(x), x + y.clamp(min=0), atol=1e-5)


def test_a_condition_is_read_beside_the_logits() -> None:
    D = logit_gan.Discriminator(4, embedding=nn.Identity()).eval()
    logits, condition = torch.randn(5, 4), torch.randn(5, 4)
    both = torch.cat([logits / (1 + 1e-5) ** 0.5, condition], dim=1)
    expected = D.scores(D.blocks(D.fold(both)))
    assert torch.allclose(D(logits, condition), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_each_embedding_is_as_long_as_the_logits(shape: tuple[int, int, int]) -> None:
    on = replace(setting(), input_shape=shape)
    image = logit_gan.make_embedding("image", on)
    label = logit_gan.make_embedding("label", on)
    teacher = logit_gan.make_embedding("teacher", on)
    assert image is not None
    assert label is not None
    assert teacher is not None
    for embedded in (
        image(torch.randn(6, *shape)),
        label(torch.eye(4)),
        teacher(5 * torch.randn(6, 4)),
    ):
        assert embedded.shape[1:] == (4,)
        assert torch.allclose(embedded.mean(dim=0), torch.zeros(4), atol=1e-5)
        assert torch.allclose(embedded.std(dim=0, unbiased=False), torch.ones(4), atol=0.05)
    assert logit_gan.make_embedding("none", on) is None


def test_a_critic_s_score_is_of_its_own_logits_alone() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 4)
    others = torch.cat([logits[:1], torch.randn(5, 4)])
    for objective, own in (("wgan-gp", True), ("bce", False)):
        options = LogitGan(objective=objective, dropout=0.0)
        D = options.start(setting()).modules["discriminator"]
        assert torch.allclose(D(logits)[0], D(others)[0], atol=1e-6) is own


def test_the_discriminator_s_rate_is_its_own_where_asked() -> None:
    (phase,) = LogitGan(lr_d=0.01).start(setting()).phases
    assert phase.lr == {"discriminator": 0.01}
    for options in (LogitGan(), LogitGan(lr_d=0.01, objective="wgan-gp", terms="s+l1")):
        (phase,) = options.start(setting()).phases
        assert phase.lr == {}
    for lr_d, rate in ((None, 0.01), (0.02, 0.02)):
        (phase,) = LogitGan(objective="wgan-gp", lr_d=lr_d).start(setting()).phases
        assert phase.lr == {"discriminator": rate}


def test_the_paper_s_values_are_the_defaults() -> None:
    assert LogitGan().to_dict() == {
        "depth": 3,
        "dropout": 0.3,
        "l1": "sum",
        "lr_d": None,
        "terms": "s+l1+gan",
        "form": "c+2",
        "objective": "bce",
        "penalty": 10.0,
        "condition": "none",
    }
    options = {"terms": "s+gan", "form": "2c", "condition": "image"}
    made = make_recipe("logit-gan", **options, lr_d="0.01")
    assert made == LogitGan(terms="s+gan", form="2c", condition="image", lr_d=0.01)


@pytest.mark.parametrize("terms", ["", "s+", "s+s", "kd", "s+l2", "S"])
def test_terms_that_are_none_of_eq_8_are_refused(terms: str) -> None:
    with pytest.raises(UsageError, match=r"terms is '.*', it must be one or more of s, l1, gan"):
        LogitGan(terms=terms)


def test_faults_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        LogitGan(
            depth=0,
            dropout=1.0,
            l1="max",
            lr_d=0.0,
            terms="gan+kl",
            form="c+1",
            objective="hinge",
            penalty=-1.0,
            condition="logits",
        )
    for fault in (
        "depth is 0",
        "dropout is 1.0",
        "l1 is 'max', it must be sum or mean",
        "learning rate is 0.0",
        "terms is 'gan+kl'",
        "form is 'c+1', it must be c+2 or 2c",
        "objective is 'hinge', it must be bce or lsgan or wgan-gp",
        "penalty's weight is -1.0",
        "condition is 'logits', it must be none or image or label or teacher",
    ):
        assert fault in str(caught.value)


@pytest.mark.parametrize("objective", ["lsgan", "wgan-gp"])
def test_the_2c_form_has_one_objective(objective: str) -> None:
    with pytest.raises(UsageError, match=f"form 2c has no objective {objective}"):
        LogitGan(form="2c", objective=objective)
