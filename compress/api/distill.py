"""``compress.distill``: teacher and budget in, a student that keeps the budget out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from compress import defaults
from compress.api.budget import budget_of
from compress.api.inputs import (
    FilePath,
    Say,
    check_files,
    normalization_of,
    path_of,
    paths_of,
    read_data,
    silent,
    tell_whether_saved,
)

if TYPE_CHECKING:
    from compress.api.listening import RunListener
    from compress.pipelines.distill.result import DistillResult
    from compress.spec import Budget
    from compress.training.keywords import TeachingKeywords


def distill(
    *,
    teacher: FilePath | Sequence[FilePath] | None = None,
    data: FilePath = defaults.DATA,
    budget_ms: float | None = None,
    speedup: float | None = None,
    out: FilePath | None = None,
    budget_mb: float | None = None,
    headroom: float | None = None,
    batch: int = 1,
    percentile: float = 50.0,
    threads: int | None = None,
    runtime: str = defaults.RUNTIME,
    precision: str = defaults.PRECISION,
    max_precision_loss: float = defaults.MAX_PRECISION_LOSS,
    qat_epochs: int | None = None,
    qat_lr: float | None = None,
    max_accuracy_drop: float | None = None,
    student: str | None = None,
    tradeoff: FilePath | None = None,
    no_cache: bool = False,
    ignore_runs: bool = False,
    recipe: str = defaults.RECIPE,
    settings: Mapping[str, Any] | None = None,
    student_init: FilePath | None = None,
    outputs_dir: FilePath | None = None,
    teacher_arch: str | None = None,
    normalize: str | None = None,
    data_dir: FilePath | None = None,
    image_size: int | None = None,
    validation: int | None = None,
    limit_train: int | None = None,
    flip: bool | None = None,
    device: str = "auto",
    resume: bool = False,
    say: Say = silent,
    listener: RunListener | None = None,
    **training: Unpack[TeachingKeywords],
) -> DistillResult:
    """Turns a trained network into a small one that keeps a budget; as ``compress distill`` does.

    Chooses a student by timing candidates on this machine, trains it with the teacher's help,
    exports it to ONNX, verifies the file and times it beside the teacher. The same call goes on
    with a run that was stopped.

        found = compress.distill(
            teacher="resnet56.th", data="cifar10.npz", budget_ms=2, epochs=60, say=print
        )

    A student that misses the budget is returned like one that keeps it; the result says which.

    Args:
        teacher: a trained checkpoint (.pt, .pth, .th, .safetensors), or several to learn from, the
            first of which the student is compared with. None: the embedded one, for its data.
        data: "default" (the embedded images), "cifar10", "cifar100", "fashion-mnist", an .npz file
            with x_train, y_train, x_test and y_test, or a folder with a folder of images a class.
        budget_ms: latency budget, milliseconds a call.
        speedup: how many times faster than the teacher, measured here.
        out: the run folder. None: runs/TEACHER-BUDGET-RECIPE-seedN.
        budget_mb: size budget, megabytes (10^6 bytes) of the file.
        headroom: percent of ``budget_ms`` left free when the student is chosen. None: 20 on a
            virtual machine, else 3.
        batch: images a call.
        percentile: of the latency, that the budget applies to: 50 to 99.9.
        threads: that serve the model. None: the cores that this process may use.
        runtime: that serves the model, or "fastest": the installed one that is fastest.
        precision: of the file: fp32, fp16, bf16, int8, or auto: chosen with the network.
        max_precision_loss: points of validation accuracy that a reduced precision may cost.
        qat_epochs: of quantisation-aware distillation. None: a tenth of ``epochs``; 0: none.
        qat_lr: initial learning rate of it. None: a thousandth of ``lr``.
        max_accuracy_drop: points of test accuracy that the student may lose against the teacher.
            None: no limit.
        student: trains this network, such as wrn-10-2, instead of choosing one.
        tradeoff: a table that ``compress.select(save=...)`` measured on the serving machine.
        no_cache: times candidates again even if their latency is cached.
        ignore_runs: chooses without the results of earlier runs on the same data.
        recipe: the method of training; ``compress recipes`` lists them.
        settings: the recipe's options by name, such as {"temperature": 4}; a text is read as a
            value of the option's type.
        student_init: a checkpoint of the student to start from instead of random weights.
        outputs_dir: keeps the teacher's outputs for later runs. None: the cache.
        teacher_arch: the teacher's architecture, if its weights do not show it.
        normalize: of the teacher's input: a known name, or MEAN,MEAN,MEAN/STD,STD,STD. None: the
            checkpoint's, or found on validation images.
        data_dir: folder of the named data sets; they are downloaded to it.
        image_size: height and width that a folder's images are resized to.
        validation: how many training images are held out. None: a tenth, at most 5,000.
        limit_train: uses only this many training images.
        flip: mirrors training images. None: where the data may be mirrored.
        device: where to train: auto, cpu or cuda.
        resume: tells where there is nothing in ``out`` to go on with.
        say: is told what is being done, a sentence at a time.
        listener: is told of every epoch and of the progress too, in place of ``say``.
        training: fields of ``compress.training.options.TrainingOptions``: epochs=200,
            batch_size=128, lr=0.1, schedule="steps", views=1, seed=0 and others.

    Returns:
        What result.json says: teacher and student side by side (accuracy, latency, size), the
        budget, and whether it is kept (``budget.outcome``); and where the student lies (``file``).

    Raises:
        UsageError: an argument that cannot be.
        InputError: a file or the data cannot be used.
        TeacherError: the teacher is no better than chance.
        NoStudentFits: no candidate keeps the budget.
        ParityError: the exported file is not the same function as the student.
        RunFolderError: ``out`` holds another run.
        EndedElsewhere: this is not the first of the processes that torchrun started, and its part
            is done; the first one returns the result.
    """
    from dataclasses import replace

    from compress.api.listening import Sentences
    from compress.errors import EndedElsewhere, UsageError
    from compress.pipelines.distill import DistillRequest, assist, check_words
    from compress.pipelines.distill import distill as run
    from compress.recipes.registry import make_recipe
    from compress.training.device import choose_device
    from compress.training.options import DEFAULTS
    from compress.training.quantization_aware import FineTuning
    from compress.training.team import process_group

    teachers, table = paths_of(teacher), path_of(tradeoff)
    check_files(*teachers, table, student_init)
    if not teachers and data != defaults.DATA:
        raise UsageError(
            f"The embedded teacher fits only the embedded data. Give a teacher for --data {data} "
            "with --teacher (`compress train` makes one)."
        )
    options = replace(DEFAULTS, **training)
    method = make_recipe(recipe, **(settings or {}))
    budget = budget_of(
        budget_ms=budget_ms,
        headroom=headroom,
        budget_mb=budget_mb,
        speedup=speedup,
        batch=batch,
        percentile=percentile,
        threads=threads,
        runtime=runtime,
        precision=precision,
        tradeoff=table,
    )
    if student is None:
        budget.require_limit()
    stated = normalization_of(normalize)
    choose_device(device)
    tuning = FineTuning(qat_epochs, qat_lr)
    loss = max_precision_loss / 100
    drop = None if max_accuracy_drop is None else max_accuracy_drop / 100
    check_words(budget, student, table, loss, drop, tuning)
    first = teachers[0] if teachers else None
    folder = path_of(out) or _default_folder(first, budget, student, method.name, options.seed)
    told = listener or Sentences(say)
    with process_group(device) as team:
        if resume:
            tell_whether_saved(folder, told.message)
        told.message(f"Reading the images of --data {data}.")
        request = DistillRequest(
            data=team.rank_zero_first(
                "data",
                lambda: read_data(
                    data,
                    data_dir=data_dir,
                    image_size=image_size,
                    validation=validation,
                    limit_train=limit_train,
                    flip=flip,
                    seed=options.seed,
                    models=(*teachers, student_init),
                    say=told.message,
                ),
            ),
            out=folder,
            recipe=method,
            options=options,
            budget=budget,
            student=student,
            teacher=first,
            more_teachers=teachers[1:],
            student_init=path_of(student_init),
            teacher_arch=teacher_arch,
            normalization=stated,
            tradeoff=table,
            outputs_dir=path_of(outputs_dir),
            device=device,
            use_cache=not no_cache,
            ignore_runs=ignore_runs,
            max_precision_loss=loss,
            max_accuracy_drop=drop,
            fine_tuning=tuning,
        )
        if team.first:
            return replace(run(request, told, team), folder=str(folder))
        assist(request, team)
    raise EndedElsewhere(0)


def _default_folder(
    teacher: Path | None, budget: Budget, student: str | None, recipe: str, seed: int
) -> Path:
    """runs/TEACHER-BUDGET-RECIPE-seedN, the same for the same request."""
    parts = [teacher.stem if teacher else "default"]
    if student is not None:
        parts.append(student)
    if budget.latency_s is not None:
        parts.append(f"{budget.latency_s * 1e3:g}ms")
    if budget.size_bytes is not None:
        parts.append(f"{budget.size_bytes / 1e6:g}mb")
    if budget.speedup is not None:
        parts.append(f"{budget.speedup:g}x")
    if budget.target.precision != "fp32":
        parts.append(budget.target.precision)
    return Path("runs") / "-".join([*parts, recipe, f"seed{seed}"])
