"""What a student may be: WRNs of depth 10 to 40 and width 1 to 10, and the CIFAR ResNets.

Each in one or several precisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.spec import ModelSpec
from compress.tradeoff.costs import Costs, costs_of

WRN_DEPTHS = (10, 16, 22, 28, 34, 40)
WRN_WIDTHS = tuple(range(1, 11))
RESNET_DEPTHS = (20, 32, 44, 56, 110)

WEIGHT_BYTES = {"fp16": 2, "bf16": 2, "int8": 1}


@dataclass(frozen=True)
class Candidate:
    """One possible student and what it costs by its definition."""

    spec: ModelSpec
    costs: Costs
    precision: str = "fp32"

    @property
    def name(self) -> str:
        """'wrn-10-4', 'wrn-10-4 int8'."""
        return candidate_name(self.spec, self.precision)

    @property
    def file_bytes(self) -> int:
        """Of its ONNX file: within 1% in fp32; in fewer bits, what its weights take."""
        if self.precision == "fp32":
            return self.costs.file_bytes
        return self.costs.params * WEIGHT_BYTES[self.precision]


def candidate_name(spec: ModelSpec, precision: str) -> str:
    """Of an architecture in a precision; the architecture's alone in fp32."""
    return spec.name if precision == "fp32" else f"{spec.name} {precision}"


def grid(
    *,
    num_classes: int,
    input_shape: tuple[int, int, int],
    precisions: Sequence[str] = ("fp32",),
) -> tuple[Candidate, ...]:
    """All 65 architectures in each precision, for data of that shape and with so many classes."""
    wrns = [("wrn", depth, width) for depth in WRN_DEPTHS for width in WRN_WIDTHS]
    resnets = [("resnet", depth, 1) for depth in RESNET_DEPTHS]
    specs = (
        ModelSpec(arch, depth, float(width), num_classes=num_classes, input_shape=input_shape)
        for arch, depth, width in wrns + resnets
    )
    counted = [(spec, costs_of(spec)) for spec in specs]
    return tuple(
        Candidate(spec, costs, precision) for precision in precisions for spec, costs in counted
    )


def dominates(larger: ModelSpec, smaller: ModelSpec) -> bool:
    """Whether ``larger`` does everything that ``smaller`` does, and more.

    That is so within a family, for what is no shallower and no narrower.
    """
    return (
        larger.arch == smaller.arch
        and larger.depth >= smaller.depth
        and larger.width >= smaller.width
        and (larger.depth, larger.width) != (smaller.depth, smaller.width)
    )
