"""The answers of an ONNX file on a data set's test images, after a check that it fits them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compress.data.classes import class_mapping, class_note
from compress.data.dataset import Dataset
from compress.data.normalization import note_on_scale, unnormalized
from compress.errors import DataError, ModelFileError, UsageError
from compress.exporting import read_artifact
from compress.results import Artifact
from compress.spec import Normalization, Target
from compress.tasks.task import Evidence, Outputs, arrays_of, finite_rows
from compress.training.evaluation import FilePredictor, Predict, answers_to, file_predictor
from compress.training.probing import check_channels, known_normalizations, probe_normalization


@dataclass(frozen=True)
class Scored:
    """What a file says of the test images.

    Attributes:
        name: of its architecture, or of the file.
        normalization: that it was scored with.
        outputs: its answers, in the order of the data's classes.
        evidence: what each image contributes to the score.
        notes: what was found and assumed, in sentences.
    """

    name: str
    normalization: Normalization
    outputs: Outputs
    evidence: Evidence
    notes: tuple[str, ...]


def score_onnx(
    path: Path,
    data: Dataset,
    *,
    normalization: Normalization | None,
    target: Target,
    output: str | None = None,
) -> Scored:
    """Runs an ONNX file on the test images.

    Where the file and the data both name their classes, its answers are put in the data's order.

    Args:
        path: the file.
        data: its test images are scored, its validation images probed where the file does not
            say its normalisation.
        normalization: what the images go through, where the user says it.
        target: what runs the file.
        output: that its answers are, where several could be.

    Raises:
        ModelFileError: the file cannot be used, is of other images or classes, answers with values
            that are not finite, or differently each time.
        DataError: the data set has no test images, or none to probe a normalisation on; or the
            file's classes are in another order and cannot be matched by name.
        UsageError: the normalisation is of other channels.
    """
    if len(data.test) == 0:
        raise DataError(f"{data.name} has no test images to score {path} on.")
    if normalization is not None:
        check_channels(normalization, data.input_shape[0])
    artifact = read_artifact(path)
    order = class_mapping(artifact.classes, data.task.classes)
    with answering(artifact, data, target, output) as (predict, file):
        name, normalization, notes = _prepare(artifact, data, normalization, predict, file)
        outputs = answers_to(predict, data.test.images, normalization)
    finite = finite_rows(arrays_of(outputs))
    if not finite.all():
        raise ModelFileError(
            f"{path} answers {int((~finite).sum()):,} of {len(finite):,} test images with values "
            f"that are not finite (NaN or infinity), image {int((~finite).argmax())} first. "
            "Its weights are damaged, or its training diverged."
        )
    if order is not None:
        notes += (
            f"{path.name} has its classes in another order than {data.name}; its answers are "
            "matched by name.",
        )
    elif note := class_note(artifact.classes, data.task.classes):
        notes += (note,)
    evidence = data.task.evidence(outputs, data.test.targets)
    return Scored(name, normalization, outputs, evidence, notes)


@contextmanager
def answering(
    artifact: Artifact, data: Dataset, target: Target, output: str | None = None
) -> Iterator[tuple[Predict, FilePredictor]]:
    """A file's answers, put in the order of the data's classes where both name them, and the file.

    Raises:
        ModelFileError: as ``file_predictor``.
        DataError: its classes are in another order and cannot be matched by name.
    """
    order = class_mapping(artifact.classes, data.task.classes)
    shape, task = data.input_shape, data.task
    with file_predictor(artifact.path, target, task, shape=shape, output=output) as file:
        if order is None:
            yield file, file
        else:
            yield lambda images: task.permuted(file(images), order), file


def check_width(path: Path, answers: Outputs, data: Dataset) -> None:
    """Refuses a file whose answers are not as wide as the data's task asks.

    Raises:
        ModelFileError: they are not.
    """
    width = data.task.width_of(answers)
    if width != data.task.width:
        raise ModelFileError(
            f"{path} gives {width} {data.task.noun}, {data.name} has {data.task.width}. "
            "Give the data that the model was made for."
        )


def _prepare(
    artifact: Artifact,
    data: Dataset,
    stated: Normalization | None,
    predict: Predict,
    file: FilePredictor,
) -> tuple[str, Normalization, tuple[str, ...]]:
    """Name, normalisation and notes of an ONNX file, after checking that it fits the data."""
    path = artifact.path
    name = artifact.spec.name if artifact.spec else path.name
    try:
        answers = answers_to(predict, data.test.images[:1], data.normalization)
    except ModelFileError as error:
        shape = "x".join(map(str, data.input_shape))
        raise ModelFileError(
            f"{path} does not take the {shape} images of {data.name}: {error}"
        ) from error
    check_width(path, answers, data)
    notes = (file.note,) if file.note else ()
    if file.form.takes_bytes:
        if stated is not None:
            raise UsageError(
                f"{path.name} takes pixels from 0 to 255 and normalises them itself. Leave "
                "--normalize out."
            )
        return name, unnormalized(data.input_shape[0]), notes
    normalization = stated or artifact.normalization
    if normalization is not None:
        return name, normalization, (*notes, *note_on_scale(normalization))
    tried = known_normalizations(path, data.normalization, len(data.validation))
    best, found = probe_normalization(predict, tried, data.validation, data.task)
    return (
        name,
        best or data.normalization,
        (*notes, f"{path.name} does not state its normalisation. {found}"),
    )
