"""Teacher and student as files that the target's runtime takes, timed and scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.data.normalization import normalize
from compress.exporting import onnx_from_torch
from compress.files import sha256_of
from compress.models.checkpoint import save_checkpoint
from compress.models.network import Network
from compress.models.registry import with_dropout
from compress.pipelines.distill.choosing import ChosenStudent
from compress.pipelines.distill.context import DistillContext
from compress.pipelines.distill.names import FLOAT_ONNX, STUDENT, STUDENT_ONNX, TEACHER_ONNX
from compress.pipelines.distill.reduced_precision import first_images
from compress.profiling.fresh import (
    FreshTiming,
    LoadingRequest,
    TimingRequest,
    time_in_fresh_process,
)
from compress.profiling.runtime import Subject
from compress.results import Accuracies, Parity
from compress.spec import Budget
from compress.tasks.task import Chance, Pair
from compress.teachers.sources import LoadedTeacher
from compress.training.evaluation import (
    answers_to,
    evaluate,
    file_predictor,
    stratified_sample,
)
from compress.training.runfolder import RunFolder
from compress.training.teacher import Teacher

TEACHER_PROOF_IMAGES = 500
# The last timing takes no longer; a percentile needs hundreds of calls.
MEDIAN_S, PERCENTILE_S = 30.0, 120.0


@dataclass(frozen=True)
class ExportedStudent:
    """The student's float32 file.

    Attributes:
        path: the file; it ships, or what ships is made of it.
        parity: of the file to the trained network.
    """

    path: Path
    parity: Parity


@dataclass(frozen=True)
class Scores:
    """How the student's and the teacher's files score.

    Attributes:
        student: fractions of 1.
        teacher: the same; on validation images its checkpoint's.
        pair: both on the same test images.
        chance: the student beside one that does not look at the test images.
    """

    student: Accuracies
    teacher: Accuracies
    pair: Pair
    chance: Chance


def export_teacher(context: DistillContext, folder: RunFolder, teacher: Teacher) -> Path:
    """The teacher in the student's runtime: the only fair denominator of a speed-up."""
    data, path = context.request.data, context.request.out / TEACHER_ONNX
    if not folder.is_whole(TEACHER_ONNX):
        if path.exists():
            context.say(f"{path} is not the teacher's file that this run exported.")
        context.say(f"Exporting the teacher, {teacher.spec.name}, to {path}.")
        # The teacher's file is what the student is compared with, not what ships: a part of the
        # validation images is proof enough, and a large teacher is slow.
        sample = stratified_sample(data.validation, data.task, TEACHER_PROOF_IMAGES)
        images = data.validation.images[sample]
        teacher.export(
            path,
            normalize(images, teacher.normalization),
            task=data.task,
            source={"data": data.name, "data_sha256": data.sha256},
        )
        folder.keep(TEACHER_ONNX)
    return path


def export_student(
    context: DistillContext, student: Network, chosen: ChosenStudent, config: Mapping[str, Any]
) -> ExportedStudent:
    """Writes the trained student's checkpoint and its float32 file.

    Args:
        context: of the run.
        student: after its training.
        chosen: what it is, and in which precision it ships.
        config: of the run, for the checkpoint's metadata.

    Raises:
        ParityError: the file is not the same function as the student.
    """
    request, data = context.request, context.request.data
    checkpoint = request.out / STUDENT
    save_checkpoint(
        checkpoint,
        student,
        normalization=data.normalization,
        classes=data.task.classes,
        extra={"run": config},
    )
    source = {
        "checkpoint_sha256": sha256_of(checkpoint),
        "recipe": request.recipe.name,
        "teacher_sha256": sha256_of(context.teacher_path),
    }
    path = request.out / (STUDENT_ONNX if chosen.precision == "fp32" else FLOAT_ONNX)
    context.say(f"Exporting the student to {path}.")
    images = first_images(data.validation, data.task).images[:]
    _, parity = onnx_from_torch(
        student,
        path,
        spec=with_dropout(chosen.spec, 0.0),
        normalization=data.normalization,
        classes=data.task.classes,
        images=normalize(images, data.normalization),
        source={"data": data.name, "data_sha256": data.sha256, **source},
        task=data.task,
    )
    return ExportedStudent(path, parity)


def time_student(context: DistillContext, budget: Budget, teacher_onnx: Path) -> FreshTiming:
    """Times the file that ships beside the teacher's, in a fresh process."""
    sample = context.sample()
    on = "seeded noise" if sample is None else f"images of {sample.name}"
    context.say(f"Timing the file that ships and the teacher, in a fresh process, on {on}.")
    loading = LoadingRequest(
        Subject(STUDENT_ONNX, path=(context.request.out / STUDENT_ONNX).absolute()),
        runtime=budget.target.runtime,
        batch=budget.batch,
        threads=budget.target.threads,
        sample=sample,
        seed=context.request.options.seed,
    )
    return time_in_fresh_process(
        TimingRequest(
            loading,
            against=Subject(teacher_onnx.name, path=teacher_onnx.absolute()),
            percentile=budget.percentile,
            budget_s=budget.latency_s,
            speedup=budget.speedup,
            max_s=MEDIAN_S if budget.percentile == 50 else PERCENTILE_S,
        )
    )


def score_files(
    context: DistillContext, budget: Budget, loaded: LoadedTeacher[Teacher], teacher_onnx: Path
) -> Scores:
    """Scores both files as the target runs them: the one look at the test images."""
    data, target = context.request.data, budget.target
    task, test, student_onnx = data.task, data.test, context.request.out / STUDENT_ONNX
    context.say(f"Scoring both on the {len(test):,} test images.")
    with file_predictor(student_onnx, target, task, made_here=True) as predict:
        validation = evaluate(predict, task, data.validation, data.normalization)
        outputs = answers_to(predict, test.images, data.normalization)
    with file_predictor(teacher_onnx, target, task, made_here=True) as predict:
        theirs = task.evidence(
            answers_to(predict, test.images, loaded.teacher.normalization), test.targets
        )
    ours = task.evidence(outputs, test.targets)
    return Scores(
        student=Accuracies(validation, ours.value),
        teacher=Accuracies(loaded.accuracy, theirs.value),
        pair=ours.against(theirs),
        chance=task.chance(outputs, test.targets),
    )
