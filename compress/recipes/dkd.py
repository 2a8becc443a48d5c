"""Decoupled knowledge distillation: the target class and the other classes weighed apart.

Zhao, Cui, Song, Qiu and Liang, "Decoupled Knowledge Distillation", arXiv 2203.08679. With
p = softmax(z / T) for the logits z of one image and t its class:

    Eq. 1   b = [p_t, 1 - p_t]                      the target class against all others
    Eq. 2   p^_i = exp(z_i / T) / sum_{j != t} exp(z_j / T)     the others among themselves
    Eq. 5   KL(p^T || p^S) = KL(b^T || b^S) + (1 - p_t^T) KL(p^^T || p^^S)
    Eq. 6                  = TCKD + (1 - p_t^T) NCKD
    Eq. 7   DKD = alpha TCKD + beta NCKD

The superscripts T and S stand for teacher and student. In Eq. 6 NCKD counts the less the surer the
teacher is; Eq. 7 replaces that factor by beta. The student minimises, as in the authors' code,

            L = L_S + T^2 DKD

    F(x_i)  [N, C]  student logits    t_i  [N, C]  teacher logits    labels  [N]    T  temperature

alpha = 1, beta = 8 and T = 4 are the values for CIFAR-100 in the paper's supplement and the
defaults of the authors' code; its configurations take another beta for some pairs of networks (6
for wrn-40-2 to wrn-16-2).

Left out: the authors' code multiplies DKD by min(epoch / 20, 1). No equation has this, and a
recipe's step knows no epoch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compress.models.network import LOGITS
from compress.recipes.recipe import (
    CLASSIFICATION,
    Batch,
    Method,
    OneLoss,
    Setting,
    Student,
    check_options,
    over_teachers,
)
from compress.recipes.standardisation import Z
from compress.recipes.supervised import L_S


def others(z: Tensor, labels: Tensor) -> Tensor:
    """The logits of the classes that are not the label, [N, C] -> [N, C-1].

    They come in cyclic order from the label on, alike for teacher and student.
    """
    classes = z.shape[1]
    steps = torch.arange(1, classes, device=z.device)
    return z.gather(1, (labels[:, None] + steps) % classes)


def log_b(z: Tensor, labels: Tensor, T: float) -> Tensor:
    """Eq. 1: the logarithms of p_t and 1 - p_t, [N, 2]."""
    target = z.gather(1, labels[:, None])[:, 0] / T
    rest = torch.logsumexp(others(z, labels) / T, dim=1)
    return functional.log_softmax(torch.stack((target, rest), dim=1), dim=1)


def log_p_hat(z: Tensor, labels: Tensor, T: float) -> Tensor:
    """Eq. 2: the logarithm of the distribution over the other classes, [N, C-1]."""
    return functional.log_softmax(others(z, labels) / T, dim=1)


def KL(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The divergence of q from p, a mean over the batch, of their logarithms [N, k]."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


def TCKD(F: Tensor, t: Tensor, labels: Tensor, T: float) -> Tensor:
    """KL(b^T || b^S) of Eq. 5, for logits F and t [N, C]."""
    return KL(log_b(t, labels, T), log_b(F, labels, T))


def NCKD(F: Tensor, t: Tensor, labels: Tensor, T: float) -> Tensor:
    """KL(p^^T || p^^S) of Eq. 5, for logits F and t [N, C]."""
    return KL(log_p_hat(t, labels, T), log_p_hat(F, labels, T))


def DKD(F: Tensor, t: Tensor, labels: Tensor, T: float, alpha: float, beta: float) -> Tensor:
    """Eq. 7."""
    return alpha * TCKD(F, t, labels, T) + beta * NCKD(F, t, labels, T)


@dataclass(frozen=True)
class DecoupledKnowledgeDistillation:
    """The recipe.

    Attributes:
        alpha: weight of TCKD.
        beta: weight of NCKD.
        temperature: T.
        standardise: DKD of standardised logits, see ``compress.recipes.standardisation``.
    """

    alpha: float = 1.0
    beta: float = 8.0
    temperature: float = 4.0
    standardise: bool = False

    name = "dkd"
    summary = (
        "KL divergences of the target class and of the other classes, weighted separately (Eq. 7)"
    )
    paper = "Zhao et al. 2022, arXiv 2203.08679"
    teacher_outputs = frozenset({LOGITS})
    tasks = CLASSIFICATION

    def __post_init__(self) -> None:
        check_options(temperature=self.temperature, alpha=self.alpha, beta=self.beta)

    def start(self, setting: Setting) -> Method:
        """See ``Recipe.start``."""
        return OneLoss(setting, self._loss)

    def _loss(self, student: Student, batch: Batch) -> Tensor:
        F, y = student(batch.images), batch.labels

        def term(t: Tensor) -> Tensor:
            z, v = (Z(F), Z(t)) if self.standardise else (F, t)
            return DKD(z, v, y, self.temperature, self.alpha, self.beta)

        return L_S(F, batch.targets) + self.temperature**2 * over_teachers(batch, term)

    def to_dict(self) -> dict[str, Any]:
        """See ``Recipe.to_dict``."""
        return asdict(self)
