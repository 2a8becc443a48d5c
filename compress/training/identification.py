"""A checkpoint of anybody's, and how it is to be run on some data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from compress.data.classes import class_mapping, class_note
from compress.data.dataset import Dataset
from compress.data.normalization import describe, note_on_scale
from compress.errors import CheckpointError, TeacherError
from compress.models.checkpoint import read_tensors
from compress.models.hypothesis import in_order, instantiate
from compress.models.network import Network
from compress.models.registry import architecture, changed
from compress.models.statement import statement_of, structure
from compress.spec import ModelSpec, Normalization
from compress.tasks.task import Standing, Task
from compress.training.evaluation import answers_to, predictor, stratified_sample
from compress.training.probing import (
    PROBE_ROUNDS,
    Candidate,
    check_channels,
    known_normalizations,
    probe,
)


@dataclass(frozen=True)
class Identified:
    """A network that can be run, however well it does.

    Attributes:
        network: in evaluation mode, frozen, on its device.
        spec: what it is, with the height and width of the data.
        normalization: what its images go through.
        tried: the normalisations that this one was chosen from.
        classes: what the file calls its classes, in the order of the network's outputs; none
            where it does not say.
        notes: what was found and assumed, in sentences.
    """

    network: Network
    spec: ModelSpec
    normalization: Normalization
    tried: tuple[Normalization, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def identify(
    path: Path,
    data: Dataset,
    *,
    normalization: Normalization | None,
    arch: str | None,
    device: torch.device,
) -> Identified:
    """Reads a checkpoint and finds out how to run it.

    Where the file and the data name the same classes in another order, the network that is given
    has its outputs in the data's (see ``compress.data.classes``).

    Args:
        path: a .pt, .pth, .th or .safetensors file.
        data: what it is to run on. What its weights do not show is probed on the validation
            images; there may be none where nothing is to be probed.
        normalization: what the user says; else the file's own, else it is probed, the data's own
            first.
        arch: what the user says of the network (see ``compress.models.statement``).
        device: where it is to run.

    Raises:
        CheckpointError: the file cannot be used.
        TeacherError: other classes or channels than the data.
        DataError: there are no validation images, and the normalisation has to be probed; or its
            classes are in another order than the data's and cannot be matched by name.
        UsageError: ``arch`` or ``normalization`` cannot be.
    """
    input_shape = data.input_shape
    checkpoint = read_tensors(path)
    hypotheses = checkpoint.hypotheses(arch=arch, image_size=input_shape[1:])
    spec = hypotheses[0].spec
    _check_fits(path, spec, data.task, input_shape)
    notes = list(checkpoint.notes)
    classes = checkpoint.classes if len(checkpoint.classes) == spec.num_classes else ()
    order = class_mapping(classes, data.task.classes)
    if note := class_note(classes, data.task.classes):
        notes.append(note)
    if order is not None:
        classes = tuple(classes[place] for place in order)
        hypotheses = [in_order(hypothesis, order) for hypothesis in hypotheses]
    if not architecture(spec).takes_any_size and spec.input_shape != input_shape:
        raise TeacherError(
            f"{path} reads images of {_size(spec.input_shape)} only, because its classifier reads "
            f"several averages per channel, but the data's images are {_size(input_shape)}. Give "
            "the data that it was trained on."
        )
    if spec.input_shape != input_shape:
        # Global pooling lets the networks take images of any size.
        notes.append(
            f"{path.name} was made for images of {_size(spec.input_shape)}; here it runs on the "
            f"data's {_size(input_shape)}."
        )
        hypotheses = [replace(h, spec=changed(h.spec, input_shape=input_shape)) for h in hypotheses]
    stated = checkpoint.normalization or hypotheses[0].normalization
    if stated is not None and len(stated.mean) != input_shape[0]:
        notes.append("The file's normalisation has another number of channels and was not used.")
        stated = None
    notes += note_on_scale(normalization or stated)
    if normalization is not None:
        check_channels(normalization, input_shape[0])
        if stated is not None and stated != normalization:
            notes.append(f"--normalize is used; the file states {describe(stated)}.")
        tried = [normalization]
    elif stated is not None:
        tried = [stated]
        notes.append(f"The normalisation is the file's own: {describe(stated)}.")
    else:
        tried = known_normalizations(path, data.normalization, len(data.validation))
    candidates = [Candidate(h, n) for n in tried for h in hypotheses]
    if len(candidates) > 1 and len(data.validation):
        chosen, found = probe(candidates, data.validation, data.task, device)
        notes += found
    else:
        chosen = candidates[0]
        if len(candidates) > 1:
            notes.append(
                "The weights do not determine the structure, and there are no validation images "
                f"to find it: {structure(chosen.hypothesis.spec)} is assumed. State it if this is "
                f"wrong ({statement_of(hypotheses[1].spec)}, say)."
            )
    if chosen.hypothesis.doubt:
        notes.append(_settle(path, chosen, data, device))
    notes += chosen.hypothesis.notes
    return Identified(
        instantiate(chosen.hypothesis).to(device).requires_grad_(False),
        chosen.hypothesis.spec,
        chosen.normalization,
        tuple(tried),
        classes,
        tuple(dict.fromkeys(notes)),
    )


def _settle(path: Path, candidate: Candidate, data: Dataset, device: torch.device) -> str:
    """What images say of a network that its weights' shapes alone do not prove, in a sentence.

    Raises:
        CheckpointError: they do not show that it answers right, or there are none.
    """
    hypothesis = candidate.hypothesis
    stated = f"State it if you know it: {statement_of(hypothesis.spec)}."
    if len(data.validation) == 0:
        raise CheckpointError(
            f"{path}: {hypothesis.doubt} There are no validation images to find out. Hold some "
            f"out with --validation. {stated}"
        )
    sample = stratified_sample(data.validation, data.task, PROBE_ROUNDS[-1])
    chosen = data.validation.take(sample)
    predict = predictor(instantiate(hypothesis).to(device), data.task)
    outputs = answers_to(predict, chosen.images, candidate.normalization)
    chance = data.task.chance(outputs, chosen.targets)
    if chance.standing is not Standing.BETTER:
        raise CheckpointError(
            f"{path}: {hypothesis.doubt} With such averages it is {chance.text} {stated}"
        )
    return f"{hypothesis.doubt} With such averages it is {chance.text}"


def _size(shape: tuple[int, int, int]) -> str:
    return f"{shape[1]}x{shape[2]}"


def _check_fits(path: Path, spec: ModelSpec, task: Task, input_shape: tuple[int, int, int]) -> None:
    """Raises where the network cannot be scored on the data at all."""
    faults = []
    if spec.num_classes != task.width:
        faults.append(f"it has {spec.num_classes} {task.noun}, but the data has {task.width}")
    if spec.input_shape[0] != input_shape[0]:
        faults.append(
            f"it reads images of {spec.input_shape[0]} channel(s), but the data has "
            f"{input_shape[0]}"
        )
    if faults:
        raise TeacherError(
            f"{path} ({spec.name}) does not fit the data: {'; '.join(faults)}. "
            "Give the data that it was trained on."
        )
