"""DIST: the student keeps the teacher's relations between predictions, not the predictions.

Huang, You, Wang, Qian and Xu, "Knowledge Distillation from A Stronger Teacher", arXiv 2205.10536.
With Y = softmax(z / tau), a row an image and a column a class:

    Eq. 6   d_p(u, v) = 1 - rho_p(u, v)
    Eq. 7   rho_p(u, v) = Cov(u, v) / (Std(u) Std(v))           Pearson's correlation
    Eq. 8   L_inter = 1/B sum_i d_p(Y^s_i,:, Y^t_i,:)           an image's classes
    Eq. 9   L_intra = 1/C sum_j d_p(Y^s_:,j, Y^t_:,j)           a class over the batch
    Eq. 10  L_tr = alpha L_cls + beta L_inter + gamma L_intra

    F  [B, C]  student logits     t  [B, C]  teacher logits     L_cls  cross-entropy, here L_S
    Y^s, Y^t  [B, C]  student's and teacher's probabilities     tau  temperature

alpha = 1. beta = gamma = 2 and tau = 4 are the authors' configuration for CIFAR-100; for ImageNet
they take tau = 1. As in the authors' code both distances are multiplied by tau^2, which no equation
has, and 1e-8 is added to the denominator of Eq. 7: a class that has the same probability in the
whole batch has correlation 0.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

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
from compress.recipes.supervised import L_S

EPSILON = 1e-8


def rho_p(u: Tensor, v: Tensor) -> Tensor:
    """Eq. 7 for each pair of rows of u and v [n, m] -> [n]."""
    u = u - u.mean(dim=1, keepdim=True)
    v = v - v.mean(dim=1, keepdim=True)
    lengths: Tensor = u.norm(dim=1) * v.norm(dim=1)
    return (u * v).sum(dim=1) / (lengths + EPSILON)


def d_p(u: Tensor, v: Tensor) -> Tensor:
    """Eq. 6 for each pair of rows of u and v [n, m] -> [n]."""
    return 1 - rho_p(u, v)


def L_inter(Y_s: Tensor, Y_t: Tensor) -> Tensor:
    """Eq. 8, of probabilities [B, C]: the mean distance of the rows."""
    return d_p(Y_s, Y_t).mean()


def L_intra(Y_s: Tensor, Y_t: Tensor) -> Tensor:
    """Eq. 9, of probabilities [B, C]: the mean distance of the columns."""
    return d_p(Y_s.T, Y_t.T).mean()


def L_tr(F: Tensor, t: Tensor, labels: Tensor, tau: float, beta: float, gamma: float) -> Tensor:
    """Eq. 10 with alpha = 1 and both distances times tau^2, of logits F and t [B, C]."""
    Y_s, Y_t = functional.softmax(F / tau, dim=1), functional.softmax(t / tau, dim=1)
    relations = beta * L_inter(Y_s, Y_t) + gamma * L_intra(Y_s, Y_t)
    return L_S(F, labels) + tau**2 * relations


@dataclass(frozen=True)
class Dist:
    """The recipe.

    Attributes:
        beta: weight of L_inter.
        gamma: weight of L_intra.
        temperature: tau.
    """

    beta: float = 2.0
    gamma: float = 2.0
    temperature: float = 4.0

    name = "dist"
    summary = "correlation with the teacher's predictions, by image and by class (Eq. 10)"
    paper = "Huang et al. 2022, arXiv 2205.10536"
    teacher_outputs = frozenset({LOGITS})
    tasks = CLASSIFICATION

    def __post_init__(self) -> None:
        check_options(temperature=self.temperature, beta=self.beta, gamma=self.gamma)

    def start(self, setting: Setting) -> Method:
        """See ``Recipe.start``."""
        return OneLoss(setting, self._loss)

    def _loss(self, student: Student, batch: Batch) -> Tensor:
        F, y, tau = student(batch.images), batch.targets, self.temperature
        return over_teachers(batch, lambda t: L_tr(F, t, y, tau, self.beta, self.gamma))

    def to_dict(self) -> dict[str, Any]:
        """See ``Recipe.to_dict``."""
        return asdict(self)
