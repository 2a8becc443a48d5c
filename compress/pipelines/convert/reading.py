"""What is given to a conversion as a float32 ONNX file, and what it is proved on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from compress.data.classes import class_note, renumbered
from compress.data.dataset import Dataset
from compress.data.normalization import normalize, note_on_scale
from compress.errors import ModelFileError, UsageError
from compress.exporting.artifact import read_artifact, write_output_name
from compress.exporting.conversion import float_images, image_shape
from compress.exporting.fidelity import Proof
from compress.exporting.parity import check_batch, seeded_images
from compress.exporting.to_onnx import onnx_from_torch
from compress.files import sha256_of
from compress.models.checkpoint import read_tensors
from compress.models.hypothesis import instantiate
from compress.models.network import Network
from compress.models.statement import statement_of, structure
from compress.pipelines.convert.request import ConvertRequest
from compress.pipelines.reduced_precision import ProofImages
from compress.profiling.machine import default_threads
from compress.results import Parity
from compress.spec import Normalization, Target
from compress.tasks.registry import unstated
from compress.tasks.task import arrays_of
from compress.training.evaluation import file_predictor, predictor
from compress.training.identification import identify
from compress.training.naming import believed_score
from compress.training.probing import check_channels, known_normalizations, probe_normalization
from compress.training.scoring import check_width
from compress.units import format_percent

Say = Callable[[str], None]


@dataclass(frozen=True)
class FloatFile:
    """A float32 ONNX file that others are made of.

    Attributes:
        path: the file.
        normalization: of its images; None where it is not known.
        images: what it is proved on.
        parity: to the checkpoint that it was made of; None where it was given.
        notes: what was found and assumed, in sentences.
    """

    path: Path
    normalization: Normalization | None
    images: ProofImages
    parity: Parity | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Given:
    """A checkpoint as it was read.

    Attributes:
        network: with its weights.
        normalization: of its images; None where it is not known.
        classes: their names; may be empty.
        images: what its file is proved on.
        notes: what was found and assumed, in sentences.
    """

    network: Network
    normalization: Normalization | None
    classes: tuple[str, ...]
    images: ProofImages
    notes: tuple[str, ...]


def read_onnx(request: ConvertRequest, folder: Path, say: Say) -> FloatFile:
    """A given ONNX file, its normalisation and what it is to be proved on.

    Args:
        request: of the conversion.
        folder: where files that are needed in between may lie.
        say: is told each note.

    Raises:
        ModelFileError: it cannot be used, or takes other images than the data has.
        UsageError: it is not float32.
    """
    path = request.model
    if request.output_name is not None:
        path = write_output_name(path, folder / f"stated-{path.name}", request.output_name)
    artifact = read_artifact(path)
    if request.precision != "fp32":
        float_images(path)
    stated = request.normalization or artifact.normalization
    notes = told(say, *note_on_scale(stated))
    shape, task = None, unstated()
    if request.data is not None:
        shape, task = request.data.input_shape, request.data.task
    target = Target(threads=default_threads())
    with file_predictor(path, target, task, shape=shape) as predict:
        notes += told(say, *filter(None, [predict.note]))
        if request.data is None:
            images = _seeded(image_shape(path, request.image_size), stated)
            return FloatFile(path, stated, images, None, notes)
        data = renumbered(request.data, artifact.classes)
        if stated is not None:
            check_channels(stated, data.input_shape[0])
        first = normalize(data.validation.images[:1], stated or data.normalization)
        try:
            answers = predict(first)
        except ModelFileError as error:
            sizes = "x".join(map(str, data.input_shape))
            raise ModelFileError(
                f"{path} does not take the {sizes} images of {data.name}: {error}"
            ) from error
        check_batch(path, lambda x: arrays_of(predict(torch.from_numpy(x))), first.numpy())
        check_width(path, answers, data)
        if stated is None:
            tried = known_normalizations(path, data.normalization, len(data.validation))
            stated, found = probe_normalization(predict, tried, data.validation, task)
            notes += told(say, f"{path.name} does not state its normalisation. {found}")
        taken = stated or data.normalization
        if note := class_note(artifact.classes, request.data.task.classes):
            _, warnings = believed_score(path.name, predict, data, taken, artifact.classes)
            notes += told(say, note, *warnings)
    return FloatFile(path, stated, _validation(request, data, taken), None, notes)


def export_checkpoint(request: ConvertRequest, path: Path, say: Say) -> FloatFile:
    """A checkpoint as a float32 ONNX file, its normalisation and what it was proved on.

    Args:
        request: of the conversion.
        path: of the new file.
        say: is told each note.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ParityError: the file is not the same function.
    """
    if request.data is None:
        given = _likeliest(request, say)
    else:
        given = _identified(request, request.data, say)
    _, parity = onnx_from_torch(
        given.network,
        path,
        spec=given.network.spec,
        normalization=given.normalization,
        classes=given.classes,
        images=torch.from_numpy(given.images.first.images[:]),
        source={
            "checkpoint": request.model.name,
            "checkpoint_sha256": sha256_of(request.model),
        },
        task=given.images.first.task,
    )
    return FloatFile(path, given.normalization, given.images, parity, given.notes)


def told(say: Say, *notes: str) -> tuple[str, ...]:
    """The notes, each of which ``say`` has been told."""
    for note in notes:
        say(note)
    return notes


def _identified(request: ConvertRequest, whole: Dataset, say: Say) -> _Given:
    """The reading of the weights that does best on the data's images."""
    stated = read_tensors(request.model).classes
    note = class_note(stated, whole.task.classes)
    # The file keeps its own numbers and names, and the images are labelled by them.
    data = renumbered(whole, stated)
    found = identify(
        request.model,
        data,
        normalization=request.normalization,
        arch=request.arch,
        device=torch.device("cpu"),
    )
    notes = told(say, *dict.fromkeys([*([note] if note else ()), *found.notes]))
    predict = predictor(found.network, data.task)
    name, normalization = request.model.name, found.normalization
    share, warnings = believed_score(name, predict, data, normalization, found.classes)
    notes += told(
        say,
        f"{found.spec.name}: {format_percent(share)} on {len(data.validation):,} "
        "validation images.",
        *warnings,
    )
    classes = found.classes or data.task.classes
    images = _validation(request, data, normalization)
    return _Given(found.network, normalization, classes, images, notes)


def _likeliest(request: ConvertRequest, say: Say) -> _Given:
    """The likeliest reading of the weights, without data to try others on."""
    found = read_tensors(request.model)
    size = (request.image_size, request.image_size)
    likeliest, *others = found.hypotheses(arch=request.arch, image_size=size)
    notes = told(say, *found.notes, *likeliest.notes)
    if others:
        variants = dict.fromkeys(structure(other.spec) for other in others)
        notes += told(
            say,
            f"The weights do not determine the structure: {likeliest.spec.name} with "
            f"{structure(likeliest.spec)} is assumed; it may also have {' or '.join(variants)}. "
            "Give --data to find out, or state it with --teacher-arch "
            f"({statement_of(others[0].spec)}, say).",
        )
    network = instantiate(likeliest)
    channels = network.spec.input_shape[0]
    normalization = request.normalization or found.normalization or likeliest.normalization
    if normalization is not None and len(normalization.mean) != channels:
        raise UsageError(
            f"The normalisation has {len(normalization.mean)} channels, but {request.model} takes "
            f"{channels}. Give one mean and one standard deviation per channel with --normalize."
        )
    notes += told(say, *note_on_scale(normalization))
    if likeliest.doubt:
        notes += told(say, f"{likeliest.doubt} Give --data to be sure.")
    if normalization is None:
        unknown = "The normalisation is unknown, and the file says so. Give it with --normalize."
        notes += told(say, unknown)
    images = _seeded(network.spec.input_shape, normalization)
    return _Given(network, normalization, found.classes, images, notes)


def _validation(
    request: ConvertRequest, data: Dataset, normalization: Normalization
) -> ProofImages:
    """The first validation images, as many as were asked for; all where those do not decide."""
    whole = data.validation
    first = whole if request.images is None else whole.part(slice(request.images))
    return ProofImages.of(first, whole, data.task, normalization)


def _seeded(shape: tuple[int, int, int], normalization: Normalization | None) -> ProofImages:
    return ProofImages(Proof(seeded_images(shape, normalization).numpy()))
