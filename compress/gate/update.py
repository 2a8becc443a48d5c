"""Making a baseline: the one thing that writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from compress.data.dataset import Dataset, load_dataset
from compress.errors import ModelFileError, UsageError
from compress.exporting import read_artifact
from compress.files import sha256_of
from compress.gate.baseline import (
    FILE,
    Baseline,
    TimedTeacher,
    check_target,
    describe_model,
    machine_here,
    name_of_copy,
    relative_to,
    today,
    versions,
    write_baseline,
)
from compress.gate.consistency import compare_consistency
from compress.gate.evaluation import describe_data, score
from compress.gate.latency import STORED_RUNS
from compress.gate.measuring import Settings, Trial, measure
from compress.gate.signature import leaves_open, signature_of
from compress.gate.verdict import Outcome
from compress.profiling.inputs import Sample
from compress.results import Estimate
from compress.spec import Normalization
from compress.training.evaluation import timing_sample


@dataclass(frozen=True)
class UpdateRequest:
    """What a baseline is made from.

    Attributes:
        model: an ONNX file.
        data: what --data takes; its test images are what models are scored on.
        reason: why, for those who review the change.
        output: the baseline.
        settings: that models are measured with; a shape that the model leaves open is that of the
            images, where they do not say it.
        teacher: a model to be timed beside, for where the baseline's own is missing one day.
        normalization: of the model, where the file does not say it.
        data_dir, image_size: as for ``load_dataset``.
    """

    model: Path
    data: str
    reason: str
    output: Path = FILE
    settings: Settings = field(default_factory=Settings)
    teacher: Path | None = None
    normalization: Normalization | None = None
    data_dir: Path | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise UsageError(
                "--reason is empty. Say why the baseline is made or changed; reviewers read it."
            )
        try:
            self.reason.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"--reason has a character that is not text ({error.object[error.start]!a}) in the "
                "encoding of this terminal. Give it in UTF-8."
            ) from error
        if self.output.suffix != ".json":
            raise UsageError(f"--output is {self.output}; a baseline's name must end in .json.")


def update(request: UpdateRequest, say: Callable[[str], None] = lambda _: None) -> Baseline:
    """Scores and times a model, and writes the baseline and a copy of the model beside it.

    Raises:
        ModelFileError: the model cannot be used.
        DataError: the evaluation set cannot be.
        UsageError: an option cannot be, or a file is in the way.
        NothingMeasured: a measuring process died.
    """
    artifact = read_artifact(request.model)
    check_target(request.output, name_of_copy(request.output, artifact.sha256), artifact.sha256)
    data = load_dataset(request.data, root=request.data_dir, image_size=request.image_size, say=say)
    if request.settings.shape is None and leaves_open(request.model, request.settings):
        request = replace(request, settings=replace(request.settings, shape=data.input_shape))
    settings, folder = request.settings, request.output.parent
    signature = signature_of(request.model, settings, data.task)
    if request.teacher is not None:
        theirs = signature_of(request.teacher, settings, data.task)
        if theirs.image_shape != signature.image_shape:
            raise ModelFileError(
                f"{request.teacher} takes {theirs}; {request.model} takes {signature}. Give a "
                "teacher for the same images."
            )
    say(f"Scoring {request.model.name} on {len(data.test):,} test images of {data.name}.")
    scored = score(request.model, data, settings, request.normalization)
    for note in scored.notes:
        say(note)
    if signature.image_shape != data.input_shape:
        raise UsageError(
            f"--shape is {','.join(map(str, signature.image_shape))}, but the images of "
            f"{data.name} are {','.join(map(str, data.input_shape))}. Leave --shape out."
        )
    consistency = compare_consistency(request.model, data, settings, scored)
    if consistency is not None and consistency.outcome is Outcome.FAIL:
        raise ModelFileError(
            f"{request.model} cannot be a baseline: {consistency.reason}. Export it so that its "
            "answers do not depend on the batch size, or set --batch to the size that it is "
            "served with."
        )
    model = describe_model(
        request.model,
        request.output,
        name=scored.name,
        precision=artifact.precision,
        size_bytes=artifact.size_bytes,
        normalization=scored.normalization.to_dict(),
    )
    say(f"Timing {request.model.name} on images of {data.name}.")
    sample = timing_sample(data, data.test, scored.normalization)
    timed = measure(Trial(request.model, settings=settings, sample=sample))
    for warning in timed.warnings:
        say(warning)
    baseline = Baseline(
        model=model,
        evaluation_set=describe_data(data, request.data, request.image_size, folder),
        signature=signature,
        settings=settings,
        evidence=scored.evidence,
        latency=timed.median,
        machine=machine_here(),
        reason=request.reason.strip(),
        created=today(),
        versions=versions(),
        teacher=_teacher(request, data, sample, say),
        path=request.output,
    )
    write_baseline(baseline, request.model)
    return baseline


def _teacher(
    request: UpdateRequest, data: Dataset, sample: Sample | None, say: Callable[[str], None]
) -> TimedTeacher | None:
    """The ratio to the teacher, from several processes."""
    if request.teacher is None:
        return None
    theirs = read_artifact(request.teacher).normalization or data.normalization
    ratios: list[Estimate] = []
    for run in range(STORED_RUNS):
        say(f"Timing it beside {request.teacher.name}, process {run + 1} of {STORED_RUNS}.")
        trial = Trial(
            request.model,
            request.teacher,
            settings=request.settings,
            sample=sample,
            against_sample=timing_sample(data, data.test, theirs),
            seed=run,
        )
        ratios.append(measure(trial).ratio())
    return TimedTeacher(
        relative_to(request.teacher, request.output.parent),
        sha256_of(request.teacher),
        tuple(ratios),
    )
