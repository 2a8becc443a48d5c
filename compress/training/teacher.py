"""A pretrained network of anybody's, made ready to teach: identified, and judged against chance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from compress.data.dataset import Dataset
from compress.data.normalization import describe, name_of
from compress.errors import DataError, TeacherError
from compress.files import sha256_of
from compress.models.network import Network
from compress.models.recognition.statement import statement_of, structure
from compress.spec import ModelSpec, Normalization
from compress.training.chance import Standing, compare_with_chance
from compress.training.evaluation import accuracy, logits_of, predictor
from compress.training.identification import Identified, identify
from compress.units import format_percent


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
    labels = data.validation.labels
    logits = logits_of(predictor(found.network), data.validation.images, found.normalization)
    chance = compare_with_chance(logits, labels)
    if chance.standing is Standing.NO_BETTER:
        raise TeacherError(f"The teacher is {chance.text} {_causes(logits, labels, found)}")
    notes = list(found.notes)
    if chance.standing is Standing.UNDECIDED:
        notes.append(f"Warning: the teacher is {chance.text}")
    return Teacher(
        found.network,
        found.spec,
        found.normalization,
        accuracy(logits, labels),
        tuple(notes),
        sha256_of(path),
    )


def _causes(logits: Tensor, labels: Tensor, found: Identified) -> str:
    """Why a network may be no better than chance."""
    predicted, labels = logits.argmax(dim=1), labels.cpu()
    # The best that renumbering the classes could do.
    table = torch.zeros(logits.shape[1], logits.shape[1], dtype=torch.long)
    table.index_put_((predicted, labels), torch.ones_like(labels), accumulate=True)
    renumbered = float(table.max(dim=1).values.sum()) / len(labels)
    share = float((predicted == labels).double().mean())
    commonest = float(torch.bincount(labels).max()) / len(labels)
    hint = ""
    if renumbered > 2 * max(share, commonest) and renumbered > 0.5:
        hint = (
            " (likely: with other class numbers it would be right on "
            f"{format_percent(renumbered, 1)})"
        )
    names = ", ".join(name_of(value) or describe(value) for value in found.tried)
    return (
        f"Likely causes: its classes differ or are in another order{hint}; its images were "
        f"normalised differently (tried: {names}; give it with --normalize); it is not a "
        f"{found.spec.name} ({structure(found.spec)}; give it with --teacher-arch, for instance "
        f"{statement_of(found.spec)})."
    )
