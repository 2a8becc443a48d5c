"""What result.json of one training of ``compress reproduce`` has to have, to be read again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from compress.schema.rules import Beside, Epochs, Name, Number, Seed, Share

Open = Beside(("*",))


@dataclass(frozen=True)
class EpochScores:
    """What the student has right after an epoch, fractions of 1."""

    validation: Share
    test: Share
    epoch: Epochs


@dataclass(frozen=True)
class FinishedTraining:
    """One training; without ``last`` it diverged."""

    student: Name
    method: Name
    seed: Seed
    params: Number
    last: Annotated[EpochScores, Open] | None = None
    best: Annotated[EpochScores, Open] | None = None
