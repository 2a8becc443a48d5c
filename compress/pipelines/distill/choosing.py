"""Which runtime serves the student, and which student is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.files import write_json
from compress.models.registry import spec_of, with_dropout
from compress.pipelines.distill.context import DistillContext
from compress.pipelines.distill.names import CHOICE, TRADEOFF
from compress.profiling.machine import fingerprint
from compress.profiling.registry import runtime_named
from compress.spec import AUTO, FASTEST, Budget, ModelSpec
from compress.tradeoff import (
    Plan,
    PrecisionTrial,
    RuntimeChoice,
    choose_runtime,
    load_table,
    refuse_unrunnable,
    table_for,
    try_precisions,
    with_runtime,
    write_csv,
)
from compress.tradeoff.storage import StoredChoice, read_choice
from compress.training.runfolder import RunFolder


@dataclass(frozen=True)
class ServingRuntime:
    """The runtime that serves the student.

    Attributes:
        budget: the request's, in that runtime.
        choice: why it is that one; None where the request names it.
    """

    budget: Budget
    choice: RuntimeChoice | None


@dataclass(frozen=True)
class ChosenStudent:
    """The student to train.

    Attributes:
        spec: with the dropout of its training.
        budget: the request's, its runtime and precision decided.
        precisions: reduced ones in which the student is to be measured.
        measured_elsewhere: whether it was chosen by the figures of another machine.
    """

    spec: ModelSpec
    budget: Budget
    precisions: tuple[str, ...]
    measured_elsewhere: bool = False

    @property
    def precision(self) -> str:
        """Of the file that ships."""
        return self.budget.target.precision


def choose_serving_runtime(context: DistillContext, folder: RunFolder) -> ServingRuntime:
    """The runtime that was asked for, or the fastest one as it was found when the run began."""
    request, data = context.request, context.request.data
    if request.budget.target.runtime == FASTEST and folder.existed:
        choice: RuntimeChoice | None = RuntimeChoice.from_dict(folder.facts().get("runtime_choice"))
    else:
        choice = choose_runtime(
            request.budget,
            num_classes=data.task.width,
            input_shape=data.input_shape,
            tradeoff=request.tradeoff,
            sample=context.sample(),
            say=context.say,
        )
    if choice is None:
        return ServingRuntime(request.budget, None)
    runtime_named(choice.runtime)
    return ServingRuntime(with_runtime(request.budget, choice.runtime), choice)


def choose_student(
    context: DistillContext,
    budget: Budget,
    teacher: ModelSpec,
    teacher_onnx: Path,
    *,
    resumed: bool,
) -> ChosenStudent:
    """The student: named by the request, chosen before the run was interrupted, or chosen now.

    Args:
        context: of the run.
        budget: the request's, its runtime decided.
        teacher: no student takes more than it.
        teacher_onnx: its file.
        resumed: whether the run goes on; then what it has chosen is in its folder.

    Raises:
        NoStudentFits: no candidate keeps the budget.
        Inconclusive: none is known to keep it, and one may.
    """
    request, data = context.request, context.request.data
    if request.student is not None:
        spec = spec_of(request.student, num_classes=data.task.width, input_shape=data.input_shape)
        if budget.target.precision != "fp32":
            refuse_unrunnable(spec, budget)
        return _chosen(context, budget, StoredChoice(spec, {}, budget.target.precision))
    if resumed and (request.out / CHOICE).exists():
        return _chosen(context, budget, read_choice(request.out / CHOICE))
    trials = try_precisions(
        budget,
        num_classes=data.task.width,
        input_shape=data.input_shape,
        tradeoff=request.tradeoff,
        sample=context.sample(),
        say=context.say,
    )
    known: dict[str, Any] = {
        "num_classes": data.task.width,
        "input_shape": data.input_shape,
        "dataset_name": data.name,
        "dataset_sha256": data.sha256,
        "plan": Plan(
            recipe=request.recipe.name,
            epochs=request.options.epochs,
            schedule=request.options.schedule,
            train_images=len(data.train),
        ),
        "use_runs": not request.ignore_runs,
        "teacher": teacher,
        "precisions": trials,
    }
    if request.tradeoff is not None:
        table = load_table(request.tradeoff, **known)
    else:
        table = table_for(
            **known,
            teacher_onnx=teacher_onnx,
            sample=context.sample(),
            cache=request.use_cache,
            say=context.say,
        )
    choice = table.select(budget)
    write_csv(request.out / TRADEOFF, choice)
    write_json(request.out / CHOICE, choice.to_dict())
    context.listener.choice(choice)
    return _chosen(
        context,
        budget,
        StoredChoice(choice.spec, choice.machine, choice.precision, choice.precisions),
    )


def _chosen(context: DistillContext, budget: Budget, choice: StoredChoice) -> ChosenStudent:
    request = context.request
    return ChosenStudent(
        spec=with_dropout(choice.spec, request.options.dropout),
        budget=budget.in_precision(choice.precision),
        precisions=_to_measure(request.budget.target.precision, choice.precisions),
        measured_elsewhere=request.tradeoff is not None and _is_elsewhere(choice.machine),
    )


def _to_measure(asked: str, trials: tuple[PrecisionTrial, ...]) -> tuple[str, ...]:
    """The reduced precision that was asked for, or all that the target runs for AUTO."""
    if asked == AUTO:
        return tuple(
            trial.precision for trial in trials if trial.runs and trial.precision != "fp32"
        )
    return () if asked == "fp32" else (asked,)


def _is_elsewhere(machine: Mapping[str, Any]) -> bool:
    """Whether figures are those of another machine than this one."""
    here = fingerprint().to_dict()
    return any(machine.get(key) != here[key] for key in ("cpu", "isa", "cpus", "gpu"))
