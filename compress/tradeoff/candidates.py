"""What a student may be: the candidates of every family, each in one or several precisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.models.registry import FAMILIES, architecture, spec_of
from compress.spec import ModelSpec
from compress.tradeoff.costs import Costs, costs_of

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
        """Of its ONNX file: within 1% in fp32; in reduced precision, what its weights take."""
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
    """All candidates of the families in each precision, for such images and so many classes."""
    specs = (
        spec_of(name, num_classes=num_classes, input_shape=input_shape)
        for family in FAMILIES.values()
        for name in family.candidates(input_shape)
    )
    counted = [(spec, costs_of(spec)) for spec in specs]
    return tuple(
        Candidate(spec, costs, precision) for precision in precisions for spec, costs in counted
    )


def dominates(larger: ModelSpec, smaller: ModelSpec) -> bool:
    """Whether ``larger`` does everything that ``smaller`` does, and more.

    That is so within a family, for what is no smaller in any of its sizes.
    """
    steps = _steps(larger, smaller)
    return any(steps) and min(steps) >= 0


def is_step(larger: ModelSpec, smaller: ModelSpec) -> bool:
    """Whether ``larger`` is one step deeper or one step wider in the same family."""
    steps = _steps(larger, smaller)
    return sum(steps) == max(steps, default=0) == 1 and min(steps) >= 0


def _steps(there: ModelSpec, here: ModelSpec) -> list[float]:
    """By how many steps of their family two networks differ in each size; none: other families."""
    if there.family != here.family:
        return []
    sizes = zip(architecture(there).size, architecture(here).size, strict=True)
    steps = FAMILIES[here.family].step
    return [(to - off) / step for (to, off), step in zip(sizes, steps, strict=True)]
