"""FitNet: the student's feature map is led to the teacher's.

Romero et al., "FitNets: Hints for Thin Deep Nets", arXiv 1412.6550, in the form that KTAN (arXiv
1810.08126) compares itself with: the hint is the last convolution's output, and one loss of weight
4 is trained in one go instead of the hint first and the labels after it.

    Eq. 3   L_HT = 1/2 || u_h - r(v_g) ||^2
    loss    L_S + weight L_HT

    u_h  [N, C_t, h, w]  the teacher's hint, m_t        v_g  [N, C_s, h, w]  the student's, m_s
    r  the regressor: C_s channels -> C_t channels      L_S  the task's loss on the labels

Left open, and decided here:
  - || ||^2 is averaged over the map's values as KTAN's Eq. 2 does, so that the weights of the two
    papers mean the same and no learning rate depends on the map's size. ``reduction="sum"`` sums
    them as Eq. 3 prints it. Over the batch it is a mean.
  - r is a 1x1 convolution where the channels differ, and nothing where they are equal: a regressor
    keeps a part of the knowledge to itself, as KTAN remarks.
  - A ReLU follows r: "u_h and r must be the same non-linearity" (section 2.2), and every network
    here ends its features with one.
  - Where height or width differ, the larger map is averaged to the smaller size; the regressor
    of the paper, a larger kernel without padding, exists for a larger student map only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from compress.models.network import FEATURES, LOGITS
from compress.recipes.recipe import (
    Batch,
    Method,
    OneLoss,
    Setting,
    Student,
    check_options,
)


def reduction_faults(reduction: str) -> list[str]:
    """What is wrong with the option of that name."""
    known = ("mean", "sum")
    return [] if reduction in known else [f"The reduction is '{reduction}', not 'mean' or 'sum'."]


def same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Maps a and b [N, ., h, w], the larger in each dimension averaged to the smaller size."""
    h, w = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
    return functional.adaptive_avg_pool2d(a, (h, w)), functional.adaptive_avg_pool2d(b, (h, w))


def L_HT(u_h: Tensor, r: Tensor, reduction: str = "mean") -> Tensor:
    """Eq. 3, of maps [N, C_t, h, w]: half the squared difference, a mean over the batch."""
    square = (u_h - r).square().flatten(1)
    return 0.5 * (square.mean(dim=1) if reduction == "mean" else square.sum(dim=1)).mean()


@dataclass(frozen=True)
class FitNet:
    """The recipe.

    Attributes:
        weight: of L_HT.
        reduction: "mean" or "sum" over a map's values.
    """

    weight: float = 4.0
    reduction: str = "mean"

    name = "fitnet"
    summary = "regression of the teacher's last feature map (Eq. 3)"
    paper = "Romero et al. 2014, arXiv 1412.6550"
    teacher_outputs = frozenset({FEATURES})
    tasks = None

    def __post_init__(self) -> None:
        check_options(*reduction_faults(self.reduction), weight=self.weight)

    def start(self, setting: Setting) -> Method:
        """See ``Recipe.start``."""
        C_t, C_s = setting.teacher_shape(FEATURES)[0], setting.student_shapes[FEATURES][0]
        regressor: nn.Module = nn.Identity()
        if C_s != C_t:
            regressor = nn.Sequential(nn.Conv2d(C_s, C_t, 1), nn.ReLU())

        def loss(student: Student, batch: Batch) -> Tensor:
            found = student.outputs(batch.images, (FEATURES, LOGITS))
            u_h, r = same_size(batch.of_teacher(FEATURES), regressor(found[FEATURES]))
            hint = L_HT(u_h, r, self.reduction)
            return setting.loss(found[LOGITS], batch.targets) + self.weight * hint

        return OneLoss(setting, loss, {} if C_s == C_t else {"regressor": regressor})

    def to_dict(self) -> dict[str, Any]:
        """See ``Recipe.to_dict``."""
        return asdict(self)
