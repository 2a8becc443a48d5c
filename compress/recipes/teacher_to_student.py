"""KTAN's Teacher-to-Student layer R: one convolution that gives m_t the shape of m_s.

Liu et al., "KTAN: Knowledge Transfer Adversarial Network", arXiv 1810.08126, "Knowledge
Regressor": R has as many output channels as the student's map, and in each dimension i of h and w

    (M_t,i + 2 P_i - K_i) / S_i + 1 = M_s,i

    m_t  [N, C_t, M_t,h, M_t,w]  teacher's map    m_s  [N, C_s, M_s,h, M_s,w]  student's map
    K  kernel    S  stride    P  padding

The formula has many solutions. Taken is that with the smallest kernel, then the smallest padding,
among those
  - that divide without rest, and whose kernel is no smaller than the stride: every pixel is read;
  - whose padding is half the kernel at most: no output is of zeros alone.
Equal sizes give 1x1, a map n times as large gives kernel and stride n without padding. A teacher's
map that is smaller than the student's by more than one pixel has none. A transposed convolution
would make one, and would be another layer than the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from compress.errors import UsageError
from compress.recipes.recipe import Shape


@dataclass(frozen=True)
class Window:
    """K, S and P in one dimension."""

    kernel: int
    stride: int
    padding: int


def window(M_t: int, M_s: int) -> Window | None:
    """The solution of the formula that the module's text describes; None where there is none."""
    for K in range(1, M_t + 2):
        for P in range(K // 2 + 1):
            steps, span = M_s - 1, M_t + 2 * P - K
            if steps == 0 and span == 0:
                return Window(K, 1, P)
            if steps > 0 and span > 0 and span % steps == 0 and span // steps <= K:
                return Window(K, span // steps, P)
    return None


class TeacherToStudent(nn.Module):
    """R: m_t -> a map of the student's shape.

    Args:
        teacher: channels, height and width of m_t.
        student: of m_s.
        rectify: whether a ReLU follows the convolution.

    Raises:
        UsageError: no convolution makes the one size of the other.
    """

    def __init__(self, teacher: Shape, student: Shape, *, rectify: bool) -> None:
        super().__init__()
        h, w = (window(M_t, M_s) for M_t, M_s in zip(teacher[1:], student[1:], strict=True))
        if h is None or w is None:
            raise UsageError(
                "The Teacher-to-Student layer is one convolution of kernel K, stride S and "
                "padding P with (M_t + 2P - K)/S + 1 = M_s in height and width. The teacher's "
                f"last map is {teacher[1]}x{teacher[2]}, the student's {student[1]}x{student[2]}, "
                "but a convolution cannot enlarge a map. Choose a student whose last map is no "
                "larger than the teacher's, or a recipe without this limit: kd, fitnet or at."
            )
        self.conv = nn.Conv2d(
            teacher[0],
            student[0],
            kernel_size=(h.kernel, w.kernel),
            stride=(h.stride, w.stride),
            padding=(h.padding, w.padding),
        )
        self.rectify = rectify

    def forward(self, m_t: Tensor) -> Tensor:
        """[N, C_t, M_t,h, M_t,w] -> [N, C_s, M_s,h, M_s,w]."""
        maps: Tensor = self.conv(m_t)
        return functional.relu(maps) if self.rectify else maps

    def extra_repr(self) -> str:
        """What its parameters do not show."""
        return f"rectify={self.rectify}"
