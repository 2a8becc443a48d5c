"""Knowledge distillation by softened logits.

Hinton, Vinyals and Dean, arXiv 1503.02531, as restated in "Learning Loss for Knowledge
Distillation with Conditional Adversarial Networks", arXiv 1709.00513:

    Eq. 1   M_T(t)_j = exp(t_j / T) / sum_k exp(t_k / T)
    Eq. 2   L_KD = 1/N sum_i KL( M_T(t_i) || M_T(F(x_i)) )
    Eq. 4   L_1  = 1/2 L_S + T^2 L_KD

    F(x_i)  [N, C]  student logits    t_i  [N, C]  teacher logits    T  temperature

With ``standardise`` L_KD is taken of standardised logits (Algorithm 2 of arXiv 2403.01427, see
``compress.recipes.standardisation``), L_S of the student's own. T is then that paper's base
temperature, which is 2 in its experiments on CIFAR-100; it weighs the second term 90 times the
first, where Eq. 4 weighs it twice.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional

from compress.errors import UsageError
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


def M(t: Tensor, T: float) -> Tensor:
    """Eq. 1: the softmax of logits t [N, C] at temperature T."""
    return functional.softmax(t / T, dim=1)


def L_KD(F: Tensor, t: Tensor, T: float) -> Tensor:
    """Eq. 2: mean over the batch of KL(M_T(t) || M_T(F)), for logits F and t [N, C]."""
    log_student = functional.log_softmax(F / T, dim=1)
    log_teacher = functional.log_softmax(t / T, dim=1)
    return (M(t, T) * (log_teacher - log_student)).sum(dim=1).mean()


def L_1(
    F: Tensor,
    t: Tensor,
    labels: Tensor,
    T: float,
    weight: float | None = None,
    standardise: bool = False,
) -> Tensor:
    """Eq. 4: half the cross-entropy plus T^2 L_KD; or the two weighed by 1 - weight and weight."""
    z, v = (Z(F), Z(t)) if standardise else (F, t)
    hard, soft = (0.5, 1.0) if weight is None else (1 - weight, weight)
    return hard * L_S(F, labels) + soft * T**2 * L_KD(z, v, T)


@dataclass(frozen=True)
class KnowledgeDistillation:
    """The recipe.

    Attributes:
        temperature: T; 5 is what the paper's Table 5 uses.
        weight: of T^2 L_KD, 1 - weight being that of L_S; None for the weights of Eq. 4. KTAN
            (arXiv 1810.08126) compares with 0.9 at T = 4.
        standardise: L_KD of standardised logits.
    """

    temperature: float = 5.0
    weight: float | None = None
    standardise: bool = False

    name = "kd"
    summary = "cross-entropy and the KL divergence of softened logits (Eq. 4)"
    paper = "Hinton et al. 2015, arXiv 1503.02531"
    teacher_outputs = frozenset({LOGITS})
    tasks = CLASSIFICATION

    def __post_init__(self) -> None:
        check_options(temperature=self.temperature)
        if self.weight is not None and not 0 <= self.weight <= 1:
            raise UsageError(f"The weight of kd is {self.weight}, it must be in [0, 1].")

    def start(self, setting: Setting) -> Method:
        """See ``Recipe.start``."""
        return OneLoss(setting, self._loss)

    def _loss(self, student: Student, batch: Batch) -> Tensor:
        F, y, T = student(batch.images), batch.targets, self.temperature
        return over_teachers(batch, lambda t: L_1(F, t, y, T, self.weight, self.standardise))

    def to_dict(self) -> dict[str, Any]:
        """See ``Recipe.to_dict``."""
        return asdict(self)
