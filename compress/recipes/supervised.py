"""Ground truth alone: the baseline of every table.

Eq. 3 of "Learning Loss for Knowledge Distillation with Conditional Adversarial Networks",
arXiv 1709.00513:

    L_S(F) = 1/N sum_i H(l_i, M_1(F(x_i)))

    F(x_i)  [N, C]  student logits            l_i  [N]  labels
    M_1     the softmax at temperature 1      H    the cross-entropy

Other tasks than classification have a loss of their own in the place of H.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional

from compress.recipes.recipe import NOTHING, Method, OneLoss, Setting


def L_S(F: Tensor, labels: Tensor) -> Tensor:
    """Eq. 3: the mean cross-entropy of student logits F [N, C] and labels [N].

    With label smoothing the labels are probabilities, [N, C].
    """
    return functional.cross_entropy(F, labels)


@dataclass(frozen=True)
class Supervised:
    """The recipe; it has no options."""

    name = "supervised"
    summary = "cross-entropy with the labels; no teacher"
    paper = "-"
    teacher_outputs = NOTHING
    tasks = None

    def start(self, setting: Setting) -> Method:
        """See ``Recipe.start``."""
        return OneLoss(
            setting, lambda student, batch: setting.loss(student(batch.images), batch.targets)
        )

    def to_dict(self) -> dict[str, Any]:
        """See ``Recipe.to_dict``."""
        return asdict(self)
