"""Scoring a file, whatever it is, on a data set's test images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.data.dataset import Dataset
from compress.data.normalization import describe
from compress.errors import DataError
from compress.files import sha256_of
from compress.onnx_file import is_onnx
from compress.profiling.machine import default_threads
from compress.report.document import Document, Key, Text
from compress.results import SCHEMA_VERSION
from compress.spec import Normalization, Target
from compress.tasks.task import Evidence, Metric, Standing
from compress.training.device import choose_device
from compress.training.evaluation import answers_to, predictor
from compress.training.identification import identify
from compress.training.scoring import score_onnx


@dataclass(frozen=True)
class Evaluation:
    """How a file scores.

    Attributes:
        name: of its architecture, or of the file.
        sha256: of the file.
        normalization: that it was scored with.
        metric: of its score.
        evidence: what each test image contributes to it.
        data: the data set's name and hash.
        notes: what was found and assumed, in sentences.
    """

    name: str
    sha256: str
    normalization: Normalization
    metric: Metric
    evidence: Evidence = field(repr=False)
    data: tuple[str, str]
    notes: tuple[str, ...]

    @property
    def test(self) -> float:
        """The score on the test images; accuracy as a fraction of 1."""
        return self.evidence.value

    @property
    def n(self) -> int:
        """How many test images there are."""
        return len(self.evidence)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "sha256": self.sha256,
            "normalization": self.normalization.to_dict(),
            self.metric.name: {"test": self.test, "n": self.n},
            "data": {"name": self.data[0], "sha256": self.data[1]},
            "notes": list(self.notes),
        }


def document_of(found: Evaluation) -> Document:
    """The score, and what it is of."""
    score = Key(
        found.metric.name,
        found.metric.text(found.test),
        about=f"{found.evidence.details} test images",
    )
    how = f"{found.name} on {found.data[0]}, normalisation {describe(found.normalization)}."
    return Document((Text(how),), keys=(score,))


def evaluate(
    model: Path,
    data: Dataset,
    *,
    normalization: Normalization | None = None,
    arch: str | None = None,
    threads: int | None = None,
    device: str = "auto",
    output: str | None = None,
) -> Evaluation:
    """Scores a checkpoint (with torch) or an ONNX file (with ONNX Runtime), however bad it is.

    The normalisation is the one given, else the file's own, else the best of the known ones on
    validation images.

    Args:
        model: the file.
        data: its test images are scored, its validation images probed where that is needed.
        normalization: what the images go through, where the user says it.
        arch: what a checkpoint is (see ``compress.models.statement``), or None.
        threads: of an ONNX file's session.
        device: where a checkpoint runs.
        output: of an ONNX file, that its answers are, where several could be.

    Raises:
        CheckpointError, ModelFileError: the file cannot be used.
        TeacherError: a checkpoint of other classes or channels.
        DataError: the data set has no test images, or none to probe a normalisation on.
        UsageError: ``arch`` or ``normalization`` cannot be.
    """
    if len(data.test) == 0:
        raise DataError(f"{data.name} has no test images to score {model} on.")
    if is_onnx(model):
        target = Target(threads=threads or default_threads())
        scored = score_onnx(model, data, normalization=normalization, target=target, output=output)
        name, normalization, notes = scored.name, scored.normalization, scored.notes
        outputs = scored.outputs
    else:
        found = identify(
            model,
            data,
            normalization=normalization,
            arch=arch,
            device=choose_device(device),
        )
        name, normalization, notes = found.spec.name, found.normalization, found.notes
        predict = predictor(found.network, data.task)
        outputs = answers_to(predict, data.test.images, normalization)
    chance = data.task.chance(outputs, data.test.targets)
    if chance.standing is Standing.NO_BETTER:
        notes = (*notes, f"On the test images it is {chance.text}")
    return Evaluation(
        name=name,
        sha256=sha256_of(model),
        normalization=normalization,
        metric=data.task.metric,
        evidence=data.task.evidence(outputs, data.test.targets),
        data=(data.name, data.sha256),
        notes=notes,
    )
