"""Logit-GAN: a discriminator learns the loss.

Xu, Hsu and Huang, "Learning Loss for Knowledge Distillation with Conditional Adversarial
Networks", arXiv 1709.00513. A discriminator D reads logits, says whether they are the teacher's
(Real) or the student's (Fake), and which class they are of.

    L_A (D, F) = 1/N sum_i ( log P(Real | D(t_i)) + log P(Fake | D(F(x_i))) )
    L_DS(D, F) = 1/N sum_i ( log P(l_i  | D(t_i)) + log P(l_i  | D(F(x_i))) )
    Eq. 6   the discriminator maximises  L_GAN = 1/2 (L_A + L_DS)
    Eq. 7   L_L1(F) = 1/N sum_i | F(x_i) - t_i |_1
    Eq. 8   the student minimises        L_2 = L_S + L_L1 + 1/2 (L_A - L_DS)     with D fixed

    F(x_i)  [N, C]  student logits     t_i  [N, C]  teacher logits     l_i  [N]  labels
    D(.)    [N, C+2]  C class scores, then the scores of Real and of Fake

In each iteration D is updated first, then F. Section 4.1: D is an MLP of residual blocks
(Figure 1, right: linear, batch normalisation, ReLU and dropout, with a skip), every layer as wide
as there are classes, 3 deep; the logits pass a batch normalisation before it; dropout 0.3.

Table 3 leaves terms of Eq. 8 out: ``terms`` names those that stay, "gan" being 1/2 (L_A - L_DS).
Without it there is no discriminator.

The form with 2C scores, ``form="2c"``: C of {l, Real}, then C of {l, Fake}, in one softmax.

    Eq. 5   the discriminator maximises
            L'_GAN = 1/N sum_i ( log P({l_i, Real} | D(t_i)) + log P({l_i, Fake} | D(F(x_i))) )

    The student minimises Eq. 8 with the marginals of that softmax:
            P(Fake | .) = sum_l P({l, Fake} | .)      P(l | .) = P({l, Real} | .) + P({l, Fake} | .)

The paper writes no student's update for this form. Eq. 6 is half of Eq. 5 where label and origin
are independent, log P({l, Fake}) being log P(l) + log P(Fake) there, and Eq. 8 turns the sign of
log P(l) alone. The marginals are those two without that assumption, and where it holds both forms
give the student one loss. To minimise log P({l, Fake} | D(F)) itself would push the student off
its label; to maximise log P({l, Real} | D(F)) would be another loss than the L_A that the paper's
student minimises.

Other adversarial objectives, ``objective``, which the paper tried before L_DS came in. With
s(.) = D(.)_Real - D(.)_Fake, of which L_A reads the sigmoid,

              D ascends, for L_A in Eq. 6     F descends, for L_A in Eq. 8
    bce       L_A                             L_A
    lsgan     -V_D                            V_F
    wgan-gp   W - lambda GP                   W

    lsgan (arXiv 1611.04076, coded 0 and 1)
            V_D = 1/2N sum_i (s(t_i) - 1)^2 + 1/2N sum_i s(F(x_i))^2
            V_F = 1/2N sum_i (s(F(x_i)) - 1)^2
    wgan-gp (arXiv 1704.00028, Eq. 3)
            W  = 1/N sum_i ( s(t_i) - s(F(x_i)) )
            GP = 1/N sum_i ( | grad s(z_i) |_2 - 1 )^2    z_i = e_i t_i + (1 - e_i) F(x_i)
            e_i uniform in [0, 1], lambda the option ``penalty``

GP wants the gradient of each image's score by its own logits, and a batch normalisation mixes them
with other images'. There D has none, which that paper does too. A layer normalisation, its other
advice, would hide the scale of the logits before the blocks; inside them it has gradients without
bound where there are few classes. A condition (below) keeps its batch normalisations: they see no
logits that GP varies. The critic runs away at the paper's rate of 0.1 and holds at 0.03, with 10
classes and with 100; without ``lr_d`` it gets 0.01. It is updated once an iteration as with the
other objectives, not five times.

Conditional discriminators, ``condition``: D reads logits and a vector as long as them, side by
side. The vector is, after a batch normalisation,

    image    two convolutions 3x3 of stride 2, to 16 and 32 channels, each with a batch
             normalisation and ReLU; the mean over places; linear to C
    label    the one-hot label through linear, ReLU, linear, all C wide
    teacher  t_i; of several teachers their mean, the same for Real and Fake, so that the condition
             does not tell which it is

and a linear layer brings the 2C to the C that the blocks are wide. The embedding belongs to D and
is trained with it. Of "label" D can read L_DS off without the logits; with "teacher" it has to see
whether two vectors are equal. The paper found none to help.

Several teachers, the extension that the paper's discussion names: D gets the logits of each as
Real, in one batch, and L_L1 is the mean over the teachers, so Real and Fake weigh the same however
many there are.

Left open by the paper, and decided here:
  - P(Real) and P(Fake) are a softmax over D's two last scores, P(l) over its first C.
  - D is trained by the optimiser and schedule of the student; ``lr_d`` gives it a rate of its own.
  - D's batch norms see the teachers' logits as one batch and the student's as another.
  - While the student is updated, D stays in training mode: its batch norms use the batch, as they
    do while D itself is trained. Only D's parameters are held.
  - |.|_1 is summed over the classes, as Eq. 7 prints it. torch's L1Loss averages over them, which
    makes this term C times smaller: ``l1="mean"``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from compress.errors import UsageError
from compress.models.network import LOGITS
from compress.recipes.recipe import CLASSIFICATION, Batch, Method, Phase, Setting, over_teachers
from compress.recipes.supervised import L_S

REAL, FAKE = 0, 1

TERMS = ("s", "l1", "gan")
FORMS = ("c+2", "2c")
OBJECTIVES = ("bce", "lsgan", "wgan-gp")
CONDITIONS = ("none", "image", "label", "teacher")
L1_REDUCTIONS = ("sum", "mean")

# s above which logits are called Real: even odds, and the middle of the 0 and 1 of lsgan. The
# scores of wgan-gp have no zero.
CALLED_REAL = {"bce": 0.0, "lsgan": 0.5}
# Share of logits told apart from which a discriminator counts as saturated. The student's gradient
# of log P(Fake | D(F)) is P(Real | D(F)), which is then next to nothing for nearly all images.
SATURATED = 0.98
# Share of one origin called by its name, and of the other called by the same, from which the
# discriminator counts as giving one answer to everything.
COLLAPSED = 0.95
# The initial learning rate of wgan-gp's discriminator; see above.
LR_OF_CRITIC = 0.01
# GP above which the critic of wgan-gp runs away; gradients of 0 make it 1.
STEEP = 1.5


def log_P_origin(D: Tensor, origin: int) -> Tensor:
    """Mean log-probability of REAL or FAKE, from D's two last scores; D is [N, C+2]."""
    return functional.log_softmax(D[:, -2:], dim=1)[:, origin].mean()


def log_P_label(D: Tensor, labels: Tensor) -> Tensor:
    """Mean log-probability of the labels [N], from D's first C scores.

    D is [kN, C+2]: of k teachers, one after the other.
    """
    return -functional.cross_entropy(D[:, :-2], labels.repeat(len(D) // len(labels)))


def log_P_joint(D: Tensor, labels: Tensor, origin: int) -> Tensor:
    """Mean log-probability of {label, origin}, for labels [N]; D is [kN, 2C]."""
    C = D.shape[1] // 2
    return -functional.cross_entropy(D, origin * C + labels.repeat(len(D) // len(labels)))


def marginals(D: Tensor) -> Tensor:
    """Scores of the 2C form -> log P(l), then log P(Real) and log P(Fake): [N, 2C] -> [N, C+2].

    Log-probabilities are scores whose softmax they are, so this reads like the C+2 form.
    """
    joint = functional.log_softmax(D, dim=1).reshape(len(D), 2, -1)
    return torch.cat([joint.logsumexp(dim=1), joint.logsumexp(dim=2)], dim=1)


def s(D: Tensor) -> Tensor:
    """The log-odds of Real, [N], from D's two last scores; D is [N, C+2]."""
    return D[:, -2] - D[:, -1]


def L_A(D_t: Tensor, D_F: Tensor) -> Tensor:
    """The adversarial log-likelihood, from D(t) and D(F(x)), both [N, C+2]."""
    return log_P_origin(D_t, REAL) + log_P_origin(D_F, FAKE)


def L_DS(D_t: Tensor, D_F: Tensor, labels: Tensor) -> Tensor:
    """The log-likelihood of the labels, from D(t) and D(F(x)), both [N, C+2]."""
    return log_P_label(D_t, labels) + log_P_label(D_F, labels)


def V_D(D_t: Tensor, D_F: Tensor) -> Tensor:
    """lsgan: how far Real is from 1 and Fake from 0, from D(t) and D(F(x)), both [N, C+2]."""
    return 0.5 * (s(D_t) - 1).square().mean() + 0.5 * s(D_F).square().mean()


def V_F(D_F: Tensor) -> Tensor:
    """lsgan: how far Fake is from 1, from D(F(x)) [N, C+2]."""
    return 0.5 * (s(D_F) - 1).square().mean()


def W(D_t: Tensor, D_F: Tensor) -> Tensor:
    """wgan-gp: how far the mean scores are apart, from D(t) and D(F(x)), both [N, C+2]."""
    return s(D_t).mean() - s(D_F).mean()


def GP(critic: Callable[[Tensor], Tensor], t: Tensor, F: Tensor, e: Tensor) -> Tensor:
    """wgan-gp: the penalty on gradients other than 1 between t and F, both [N, C], at e [N, 1].

    ``critic`` gives a score [N] of logits [N, C], each of its own logits alone.
    """
    z = (e * t + (1 - e) * F).detach().requires_grad_()
    gradient: Tensor = torch.autograd.grad(critic(z).sum(), z, create_graph=True)[0]
    length: Tensor = gradient.norm(dim=1)
    return (length - 1).square().mean()


def L_GAN(D_t: Tensor, D_F: Tensor, labels: Tensor, objective: str = "bce") -> Tensor:
    """Eq. 6, which the discriminator maximises; for wgan-gp without its penalty."""
    if objective == "lsgan":
        adversarial = -V_D(D_t, D_F)
    elif objective == "wgan-gp":
        adversarial = W(D_t, D_F)
    else:
        adversarial = L_A(D_t, D_F)
    return 0.5 * (adversarial + L_DS(D_t, D_F, labels))


def L_prime_GAN(D_t: Tensor, D_F: Tensor, labels: Tensor) -> Tensor:
    """Eq. 5, which the discriminator of 2C scores maximises; D(t) and D(F(x)) are [N, 2C]."""
    return log_P_joint(D_t, labels, REAL) + log_P_joint(D_F, labels, FAKE)


def L_L1(F: Tensor, t: Tensor, reduction: str = "sum") -> Tensor:
    """Eq. 7: mean over the batch of |F - t|_1, summed (or averaged) over the classes."""
    distance = (F - t).abs()
    return (distance.sum(dim=1) if reduction == "sum" else distance.mean(dim=1)).mean()


def L_2_GAN(D_t: Tensor, D_F: Tensor, labels: Tensor, objective: str = "bce") -> Tensor:
    """The last term of Eq. 8, 1/2 (L_A - L_DS), which the student minimises."""
    if objective == "lsgan":
        adversarial = V_F(D_F)
    elif objective == "wgan-gp":
        adversarial = W(D_t, D_F)
    else:
        adversarial = L_A(D_t, D_F)
    return 0.5 * (adversarial - L_DS(D_t, D_F, labels))


class DiscriminatorBlock(nn.Module):
    """linear, normalisation, ReLU, dropout, plus a skip (Figure 1, right)."""

    def __init__(self, width: int, dropout: float, *, batch_norm: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm: nn.Module = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[N, width] -> [N, width]."""
        residual: Tensor = self.dropout(functional.relu(self.norm(self.linear(x))))
        return x + residual


class Discriminator(nn.Module):
    """Logits [N, C], and a condition [N, C] where there is one -> scores [N, outputs].

    Args:
        num_classes: C.
        depth: residual blocks.
        dropout: of each.
        outputs: C+2 where it is None.
        embedding: what makes the condition, and is trained with the discriminator.
        batch_norm: whether there are batch normalisations; see above.
    """

    def __init__(
        self,
        num_classes: int,
        depth: int = 3,
        dropout: float = 0.3,
        *,
        outputs: int | None = None,
        embedding: nn.Module | None = None,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        C = num_classes
        self.embedding: nn.Module = nn.Identity() if embedding is None else embedding
        self.norm: nn.Module = nn.BatchNorm1d(C) if batch_norm else nn.Identity()
        self.fold: nn.Module = nn.Identity() if embedding is None else nn.Linear(2 * C, C)
        self.blocks = nn.Sequential(
            *(DiscriminatorBlock(C, dropout, batch_norm=batch_norm) for _ in range(depth))
        )
        self.scores = nn.Linear(C, outputs or C + 2)

    def forward(self, logits: Tensor, condition: Tensor | None = None) -> Tensor:
        """[N, C] and the condition [N, C] -> [N, outputs]."""
        x = self.norm(logits)
        if condition is not None:
            x = self.fold(torch.cat([x, condition], dim=1))
        scores: Tensor = self.scores(self.blocks(x))
        return scores


def make_embedding(condition: str, setting: Setting) -> nn.Module | None:
    """What makes D's condition of images [N, c, h, w], one-hot labels or teacher logits [N, C]."""
    C, channels = setting.num_classes, setting.input_shape[0]
    if condition == "image":
        return nn.Sequential(
            nn.Conv2d(channels, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, C),
            nn.BatchNorm1d(C),
        )
    if condition == "label":
        return nn.Sequential(nn.Linear(C, C), nn.ReLU(), nn.Linear(C, C), nn.BatchNorm1d(C))
    return nn.BatchNorm1d(C) if condition == "teacher" else None


@dataclass(frozen=True)
class LogitGan:
    """The recipe. Without "gan" among the terms only ``l1`` has an effect.

    Attributes:
        depth: residual blocks of the discriminator; Table 4 tries 1 to 4.
        dropout: of the discriminator.
        l1: "sum" (Eq. 7) or "mean" over the classes.
        lr_d: the discriminator's initial learning rate; None for the student's, or for
            ``LR_OF_CRITIC`` with "wgan-gp".
        terms: of Eq. 8, joined by "+": "s", "l1" and "gan" are L_S, L_L1 and 1/2 (L_A - L_DS).
        form: of the discriminator's scores: "c+2" (Eq. 6) or "2c" (Eq. 5).
        objective: of the discriminator's Real and Fake: "bce" (L_A), "lsgan" or "wgan-gp".
        penalty: lambda, the weight of GP in "wgan-gp".
        condition: what the discriminator reads beside logits: "none", "image", "label" or
            "teacher".
    """

    depth: int = 3
    dropout: float = 0.3
    l1: str = "sum"
    lr_d: float | None = None
    terms: str = "s+l1+gan"
    form: str = "c+2"
    objective: str = "bce"
    penalty: float = 10.0
    condition: str = "none"

    name = "logit-gan"
    summary = "a discriminator on the logits learns the loss (Eq. 6 and 8)"
    paper = "Xu et al. 2017, arXiv 1709.00513"
    teacher_outputs = frozenset({LOGITS})
    tasks = CLASSIFICATION

    def __post_init__(self) -> None:
        faults = []
        if self.depth < 1:
            faults.append(f"The discriminator's depth is {self.depth}, it must be 1 or more.")
        if not (math.isfinite(self.dropout) and 0 <= self.dropout < 1):
            faults.append(f"The discriminator's dropout is {self.dropout}, not in [0, 1).")
        if self.lr_d is not None and not (math.isfinite(self.lr_d) and self.lr_d > 0):
            faults.append(f"The discriminator's learning rate is {self.lr_d}, not positive.")
        if not (math.isfinite(self.penalty) and self.penalty >= 0):
            faults.append(f"The penalty's weight is {self.penalty}, it must be 0 or more.")
        terms = self.terms.split("+")
        if not set(terms) <= set(TERMS) or len(set(terms)) < len(terms):
            faults.append(
                f"terms is '{self.terms}', it must be one or more of {', '.join(TERMS)}, each "
                "once, joined by +."
            )
        for option, value, known in (
            ("l1", self.l1, L1_REDUCTIONS),
            ("form", self.form, FORMS),
            ("objective", self.objective, OBJECTIVES),
            ("condition", self.condition, CONDITIONS),
        ):
            if value not in known:
                faults.append(f"{option} is '{value}', it must be {' or '.join(known)}.")
        if self.form == "2c" and self.objective in OBJECTIVES and self.objective != "bce":
            faults.append(
                f"form 2c has no objective {self.objective}: its scores are probabilities of class "
                "and origin together. Take form c+2, or objective bce."
            )
        if faults:
            raise UsageError(" ".join(faults))

    def start(self, setting: Setting) -> Method:
        """See ``Recipe.start``."""
        return LogitGanMethod(setting, self)

    def to_dict(self) -> dict[str, Any]:
        """See ``Recipe.to_dict``."""
        return asdict(self)


class LogitGanMethod:
    """In each step D by Eq. 6 (or 5), then F by Eq. 8."""

    def __init__(self, setting: Setting, options: LogitGan) -> None:
        self.options = options
        self.terms = options.terms.split("+")
        student = self.student = setting.student
        self.modules: Mapping[str, nn.Module] = {"student": student}
        rates: dict[str, float] = {}
        C = self.num_classes = setting.num_classes
        if "gan" in self.terms:
            self.discriminator = Discriminator(
                C,
                options.depth,
                options.dropout,
                outputs=2 * C if options.form == "2c" else C + 2,
                embedding=make_embedding(options.condition, setting),
                batch_norm=options.objective != "wgan-gp",
            ).to(next(student.parameters()).device)
            self.modules = {"student": student, "discriminator": self.discriminator}
            if options.lr_d is not None:
                rates = {"discriminator": options.lr_d}
            elif options.objective == "wgan-gp":
                rates = {"discriminator": LR_OF_CRITIC}
        self.optimizers: Mapping[str, Optimizer] = {
            name: setting.optimizer(module) for name, module in self.modules.items()
        }
        self.phases: Sequence[Phase] = (Phase("train", setting.epochs, rates),)

    def step(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """One iteration. D's update sees the student's logits without its gradient."""
        F = self.student(batch.images)
        scalars = self._update_discriminator(batch, F.detach()) if "gan" in self.terms else {}
        loss = self._L_2(batch, F)
        self.optimizers["student"].zero_grad()
        loss.backward()
        self.optimizers["student"].step()
        return {"loss": loss.detach(), **scalars}

    def _update_discriminator(self, batch: Batch, F: Tensor) -> dict[str, Tensor]:
        """D ascends Eq. 6 or 5; how well it did before."""
        labels, objective = batch.labels, self.options.objective
        D_t, D_F = self._judge(batch, F)
        if self.options.form == "2c":
            gan = L_prime_GAN(D_t, D_F, labels)
            D_t, D_F = marginals(D_t), marginals(D_F)
        else:
            gan = L_GAN(D_t, D_F, labels, objective)
        scalars: dict[str, Tensor] = {}
        if objective == "wgan-gp":
            penalty = self._penalty(batch, F)
            gan = gan - 0.5 * self.options.penalty * penalty
            scalars = {
                "discriminator_distance": W(D_t, D_F).detach(),
                "discriminator_penalty": penalty.detach(),
            }
        self.optimizers["discriminator"].zero_grad()
        (-gan).backward()
        self.optimizers["discriminator"].step()
        if objective in CALLED_REAL:
            real = (s(D_t) > CALLED_REAL[objective]).float().mean()
            fake = (s(D_F) < CALLED_REAL[objective]).float().mean()
            scalars = {
                "discriminator_accuracy": 0.5 * (real + fake),
                "discriminator_real_recognised": real,
                "discriminator_fake_recognised": fake,
            }
        return {
            "discriminator_loss": -gan.detach(),
            **scalars,
            "discriminator_label_accuracy_real": label_accuracy(D_t, labels),
            "discriminator_label_accuracy_fake": label_accuracy(D_F, labels),
        }

    def _L_2(self, batch: Batch, F: Tensor) -> Tensor:
        """Eq. 8, of the terms that are wanted, with D's parameters held."""
        parts = []
        if "s" in self.terms:
            parts.append(L_S(F, batch.targets))
        if "l1" in self.terms:
            parts.append(over_teachers(batch, lambda t: L_L1(F, t, self.options.l1)))
        if "gan" in self.terms:
            self.discriminator.requires_grad_(False)
            D_t, D_F = self._judge(batch, F)
            self.discriminator.requires_grad_(True)
            if self.options.form == "2c":
                D_t, D_F = marginals(D_t), marginals(D_F)
            parts.append(L_2_GAN(D_t, D_F, batch.labels, self.options.objective))
        return torch.stack(parts).sum()

    def _judge(self, batch: Batch, F: Tensor) -> tuple[Tensor, Tensor]:
        """D of the k teachers' logits [kN, ...] and of the student's [N, ...]."""
        condition = self._condition(batch)
        return (
            self.discriminator(_real(batch), _for_each_teacher(condition, batch)),
            self.discriminator(F, condition),
        )

    def _penalty(self, batch: Batch, F: Tensor) -> Tensor:
        """GP between each teacher's logits and the student's F [N, C], at random places."""
        t, condition = _real(batch), _for_each_teacher(self._condition(batch), batch)
        e = torch.rand(len(t), 1, device=t.device)
        F_of_each = F.repeat(len(t) // len(F), 1)
        return GP(lambda z: s(self.discriminator(z, condition)), t, F_of_each, e)

    def _condition(self, batch: Batch) -> Tensor | None:
        """What D reads beside the logits of each image, [N, C]."""
        if self.options.condition == "none":
            return None
        if self.options.condition == "image":
            of = batch.images
        elif self.options.condition == "label":
            of = functional.one_hot(batch.labels, self.num_classes).float()
        else:
            of = over_teachers(batch, lambda t: t)
        condition: Tensor = self.discriminator.embedding(of)
        return condition

    def advice(self, means: Mapping[str, float]) -> str | None:
        """See ``Method.advice``.

        Only bce is warned of saturation: wgan-gp wants a critic that tells all logits apart, and
        the gradient of lsgan does not vanish there.
        """
        lower = "Try a lower learning rate of the discriminator, --lr-d, or a smaller depth."
        if means.get("discriminator_penalty", 0.0) > STEEP:
            return (
                f"The critic's gradients are far longer than the 1 that they are held to. {lower}"
            )
        if "discriminator_accuracy" not in means:
            return None
        real = means["discriminator_real_recognised"]
        fake = means["discriminator_fake_recognised"]
        for answer, called, missed in (
            ("the teacher's", real, fake),
            ("the student's", fake, real),
        ):
            if called >= COLLAPSED and missed <= 1 - COLLAPSED:
                return (
                    f"The discriminator calls nearly all logits {answer}, so the student learns "
                    f"little from it. {lower}"
                )
        if self.options.objective == "bce" and means["discriminator_accuracy"] >= SATURATED:
            return (
                f"The discriminator tells {SATURATED:.0%} or more of the student's logits from the "
                f"teacher's, so the student learns little from it. {lower}"
            )
        return None


def _real(batch: Batch) -> Tensor:
    """The logits of k teachers, one after the other, [kN, C]."""
    return torch.cat(batch.of_teachers(LOGITS))


def _for_each_teacher(condition: Tensor | None, batch: Batch) -> Tensor | None:
    """The condition of ``_real``: [N, C] -> [kN, C]."""
    return None if condition is None else condition.repeat(len(batch.teachers), 1)


def label_accuracy(D: Tensor, labels: Tensor) -> Tensor:
    """Share of the labels [N] that D's class scores hit; D is [kN, C+2]."""
    return (D[:, :-2].argmax(dim=1) == labels.repeat(len(D) // len(labels))).float().mean()
