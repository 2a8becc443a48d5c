"""A pretrained network of anybody's, made ready to teach: identified, and judged against chance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from compress.data.dataset import Dataset
from compress.data.normalization import describe, name_of
from compress.errors import DataError, TeacherError
from compress.files import sha256_of
from compress.models.network import Network
from compress.models.statement import statement_of, structure
from compress.spec import ModelSpec, Normalization
from compress.tasks.task import Chance, Standing
from compress.training.evaluation import answers_to, predictor
from compress.training.identification import Identified, identify


@dataclass(frozen=True)
class Teacher:
    """A network that a student can learn from.

    Attributes:
        network: in evaluation mode, frozen, on its device.
        spec: what it is.
        normalization: what its images go through.
        accuracy: on the validation images, as a fraction of 1.
        notes: what was found and assumed, in sentences.
        sha256: of the file.
    """

    network: Network
    spec: ModelSpec
    normalization: Normalization
    accuracy: float
    notes: tuple[str, ...]
    sha256: str


def load_teacher(
    path: Path,
    data: Dataset,
    *,
    normalization: Normalization | None,
    arch: str | None,
    device: torch.device,
) -> Teacher:
    """Identifies a checkpoint (see ``identify``, the same arguments) and judges it as a teacher.

    Raises:
        CheckpointError: the file cannot be used.
        TeacherError: other classes or channels than the data, or no better than chance.
        DataError: there are no validation images to judge it on.
        UsageError: ``arch`` or ``normalization`` cannot be.
    """
    if len(data.validation) == 0:
        raise DataError(
            f"There are no validation images to judge the teacher {path}. Hold some out with "
            "--validation."
        )
    found = identify(path, data, normalization=normalization, arch=arch, device=device)
    task, targets = data.task, data.validation.targets
    predict = predictor(found.network, task)
    outputs = answers_to(predict, data.validation.images, found.normalization)
    chance = task.chance(outputs, targets)
    if chance.standing is Standing.NO_BETTER:
        raise TeacherError(f"The teacher is {chance.text} {_causes(chance, found)}")
    notes = list(found.notes)
    if chance.standing is Standing.UNDECIDED:
        notes.append(f"Warning: the teacher is {chance.text}")
    return Teacher(
        found.network,
        found.spec,
        found.normalization,
        task.evidence(outputs, targets).value,
        tuple(notes),
        sha256_of(path),
    )


def _causes(chance: Chance, found: Identified) -> str:
    """Why a network may be no better than chance."""
    names = ", ".join(name_of(value) or describe(value) for value in found.tried)
    return (
        f"Likely causes: {chance.cause}; its images were normalised differently (tried: {names}; "
        f"give it with --normalize); it is not a {found.spec.name} ({structure(found.spec)}; give "
        f"it with --teacher-arch, for instance {statement_of(found.spec)})."
    )
