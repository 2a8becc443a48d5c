"""Quantisation-aware distillation: a trained student learns to live with 8 bits.

It goes on with the loss and the teacher that it was trained with, its numbers rounded as its int8
file rounds them (``compress.exporting.fake_quantize``). As Wu et al. recommend ("Integer
Quantization for Deep Learning Inference", arXiv 2004.09602, section 5 and appendix A) it does so
for about a tenth of the training's epochs, its rate falling along a cosine, with the ranges of
activations as they were calibrated. Their first rate, a hundredth of the training's, is for
networks whose batch normalisations are layers of their own. Here they are folded into the weights,
and nothing evens out a step that is too large: a WRN-10-1 that had 66.6% right before had 13.8%
after two epochs from a hundredth, and 66.8%, 66.7% and 66.3% from 3, 1 and 0.1 thousandths
(CIFAR-10, recipe dist, 10,000 training and 5,000 validation images, one seed). So it is a
thousandth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, cast

from compress.data.dataset import Dataset
from compress.errors import UsageError
from compress.exporting.fake_quantize import FakeQuantized
from compress.exporting.quantize import Calibrated
from compress.recipes.recipe import Recipe
from compress.spec import ModelSpec
from compress.training.engine import fit
from compress.training.listener import Listener
from compress.training.options import TrainingOptions
from compress.training.outputs import TeacherOutputs
from compress.training.runfolder import RunFolder

EPOCHS_SHARE, LR_SHARE = 0.1, 0.001
# Some recipes have two phases.
FEWEST_EPOCHS = 2
# Options of recipes that are rates of the student; they come down with the training's.
STUDENT_RATES = ("lr_dln", "lr_adversarial")


@dataclass(frozen=True)
class FineTuning:
    """How to go on.

    Attributes:
        epochs: 0 to leave it; None for a tenth of the training's.
        lr: the first learning rate; None for a thousandth of the training's.

    Raises:
        UsageError: they are impossible.
    """

    epochs: int | None = None
    lr: float | None = None

    def __post_init__(self) -> None:
        faults = []
        if self.epochs is not None and self.epochs != 0 and self.epochs < FEWEST_EPOCHS:
            faults.append(
                f"--qat-epochs is {self.epochs}, but must be 0 (none) or at least {FEWEST_EPOCHS}"
            )
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr > 0):
            faults.append(f"--qat-lr is {self.lr}, it must be positive")
        if faults:
            raise UsageError(f"The student cannot be fine-tuned: {'; '.join(faults)}.")

    @property
    def wanted(self) -> bool:
        """Whether it is to be done where it is needed."""
        return self.epochs != 0

    def options(self, training: TrainingOptions) -> TrainingOptions:
        """Those of the fine-tuning of a student that was trained with ``training``.

        Passes are in float32, in which the rounding is computed.
        """
        epochs = self.epochs or max(FEWEST_EPOCHS, round(EPOCHS_SHARE * training.epochs))
        return replace(
            training,
            epochs=epochs,
            lr=LR_SHARE * training.lr if self.lr is None else self.lr,
            schedule="cosine",
            dropout=0.0,
            autocast="off",
            compile="off",
        )

    def recipe(self, recipe: Recipe, training: TrainingOptions) -> Recipe:
        """A student's recipe, with the rates that it has of its own brought down alike."""
        share = self.options(training).lr / training.lr
        rates = {name: getattr(recipe, name, None) for name in STUDENT_RATES}
        lower = {name: share * rate for name, rate in rates.items() if rate is not None}
        found: Recipe = replace(cast("Any", recipe), **lower) if lower else recipe
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return {"epochs": self.epochs, "lr": self.lr}


def fine_tune(
    calibrated: Calibrated,
    spec: ModelSpec,
    recipe: Recipe,
    data: Dataset,
    options: TrainingOptions,
    *,
    teacher: TeacherOutputs | None,
    folder: RunFolder,
    listener: Listener,
) -> Calibrated:
    """Trains what was calibrated as its int8 file computes it.

    It goes on where it was stopped, see ``fit``.

    Args:
        calibrated: stays as it is.
        spec: of the student.
        recipe: of its training.
        data: on the device that trains.
        options: see ``FineTuning.options``.
        teacher: its outputs; None for a recipe that wants none.
        folder: of this training.
        listener: is told how it goes.

    Returns:
        the same graph and ranges with the weights after the last epoch.

    Raises:
        CompressError: as ``fit`` does.
        ExportError: the graph has operations that no network here is exported with.
    """
    student = FakeQuantized(calibrated.floats, calibrated.quantised(), spec)
    fit(
        recipe,
        student,
        data,
        options,
        teacher=teacher,
        folder=folder,
        listener=listener,
        student_trained=True,
    )
    return replace(calibrated, floats=student.into(calibrated.floats))
