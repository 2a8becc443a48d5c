"""The student in fewer bits: converted, measured on validation images, fine-tuned where it pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from compress.data.dataset import Split, to_device
from compress.data.normalization import Normalized, normalize
from compress.errors import CompressError, TrainingDiverged
from compress.exporting.fidelity import Proof
from compress.exporting.parity import Array
from compress.exporting.precision import narrowed_from_onnx
from compress.exporting.quantize import (
    CALIBRATION_IMAGES,
    Quantization,
    calibrate,
    int8_from_calibrated,
)
from compress.files import sha256_of
from compress.gate.precision import PrecisionRule, more_images
from compress.gate.verdict import Outcome
from compress.pipelines.distill.learning import teacher_outputs
from compress.pipelines.distill.names import FINE_TUNING, STUDENT, STUDENT_ONNX, TUNED_ONNX
from compress.pipelines.distill.request import INT8, NOT_JUDGED, Request
from compress.profiling.registry import RUNTIMES
from compress.results import Artifact, Fidelity
from compress.scratch import scratch_folder
from compress.spec import ModelSpec, Target
from compress.tasks.task import Task
from compress.training.engine import Listener, choose_device
from compress.training.evaluation import stratified_sample
from compress.training.outputs import Teaching
from compress.training.quantization_aware import fine_tune
from compress.training.runfolder import RunFolder

# Of validation images that memory has no room for.
STREAMED_PROOF_IMAGES = 5000


def first_images(split: Split, task: Task) -> Split:
    """What is proved on: all, or a part where memory has no room for all."""
    if isinstance(split.images, Tensor):
        return split
    return split.take(stratified_sample(split, task, STREAMED_PROOF_IMAGES))


class Narrowing:
    """The student's files in fewer bits, and what was found of them.

    Args:
        request: of the run.
        target: that the student is for, its precision decided.
        listener: is told how it goes.

    Attributes:
        fidelities: of files in fewer bits, by precision; a text says why there is none.
        fine_tuning: how it was, and what came of it; None where there was none.
    """

    def __init__(self, request: Request, target: Target, listener: Listener) -> None:
        self.request = request
        self.target = target
        self.listener = listener
        self.fidelities: dict[str, Fidelity | str] = {}
        self.fine_tuning: dict[str, Any] | None = None

    def narrow(
        self,
        floats: Path,
        spec: ModelSpec,
        precisions: Sequence[str],
        teaching: Sequence[Teaching],
    ) -> None:
        """The student in the precision that ships, and what it is in the others that could be.

        Args:
            floats: the student's float32 file.
            spec: the student.
            precisions: to measure.
            teaching: whom a fine-tuning learns from.

        Raises:
            PrecisionLost: what is to ship overflows.
        """
        request, target = self.request, self.target
        with scratch_folder("int8") as folder:
            for precision in precisions:
                ships = precision == target.precision
                path = request.out / STUDENT_ONNX if ships else folder / "student.onnx"
                self.listener.message(f"Converting the student to {precision}.")
                convert = partial(
                    narrowed_from_onnx,
                    floats,
                    path,
                    precision,
                    calibration=self._calibration,
                    options=self._quantization,
                )
                try:
                    self.fidelities[precision] = self._measured(convert)
                except CompressError as error:
                    if ships:
                        raise
                    self.fidelities[precision] = str(error)
        before = self.fidelities.get(INT8)
        if target.precision != INT8 or not isinstance(before, Fidelity):
            return
        loss = PrecisionRule(request.max_precision_loss).of(before)
        if loss.outcome is not Outcome.PASS and request.fine_tuning.wanted:
            self.listener.message(f"int8 may lose too much: {loss.reason}.")
            self._fine_tune(floats, spec, teaching, before)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Of each precision that was measured beside float32, on validation images."""
        rule = PrecisionRule(self.request.max_precision_loss)
        found = {name: _of_precision(found, rule) for name, found in self.fidelities.items()}
        if self.fine_tuning is not None:
            before, after = (self.fine_tuning[key] for key in ("before", "after"))
            found[INT8]["fine_tuning"] = self.fine_tuning | {
                "before": _of_precision(before, rule),
                "after": None if after is None else _of_precision(after, rule),
            }
        return found

    def more_images(self) -> str:
        """The option that gives images enough to decide what the shipped precision costs."""
        found, data = self.fidelities.get(self.target.precision), self.request.data
        if not isinstance(found, Fidelity):
            return ""
        loss = PrecisionRule(self.request.max_precision_loss).of(found)
        return more_images(loss, data.name, len(data.validation), len(data.train))

    @property
    def _quantization(self) -> Quantization:
        return Quantization(activations=RUNTIMES[self.target.runtime].activations)

    def _calibration(self) -> Array:
        data = self.request.data
        chosen = stratified_sample(data.train, data.task, CALIBRATION_IMAGES)
        found: Array = normalize(data.train.images[chosen], data.normalization).numpy()
        return found

    def _measured(self, convert: Callable[..., tuple[Artifact, Fidelity]]) -> Fidelity:
        """How far a file is from float32, on more images where the first ones do not decide.

        Args:
            convert: makes the file, given the proof.
        """
        split = self.request.data.validation
        first = first_images(split, self.request.data.task)
        _, found = convert(proof=self._proof(first))
        undecided = PrecisionRule(self.request.max_precision_loss).of(found)
        if undecided.outcome is Outcome.INCONCLUSIVE and len(first) < len(split):
            self.listener.message(
                f"{len(first):,} images do not decide what it loses; comparing all {len(split):,} "
                "validation images."
            )
            _, found = convert(proof=self._proof(split))
        return found

    def _proof(self, split: Split) -> Proof:
        images = Normalized(split.images, self.request.data.normalization)
        return Proof(images, split.targets.numpy().astype(np.int64))

    def _fine_tune(
        self, floats: Path, spec: ModelSpec, teaching: Sequence[Teaching], before: Fidelity
    ) -> None:
        """Trains the student as its int8 file computes it; what loses less ships."""
        request, say = self.request, self.listener.message
        options = request.fine_tuning.options(request.options)
        recipe = request.fine_tuning.recipe(request.recipe, request.options)
        method = f"{options.epochs} epochs of {recipe.name} from a learning rate of {options.lr:g}"
        say(f"Fine-tuning it in int8 for {method} (quantisation-aware distillation).")
        data = to_device(request.data, choose_device(request.device))
        folder = RunFolder(
            request.out / FINE_TUNING,
            {
                "command": "fine-tune",
                "student": sha256_of(request.out / STUDENT),
                "recipe": {"name": recipe.name, **recipe.to_dict()},
                "training": options.to_dict(),
            },
        )
        folder.begin({})
        found: dict[str, Any] = {
            "epochs": options.epochs,
            "lr": options.lr,
            "before": before,
            "after": None,
            "taken": False,
        }
        self.fine_tuning = found
        calibrated = calibrate(floats, self._calibration(), self._quantization)
        try:
            tuned = fine_tune(
                calibrated,
                spec,
                recipe,
                data,
                options,
                teacher=teacher_outputs(request, data, options, teaching, self.listener),
                folder=folder,
                listener=self.listener,
            )
        except TrainingDiverged as error:
            say(f"{error} The student from before fine-tuning is used. Try a lower --qat-lr.")
            return
        path = request.out / TUNED_ONNX
        after = self._measured(
            partial(
                int8_from_calibrated, tuned, floats, path, conversion={"fine_tuned": f"{method}."}
            )
        )
        rule = PrecisionRule(request.max_precision_loss)
        found |= {"after": after, "taken": rule.better(after, before)}
        told = f"with it {rule.of(after).reason}; without it {rule.of(before).reason}"
        if found["taken"]:
            path.replace(request.out / STUDENT_ONNX)
            self.fidelities[INT8] = after
            say(f"The fine-tuned student is used: {told}.")
        else:
            path.unlink()
            say(f"The student from before fine-tuning is used: {told}.")


def _of_precision(found: Fidelity | str, rule: PrecisionRule) -> dict[str, Any]:
    """What result.json says of a precision with fewer bits."""
    if isinstance(found, str):
        return {"accuracy": None, "top1_agreement": None, "outcome": NOT_JUDGED, "why": found}
    loss = rule.of(found)
    return {
        "accuracy": found.accuracy,
        "top1_agreement": found.top1_agreement,
        "fidelity": found.to_dict(),
        "loss": loss.to_dict(),
        "outcome": loss.outcome.judgement,
        "why": loss.reason,
    }
