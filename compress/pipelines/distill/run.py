"""The stages of a distillation, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from compress.errors import UsageError
from compress.files import printable, sha256_of
from compress.limits import Judgement
from compress.models.network import Network
from compress.pipelines.distill.choosing import (
    ChosenStudent,
    ServingRuntime,
    choose_serving_runtime,
    choose_student,
)
from compress.pipelines.distill.context import DistillContext, Teachers
from compress.pipelines.distill.exporting import (
    Scores,
    export_student,
    export_teacher,
    score_files,
    time_student,
)
from compress.pipelines.distill.learning import train_student
from compress.pipelines.distill.names import (
    SHIPPED,
    STUDENT,
    STUDENT_ONNX,
    TEACHER_ONNX,
)
from compress.pipelines.distill.reduced_precision import more_images, reduce_student_precision
from compress.pipelines.distill.request import DistillListener, DistillRequest
from compress.pipelines.distill.result import (
    AccuracyDrop,
    BudgetResult,
    ChanceResult,
    DataResult,
    DistillResult,
    FurtherTeacher,
    ImageCounts,
    Latency,
    Measured,
    NetworkResult,
    PrecisionResult,
    StudentResult,
    warnings_of,
)
from compress.profiling.costs import costs_of_module
from compress.profiling.fresh import FreshTiming
from compress.profiling.machine import fingerprint
from compress.recipes.registry import check_task
from compress.results import Parity
from compress.tasks.task import Standing
from compress.teachers.sources import LoadedTeacher, load_teacher
from compress.tradeoff import OwnRun, record_run
from compress.training.runfolder import RunFolder
from compress.training.teacher import Teacher
from compress.training.team import SINGLE_PROCESS, Team
from compress.units import format_percent


def distill(
    request: DistillRequest, listener: DistillListener, team: Team = SINGLE_PROCESS
) -> DistillResult:
    """Teacher and budget in, student.onnx and result.json out.

    A run that was stopped goes on where it was; one that is finished is only reported. The
    student's accuracies are those of the exported file, run by the target's runtime.

    Of several processes the first calls this, the others ``assist``.

    Returns:
        what result.json says.

    Raises:
        NoStudentFits: no candidate keeps the budget.
        Inconclusive: no candidate is known to keep it, and one may.
        TeacherError: the teacher is no better than chance.
        ParityError: the exported file is not the same function as the student.
        RunFolderError: ``request.out`` holds another run.
        UsageError: the recipe does not serve the task of the data.
    """
    check_task(request.recipe, request.data.task.name)
    context = DistillContext.of(request, listener, team)
    config = _config(context)
    folder = RunFolder(request.out, config)
    if folder.finished and all(map(folder.is_whole, SHIPPED)):
        context.say(f"{request.out} is already finished; its result follows.")
        found = folder.result(DistillResult)
        return found.judged(request.data.task, request.max_accuracy_drop)
    # A teacher that is refused leaves nothing behind, so the folder comes after it.
    teachers = _load_teachers(context)
    with folder.alone():
        resumed = folder.existed
        if folder.finished:
            context.say(folder.reopen(SHIPPED))
        serving = choose_serving_runtime(context, folder)
        if told := folder.begin(_facts(context, serving, teachers.first)):
            context.say(told)
        teacher_onnx = export_teacher(context, folder, teachers.first.teacher)
        chosen = choose_student(
            context, serving.budget, teachers.first.teacher.spec, teacher_onnx, resumed=resumed
        )
        student = train_student(context, folder, teachers, chosen.spec)
        exported = export_student(context, student, chosen, config)
        precisions = reduce_student_precision(context, chosen, teachers.all, exported.path)
        folder.keep(STUDENT, STUDENT_ONNX)
        timing = time_student(context, chosen.budget, teacher_onnx)
        scores = score_files(context, chosen.budget, teachers.first, teacher_onnx)
        result = _result(
            context,
            serving,
            teachers,
            chosen,
            student,
            parity=exported.parity,
            precisions=precisions,
            timing=timing,
            scores=scores,
        )
        folder.finish(result.to_dict())
        _remember(context, result)
        return result


def _config(context: DistillContext) -> dict[str, Any]:
    """Everything that the result depends on; a run with another one is another run."""
    request = context.request
    normalization = request.normalization
    config: dict[str, Any] = {
        "command": "distill",
        "teacher": {
            "sha256": sha256_of(context.teacher_path),
            "arch": request.teacher_arch,
            "normalization": None if normalization is None else normalization.to_dict(),
        },
        "more_teachers": [sha256_of(path) for path in request.more_teachers],
        "student_init": sha256_of(request.student_init) if request.student_init else None,
        "data": request.data.identity(),
        "budget": asdict(request.budget),
        "student": request.student,
        "tradeoff": sha256_of(request.tradeoff) if request.tradeoff else None,
        "recipe": {"name": request.recipe.name, **request.recipe.to_dict()},
        "training": request.options.to_dict(),
        "device": context.device.type,
        "threads": torch.get_num_threads(),
    }
    if request.budget.target.precision != "fp32":
        config["max_precision_loss"] = request.max_precision_loss
        config["fine_tuning"] = request.fine_tuning.to_dict()
    return config


def _facts(
    context: DistillContext, serving: ServingRuntime, loaded: LoadedTeacher[Teacher]
) -> dict[str, Any]:
    """What explains the result without deciding it."""
    data = context.request.data
    return {
        "machine": fingerprint().to_dict(),
        "processes": context.team.size,
        "runtime_choice": None if serving.choice is None else serving.choice.to_dict(),
        "data_source": data.source,
        "normalization": data.normalization.to_dict(),
        "teacher": {
            "file": context.teacher_path.name,
            "spec": loaded.teacher.spec.to_dict(),
            "normalization": loaded.teacher.normalization.to_dict(),
            "notes": list(loaded.notes),
        },
    }


def _load_teachers(context: DistillContext) -> Teachers:
    """The teachers, each scored on the validation images.

    Raises:
        TeacherError: one is no better than chance.
    """
    request, data = context.request, context.request.data

    def load(path: Path) -> LoadedTeacher[Teacher]:
        context.say(f"Reading the teacher {path.name} and scoring it on the validation images.")
        loaded = load_teacher(
            path,
            data,
            normalization=request.normalization,
            arch=request.teacher_arch,
            device=context.device,
        )
        for note in loaded.notes:
            context.say(note)
        context.say(
            f"The teacher {path.name}, {loaded.teacher.spec.name}: "
            f"{format_percent(loaded.accuracy)} of "
            f"{len(data.validation):,} validation images."
        )
        return loaded

    return Teachers(load(context.teacher_path), tuple(map(load, request.more_teachers)))


def _result(
    context: DistillContext,
    serving: ServingRuntime,
    teachers: Teachers,
    chosen: ChosenStudent,
    student: Network,
    *,
    parity: Parity,
    precisions: Mapping[str, PrecisionResult],
    timing: FreshTiming,
    scores: Scores,
) -> DistillResult:
    """What all stages found, put together."""
    request, data = context.request, context.request.data
    costs = {
        "teacher": teachers.first.teacher.costs(),
        "student": costs_of_module(student, data.input_shape),
    }
    teacher_onnx, student_onnx = (request.out / name for name in (TEACHER_ONNX, STUDENT_ONNX))
    size_bytes = student_onnx.stat().st_size
    if timing.against is None or timing.speedup is None:
        raise TypeError("Both files are timed.")  # pragma: no cover
    return DistillResult(
        budget=BudgetResult.of(
            chosen.budget, size_bytes, timing, elsewhere=chosen.measured_elsewhere
        ),
        target=chosen.budget.target,
        runtime_choice=serving.choice,
        teacher=NetworkResult(
            name=teachers.first.teacher.spec.name,
            params=costs["teacher"].params,
            macs=costs["teacher"].macs,
            size_bytes=teacher_onnx.stat().st_size,
            accuracy=scores.teacher,
            latency_ms=Latency.of(timing.against.median),
            file=TEACHER_ONNX,
            sha256=sha256_of(teacher_onnx),
        ),
        more_teachers=tuple(
            FurtherTeacher(each.teacher.spec.name, each.sha256, each.accuracy)
            for each in teachers.more
        ),
        student=StudentResult(
            name=student.spec.name,
            params=costs["student"].params,
            macs=costs["student"].macs,
            size_bytes=size_bytes,
            accuracy=scores.student,
            latency_ms=Latency.of(timing.model.median),
            file=STUDENT_ONNX,
            sha256=sha256_of(student_onnx),
            parity=parity,
            chance=ChanceResult(scores.chance.standing, scores.chance.text),
            precision=chosen.precision,
        ),
        accuracy_drop=AccuracyDrop.of(scores.pair, request.max_accuracy_drop),
        precisions=dict(precisions),
        speedup=Measured.of(timing.speedup),
        load_ms=timing.loading.load_s * 1e3,
        first_ms=timing.loading.first_s * 1e3,
        memory_bytes=timing.loading.memory_bytes,
        recipe=request.recipe.name,
        recipe_options=request.recipe.to_dict(),
        epochs=request.options.epochs,
        seed=request.options.seed,
        data=DataResult(
            data.name,
            data.sha256,
            ImageCounts(len(data.train), len(data.validation), len(data.test)),
        ),
        machine=fingerprint().to_dict(),
        warnings=_warnings(context, chosen, precisions, timing, scores),
    )


def _warnings(
    context: DistillContext,
    chosen: ChosenStudent,
    precisions: Mapping[str, PrecisionResult],
    timing: FreshTiming,
    scores: Scores,
) -> tuple[str, ...]:
    """What makes the result less than it seems, a sentence each."""
    warnings = warnings_of(chosen.budget, timing)
    if chosen.measured_elsewhere:
        warnings.insert(
            0,
            "The student was chosen by a table from another machine, so its latency there is not "
            "verified. Run `compress profile student.onnx` there.",
        )
    shipped = precisions.get(chosen.precision)
    if shipped is not None and shipped.outcome != Judgement.KEPT:
        warnings.append(
            f"The student may lose more in {chosen.precision} than --max-precision-loss allows: "
            f"{shipped.why}.{more_images(context, shipped)}"
        )
    if scores.chance.standing is not Standing.BETTER:
        warnings.append(f"On the test images the student is {scores.chance.text}")
    return tuple(warnings)


def _remember(context: DistillContext, result: DistillResult) -> None:
    """Keeps the outcome for the next choice on this data; a run is not lost by failing to."""
    request, data = context.request, context.request.data
    if result.student.chance.standing is Standing.NO_BETTER:
        return  # it shows nothing of what the architecture is worth
    errors = {"fp32": 1 - result.student.accuracy.validation}
    for precision, found in result.precisions.items():
        if found.fidelity is not None and found.fidelity.score is not None:
            errors[precision] = 1 - found.fidelity.score
            errors["fp32"] = 1 - (found.fidelity.float_score or 0.0)
    run = OwnRun(
        dataset_sha256=data.sha256,
        name=result.student.name,
        recipe=request.recipe.name,
        epochs=request.options.epochs,
        error=errors["fp32"],
        images=len(data.validation),
        seed=request.options.seed,
        train_images=len(data.train),
        schedule=request.options.schedule,
        data=data.name,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        folder=printable(request.out.absolute()),
    )
    try:
        for precision, error in errors.items():
            record_run(replace(run, precision=precision, error=error))
    except UsageError as error:
        context.say(f"The result is not recorded for later choices: {error}")
