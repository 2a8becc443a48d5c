"""Ground truth alone: the baseline of every table.

Eq. 3 of "Learning Loss for Knowledge Distillation with Conditional Adversarial Networks",
arXiv 1709.00513:

    L_S(F) = 1/N sum_i H(l_i, M_1(F(x_i)))

    F(x_i)  [N, C]  student logits            l_i  [N]  labels
    M_1     the softmax at temperature 1      H    the cross-entropy
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from compress.recipes.recipe import Batch, Method, OptimizerFactory


def L_S(F: Tensor, labels: Tensor) -> Tensor:
    """Eq. 3: the mean cross-entropy of student logits F [N, C] and labels [N]."""
    return functional.cross_entropy(F, labels)


@dataclass(frozen=True)
class Supervised:
    """The recipe; it has no options."""

    name = "supervised"
    summary = "cross-entropy with the labels; no teacher"
    paper = "-"
    needs_teacher = False

    def start(self, student: nn.Module, num_classes: int, optimizer: OptimizerFactory) -> Method:
        """See ``Recipe.start``."""
        return SupervisedMethod(student, optimizer)

    def to_dict(self) -> dict[str, Any]:
        """See ``Recipe.to_dict``."""
        return asdict(self)


class SupervisedMethod:
    """L_S on the student."""

    def __init__(self, student: nn.Module, optimizer: OptimizerFactory) -> None:
        self.student = student
        self.modules: Mapping[str, nn.Module] = {"student": student}
        self.optimizers: Mapping[str, Optimizer] = {"student": optimizer(student)}

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One step on L_S."""
        loss = L_S(self.student(batch.images), batch.labels)
        self.optimizers["student"].zero_grad()
        loss.backward()
        self.optimizers["student"].step()
        return {"loss": loss.detach()}
