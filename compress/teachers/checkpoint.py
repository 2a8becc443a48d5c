"""A teacher from a checkpoint of anybody's that is a network of ``compress.models``."""

from __future__ import annotations

from pathlib import Path

import torch

from compress.data.dataset import Dataset
from compress.files import sha256_of
from compress.models.statement import statement_of, structure
from compress.spec import Normalization
from compress.teachers.network import NetworkTeacher
from compress.teachers.opened import OpenedTeacher
from compress.training.identification import identify


def open_checkpoint(
    path: Path,
    data: Dataset,
    *,
    normalization: Normalization | None,
    arch: str | None,
    device: torch.device,
) -> OpenedTeacher[NetworkTeacher]:
    """Identifies a checkpoint; see ``identify``, which has the same arguments.

    Raises:
        CheckpointError: the file cannot be used.
        TeacherError: other classes or channels than the data.
        DataError, UsageError: as ``identify``.
    """
    found = identify(path, data, normalization=normalization, arch=arch, device=device)
    return OpenedTeacher(
        NetworkTeacher(found.network, found.normalization),
        sha256=sha256_of(path),
        tried=found.tried,
        notes=found.notes,
        doubt=(
            f"it is another network than {found.spec.name} ({structure(found.spec)}; say it with "
            f"--teacher-arch, for instance {statement_of(found.spec)})"
        ),
    )
