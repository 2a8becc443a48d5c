"""What a run is asked for, and who is told how it goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from compress.data.dataset import Dataset
from compress.errors import DataError, UsageError
from compress.gate.accuracy import AccuracyRule
from compress.gate.precision import MAX_LOSS, PrecisionRule
from compress.models.registry import spec_of
from compress.profiling.registry import runtime_named
from compress.recipes.recipe import Recipe
from compress.spec import AUTO, FASTEST, PRECISIONS, Budget, Normalization
from compress.tradeoff import Choice
from compress.training.listener import Listener
from compress.training.options import TrainingOptions
from compress.training.quantization_aware import FineTuning

INT8 = "int8"


class DistillListener(Listener, Protocol):
    """Is told how the run goes."""

    def choice(self, choice: Choice) -> None:
        """Called when the student was chosen from the trade-off table."""
        ...


@dataclass(frozen=True)
class DistillRequest:
    """What a run is asked for.

    Attributes:
        data: what to learn and to judge from.
        out: the run folder.
        recipe: the method.
        options: how to train.
        budget: what the student may cost and how that is measured. Where ``student`` is named it
            may be without limits. Its runtime may be FASTEST, its precision AUTO.
        student: the student's name; None when the budget chooses it.
        teacher: a checkpoint; None for the embedded one.
        more_teachers: further checkpoints that the student learns from; what it is compared with
            is ``teacher``.
        student_init: a checkpoint of the student's architecture, trained on the labels, to start
            from; None for random weights.
        teacher_arch: what the teacher is, where its weights do not show it.
        normalization: of the teacher's input, where its checkpoint does not say it.
        tradeoff: a table saved by ``compress select --save`` on the machine that will serve.
        outputs_dir: where the teachers' outputs are kept, for other runs too; None for the cache.
        device: what trains: auto, cpu or cuda.
        use_cache: whether earlier measurements of this machine may be reused.
        ignore_runs: whether the choice is made without what own runs have shown.
        max_precision_loss: of accuracy on validation images, as a fraction of 1, that a student of
            reduced precision may lose.
        fine_tuning: of a student in int8 that costs more, or for which that is not decided.
        max_accuracy_drop: on the test images against the teacher, as a fraction of 1, that the
            student is judged by; None where it is not. It decides nothing of the run.
    """

    data: Dataset
    out: Path
    recipe: Recipe
    options: TrainingOptions
    budget: Budget
    student: str | None = None
    teacher: Path | None = None
    more_teachers: tuple[Path, ...] = ()
    student_init: Path | None = None
    teacher_arch: str | None = None
    normalization: Normalization | None = None
    tradeoff: Path | None = None
    outputs_dir: Path | None = None
    device: str = "auto"
    use_cache: bool = True
    ignore_runs: bool = False
    max_precision_loss: float = MAX_LOSS
    fine_tuning: FineTuning = field(default_factory=FineTuning)
    max_accuracy_drop: float | None = None

    def __post_init__(self) -> None:
        check_words(
            self.budget,
            self.student,
            self.tradeoff,
            self.max_precision_loss,
            self.max_accuracy_drop,
            self.fine_tuning,
        )
        if len(self.data.validation) == 0:
            raise UsageError(
                "--validation is 0, but the exported file is verified on validation images. Hold "
                "some out."
            )
        if len(self.data.test) == 0:
            raise DataError(
                f"{self.data.name} has no test images, on which the student is compared with its "
                "teacher."
            )


def check_words(
    budget: Budget,
    student: str | None,
    tradeoff: Path | None,
    max_precision_loss: float,
    max_accuracy_drop: float | None,
    fine_tuning: FineTuning,
) -> None:
    """Refuses what cannot be asked for whatever the data is; arguments as of ``DistillRequest``.

    Raises:
        UsageError: values that cannot be, or that contradict each other.
    """
    PrecisionRule(max_precision_loss)
    if max_accuracy_drop is not None:
        AccuracyRule(max_accuracy_drop)
    if fine_tuning != FineTuning() and budget.target.precision not in (INT8, AUTO):
        raise UsageError(
            "--qat-epochs and --qat-lr are only for int8, but --precision is "
            f"{budget.target.precision}."
        )
    if budget.target.runtime != FASTEST:
        runtime_named(budget.target.runtime)  # so that an absent one is told at once
    if student is None:
        budget.require_limit()
        return
    spec_of(student)  # so that a wrong name is told before anything is done
    if budget.target.precision == AUTO:
        raise UsageError(
            "--precision auto chooses precision and student together, but --student names the "
            f"student. Name the precision, too ({', '.join(PRECISIONS)})."
        )
    if tradeoff is not None:
        raise UsageError(
            "--student names the student, so --tradeoff has no effect. Give only one of them."
        )
