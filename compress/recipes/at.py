"""Attention transfer: the student looks where the teacher looks.

Zagoruyko and Komodakis, "Paying More Attention to Attention", arXiv 1612.03928, section 3.1:

    Eq. 1   F: [C, H, W] -> [H, W], here F_sum^p(A) = sum_i |A_i|^p over the channels i
    Eq. 2   L_AT = L_S + beta/2 sum_j || Q_S^j / ||Q_S^j||_2 - Q_T^j / ||Q_T^j||_2 ||_2

    A  [C, H, W]  an image's feature map     Q = vec(F(A))  [H W]  its attention map, a vector
    j  the pairs of maps of student and teacher     L_S  the task's loss on the labels

KTAN (arXiv 1810.08126), which compares itself with it, takes one pair, the maps of the last
convolutions, and beta = 0.05.

Left open, and decided here:
  - Eq. 2 does not say what becomes of the images of a batch. The authors take beta to be 10^3
    divided by the attention map's values and by the images of a batch, and KTAN's 0.05 follows
    them: a weight like that belongs to a sum over the images, so they are summed. ``reduction=
    "mean"`` averages them instead; beta then has to grow by the batch size for the same loss.
  - The distance is a norm, as Eq. 2 prints it; the authors' code squares it.
  - p = 2, which the paper's experiments find best.
  - Where height or width differ, the larger attention map is averaged to the smaller size.
    Averaging invents no values, enlarging would. It happens before the normalisation.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional

from compress.models.network import FEATURES, LOGITS
from compress.recipes.fitnet import reduction_faults, same_size
from compress.recipes.recipe import (
    Batch,
    Method,
    OneLoss,
    Setting,
    Student,
    check_options,
)


def F_sum(A: Tensor, p: float) -> Tensor:
    """Eq. 1: feature maps [N, C, H, W] -> attention maps [N, 1, H, W]."""
    return A.abs().pow(p).sum(dim=1, keepdim=True)


def distances(Q_S: Tensor, Q_T: Tensor) -> Tensor:
    """The norm in Eq. 2 for each image, [N]; Q_S and Q_T are attention maps [N, 1, H, W]."""
    S, T = functional.normalize(Q_S.flatten(1)), functional.normalize(Q_T.flatten(1))
    norms: Tensor = (S - T).norm(dim=1)
    return norms


def attention_term(A_S: Tensor, A_T: Tensor, p: float = 2.0, reduction: str = "sum") -> Tensor:
    """Eq. 2 without L_S and beta, of feature maps [N, C, H, W] of any two channels and sizes."""
    d = distances(*same_size(F_sum(A_S, p), F_sum(A_T, p)))
    return 0.5 * (d.sum() if reduction == "sum" else d.mean())


@dataclass(frozen=True)
class AttentionTransfer:
    """The recipe.

    Attributes:
        weight: beta.
        power: p.
        reduction: "sum" or "mean" over the images of a batch.
    """

    weight: float = 0.05
    power: float = 2.0
    reduction: str = "sum"

    name = "at"
    summary = "matches the teacher's spatial attention maps (Eq. 2)"
    paper = "Zagoruyko & Komodakis 2016, arXiv 1612.03928"
    teacher_outputs = frozenset({FEATURES})
    tasks = None

    def __post_init__(self) -> None:
        faults = reduction_faults(self.reduction)
        if not (math.isfinite(self.power) and self.power >= 1):
            faults.append(f"The power is {self.power}, it must be 1 or more.")
        check_options(*faults, weight=self.weight)

    def start(self, setting: Setting) -> Method:
        """See ``Recipe.start``."""

        def loss(student: Student, batch: Batch) -> Tensor:
            found = student.outputs(batch.images, (FEATURES, LOGITS))
            A_S, A_T = found[FEATURES], batch.of_teacher(FEATURES)
            attention = attention_term(A_S, A_T, self.power, self.reduction)
            return setting.loss(found[LOGITS], batch.targets) + self.weight * attention

        return OneLoss(setting, loss)

    def to_dict(self) -> dict[str, Any]:
        """See ``Recipe.to_dict``."""
        return asdict(self)
