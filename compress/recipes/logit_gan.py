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

Left open by the paper, and decided here:
  - P(Real) and P(Fake) are a softmax over D's two last scores, P(l) over its first C.
  - D is trained by the optimiser and schedule of the student.
  - While the student is updated, D stays in training mode: its batch norms use the batch, as they
    do while D itself is trained. Only D's parameters are held.
  - |.|_1 is summed over the classes, as Eq. 7 prints it. torch's L1Loss averages over them, which
    makes this term C times smaller: ``l1="mean"``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from compress.errors import UsageError
from compress.recipes.recipe import LOGITS, Batch, Method, Phase, Setting, over_teachers
from compress.recipes.supervised import L_S

REAL, FAKE = 0, 1


def log_P_origin(D: Tensor, origin: int) -> Tensor:
    """Mean log-probability of REAL or FAKE, from D's two last scores; D is [N, C+2]."""
    return functional.log_softmax(D[:, -2:], dim=1)[:, origin].mean()


def log_P_label(D: Tensor, labels: Tensor) -> Tensor:
    """Mean log-probability of the labels [N], from D's first C scores; D is [N, C+2]."""
    return -functional.cross_entropy(D[:, :-2], labels)


def L_A(D_t: Tensor, D_F: Tensor) -> Tensor:
    """The adversarial log-likelihood, from D(t) and D(F(x)), both [N, C+2]."""
    return log_P_origin(D_t, REAL) + log_P_origin(D_F, FAKE)


def L_DS(D_t: Tensor, D_F: Tensor, labels: Tensor) -> Tensor:
    """The log-likelihood of the labels, from D(t) and D(F(x)), both [N, C+2]."""
    return log_P_label(D_t, labels) + log_P_label(D_F, labels)


def L_GAN(D_t: Tensor, D_F: Tensor, labels: Tensor) -> Tensor:
    """Eq. 6, which the discriminator maximises."""
    return 0.5 * (L_A(D_t, D_F) + L_DS(D_t, D_F, labels))


def L_L1(F: Tensor, t: Tensor, reduction: str = "sum") -> Tensor:
    """Eq. 7: mean over the batch of |F - t|_1, summed (or averaged) over the classes."""
    distance = (F - t).abs()
    return (distance.sum(dim=1) if reduction == "sum" else distance.mean(dim=1)).mean()


def L_2(F: Tensor, t: Tensor, labels: Tensor, D_t: Tensor, D_F: Tensor, l1: str = "sum") -> Tensor:
    """Eq. 8, which the student minimises."""
    adversarial = 0.5 * (L_A(D_t, D_F) - L_DS(D_t, D_F, labels))
    return L_S(F, labels) + L_L1(F, t, l1) + adversarial


class DiscriminatorBlock(nn.Module):
    """linear, batch normalisation, ReLU, dropout, plus a skip (Figure 1, right)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.bn = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[N, width] -> [N, width]."""
        residual: Tensor = self.dropout(functional.relu(self.bn(self.linear(x))))
        return x + residual


class Discriminator(nn.Module):
    """Logits [N, C] -> C class scores and the scores of Real and Fake, [N, C+2]."""

    def __init__(self, num_classes: int, depth: int = 3, dropout: float = 0.3) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(num_classes)
        blocks = (DiscriminatorBlock(num_classes, dropout) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.scores = nn.Linear(num_classes, num_classes + 2)

    def forward(self, logits: Tensor) -> Tensor:
        """[N, C] -> [N, C+2]."""
        scores: Tensor = self.scores(self.blocks(self.bn(logits)))
        return scores


@dataclass(frozen=True)
class LogitGan:
    """The recipe.

    Attributes:
        depth: residual blocks of the discriminator; Table 4 tries 1 to 4.
        dropout: of the discriminator.
        l1: "sum" (Eq. 7) or "mean" over the classes.
        lr_d: the discriminator's initial learning rate; None for the student's.
    """

    depth: int = 3
    dropout: float = 0.3
    l1: str = "sum"
    lr_d: float | None = None

    name = "logit-gan"
    summary = "a discriminator on the logits learns the loss (Eq. 6 and 8)"
    paper = "Xu et al. 2017, arXiv 1709.00513"
    teacher_outputs = frozenset({LOGITS})

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise UsageError(f"The discriminator's depth is {self.depth}, it must be 1 or more.")
        if not (math.isfinite(self.dropout) and 0 <= self.dropout < 1):
            raise UsageError(f"The discriminator's dropout is {self.dropout}, not in [0, 1).")
        if self.lr_d is not None and not (math.isfinite(self.lr_d) and self.lr_d > 0):
            raise UsageError(f"The discriminator's learning rate is {self.lr_d}, not positive.")
        if self.l1 not in ("sum", "mean"):
            raise UsageError(f"l1 is '{self.l1}', it must be 'sum' or 'mean'.")

    def start(self, setting: Setting) -> Method:
        """See ``Recipe.start``."""
        return LogitGanMethod(setting, self)

    def to_dict(self) -> dict[str, Any]:
        """See ``Recipe.to_dict``."""
        return asdict(self)


class LogitGanMethod:
    """In each step D by Eq. 6, then F by Eq. 8."""

    def __init__(self, setting: Setting, options: LogitGan) -> None:
        student = self.student = setting.student
        device = next(student.parameters()).device
        self.discriminator = Discriminator(
            setting.num_classes, options.depth, options.dropout
        ).to(device)
        self.l1 = options.l1
        self.modules: Mapping[str, nn.Module] = {
            "student": student,
            "discriminator": self.discriminator,
        }
        self.optimizers: Mapping[str, Optimizer] = {
            "student": setting.optimizer(student),
            "discriminator": setting.optimizer(self.discriminator),
        }
        self.phases: Sequence[Phase] = (
            Phase("train", setting.epochs, {} if options.lr_d is None else {"discriminator": options.lr_d}),)

    def step(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """One iteration. D's update sees the student's logits without its gradient."""
        t = over_teachers(batch, lambda t: t)
        D, labels = self.discriminator, batch.labels
        F = self.student(batch.images)

        D_t, D_F = D(t), D(F.detach())
        gan = L_GAN(D_t, D_F, labels)
        self.optimizers["discriminator"].zero_grad()
        (-gan).backward()
        self.optimizers["discriminator"].step()
        with torch.no_grad():
            seen_real = (D_t[:, -2] > D_t[:, -1]).float().mean()
            seen_fake = (D_F[:, -2] < D_F[:, -1]).float().mean()

        D.requires_grad_(False)
        loss = L_2(F, t, labels, D(t), D(F), self.l1)
        self.optimizers["student"].zero_grad()
        loss.backward()
        self.optimizers["student"].step()
        D.requires_grad_(True)
        return {
            "loss": loss.detach(),
            "discriminator_loss": -gan.detach(),
            "discriminator_accuracy": 0.5 * (seen_real + seen_fake),
        }

    def advice(self, means: Mapping[str, float]) -> str | None:
        """See ``Method.advice``."""
        return None
