"""What a student may be: WRNs of depth 10 to 40 and width 1 to 10, and the CIFAR ResNets."""

from __future__ import annotations

from dataclasses import dataclass

from compress.spec import ModelSpec
from compress.tradeoff.costs import Costs, costs_of

WRN_DEPTHS = (10, 16, 22, 28, 34, 40)
WRN_WIDTHS = tuple(range(1, 11))
RESNET_DEPTHS = (20, 32, 44, 56, 110)


@dataclass(frozen=True)
class Candidate:
    """One possible student and what it costs by its definition."""

    spec: ModelSpec
    costs: Costs

    @property
    def name(self) -> str:
        """Of the architecture."""
        return self.spec.name


def grid(*, num_classes: int, input_shape: tuple[int, int, int]) -> tuple[Candidate, ...]:
    """All 65 candidates, for data of that shape and with so many classes."""
    wrns = [("wrn", depth, width) for depth in WRN_DEPTHS for width in WRN_WIDTHS]
    resnets = [("resnet", depth, 1) for depth in RESNET_DEPTHS]
    specs = (
        ModelSpec(arch, depth, float(width), num_classes=num_classes, input_shape=input_shape)
        for arch, depth, width in wrns + resnets
    )
    return tuple(Candidate(spec, costs_of(spec)) for spec in specs)


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
