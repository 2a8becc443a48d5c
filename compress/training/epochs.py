"""The epochs of a training, through all phases of its method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.recipes.recipe import Phase


@dataclass(frozen=True)
class Epoch:
    """One epoch among all.

    Attributes:
        number: from 1, through all phases.
        phase: that it is a part of.
        in_phase: its number in that phase, from 0.
        view: of the images, from 1. The epochs in which the student learns count their views, and
            so do the others: both then share what is kept of the teacher for a view.
    """

    number: int
    phase: Phase
    in_phase: int
    view: int


def epochs_of(phases: Sequence[Phase], reused_views: int | None) -> list[Epoch]:
    """All epochs in order.

    Args:
        phases: of the method.
        reused_views: how many views serve all epochs in turn; None where each has its own.
    """
    epochs: list[Epoch] = []
    seen = {True: 0, False: 0}
    for phase in phases:
        for in_phase in range(phase.epochs):
            view = seen[phase.trains_student]
            seen[phase.trains_student] += 1
            if reused_views is not None:
                view %= reused_views
            epochs.append(Epoch(len(epochs) + 1, phase, in_phase, 1 + view))
    return epochs
