"""The student in reduced precision: converted, measured, and fine-tuned where it pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from compress.data.dataset import Split, to_device
from compress.errors import CompressError, TrainingDiverged
from compress.exporting.parity import Array
from compress.exporting.precision import reduced_from_onnx
from compress.exporting.quantize import (
    CALIBRATION_IMAGES,
    Quantization,
    calibrate,
    int8_from_calibrated,
)
from compress.files import sha256_of
from compress.gate.precision import PrecisionRule
from compress.gate.verdict import Outcome
from compress.pipelines.distill.choosing import ChosenStudent
from compress.pipelines.distill.context import DistillContext
from compress.pipelines.distill.learning import teacher_outputs
from compress.pipelines.distill.names import FINE_TUNING, STUDENT, STUDENT_ONNX, TUNED_ONNX
from compress.pipelines.distill.request import INT8
from compress.pipelines.distill.result import FineTuningResult, PrecisionResult
from compress.pipelines.reduced_precision import (
    Convert,
    LossLimit,
    ProofImages,
    calibration_images,
    reduce_precision,
)
from compress.profiling.registry import RUNTIMES
from compress.results import Fidelity
from compress.scratch import scratch_folder
from compress.tasks.task import Task
from compress.training.evaluation import stratified_sample
from compress.training.quantization_aware import fine_tune
from compress.training.runfolder import RunFolder
from compress.training.teacher import Teacher

# Of validation images that memory has no room for.
STREAMED_PROOF_IMAGES = 5000


def first_images(split: Split, task: Task) -> Split:
    """What is proved on first: all, or a part where memory has no room for all."""
    if isinstance(split.images, Tensor):
        return split
    return split.take(stratified_sample(split, task, STREAMED_PROOF_IMAGES))


@dataclass(frozen=True)
class _Reduction:
    """How files of reduced precision are made and judged in a run.

    Attributes:
        context: of the run.
        chosen: the student.
        floats: its float32 file.
        teaching: whom a fine-tuning learns from.
        images: what is judged on.
        limit: what may be lost.
    """

    context: DistillContext
    chosen: ChosenStudent
    floats: Path
    teaching: Sequence[Teacher]
    images: ProofImages
    limit: LossLimit

    @property
    def options(self) -> Quantization:
        """How int8 is quantised for the runtime."""
        runtime = self.chosen.budget.target.runtime
        return Quantization(activations=RUNTIMES[runtime].activations)

    def calibration(self) -> Array:
        """Images that the ranges of int8 are measured on."""
        data = self.context.request.data
        return calibration_images(data, data.normalization, CALIBRATION_IMAGES)

    def measure(self, convert: Convert, precision: str) -> Fidelity:
        """Makes a file and tells how far it is from float32, whatever it loses."""
        say = self.context.say
        return reduce_precision(convert, self.images, self.limit, precision, say=say)[1]


def reduce_student_precision(
    context: DistillContext, chosen: ChosenStudent, teaching: Sequence[Teacher], floats: Path
) -> dict[str, PrecisionResult]:
    """The student in the precision that ships, and what it is in the others that could be.

    Args:
        context: of the run.
        chosen: the student, and in which precisions it is measured.
        teaching: whom a fine-tuning learns from.
        floats: the student's float32 file.

    Returns:
        what was found of each precision, by its name.

    Raises:
        PrecisionLost: what is to ship overflows.
    """
    request = context.request
    if not chosen.precisions:
        return {}
    data, rule = request.data, PrecisionRule(request.max_precision_loss)
    split = data.validation
    first = first_images(split, data.task)
    images = ProofImages.of(first, split, data.task, data.normalization)
    job = _Reduction(context, chosen, floats, teaching, images, LossLimit(rule, data))
    found = {}
    with scratch_folder("int8") as folder:
        for precision in chosen.precisions:
            ships = precision == chosen.precision
            context.say(f"Converting the student to {precision}.")
            convert = partial(
                reduced_from_onnx,
                floats,
                request.out / STUDENT_ONNX if ships else folder / "student.onnx",
                precision,
                calibration=job.calibration,
                options=job.options,
            )
            try:
                found[precision] = PrecisionResult.of(job.measure(convert, precision), rule)
            except CompressError as error:
                if ships:
                    raise
                found[precision] = PrecisionResult.absent(str(error))
    if chosen.precision == INT8:
        found[INT8] = _fine_tuned(job, found[INT8])
    return found


def more_images(context: DistillContext, shipped: PrecisionResult) -> str:
    """The option that gives images enough to decide what the shipped precision costs."""
    if shipped.fidelity is None:
        return ""
    limit = LossLimit(PrecisionRule(context.request.max_precision_loss), context.request.data)
    return limit.more_images(limit.rule.of(shipped.fidelity))


def _fine_tuned(job: _Reduction, before: PrecisionResult) -> PrecisionResult:
    """Trains the student as its int8 file computes it, where needed; what loses less ships."""
    context, rule = job.context, job.limit.rule
    request, say = context.request, context.say
    fidelity = before.fidelity
    if fidelity is None or not request.fine_tuning.wanted:
        return before
    if rule.of(fidelity).outcome is Outcome.PASS:
        return before
    say(f"int8 may lose too much: {before.why}.")
    options = request.fine_tuning.options(request.options)
    recipe = request.fine_tuning.recipe(request.recipe, request.options)
    method = f"{options.epochs} epochs of {recipe.name} from a learning rate of {options.lr:g}"
    say(f"Fine-tuning it in int8 for {method} (quantisation-aware distillation).")
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
    data = to_device(request.data, context.device)
    result = FineTuningResult(options.epochs, options.lr, before, after=None, taken=False)
    try:
        tuned = fine_tune(
            calibrate(job.floats, job.calibration(), job.options),
            job.chosen.spec,
            recipe,
            data,
            options,
            teacher=teacher_outputs(request, data, options, job.teaching, context.listener),
            folder=folder,
            listener=context.listener,
        )
    except TrainingDiverged as error:
        say(f"{error} The student from before fine-tuning is used. Try a lower --qat-lr.")
        return replace(before, fine_tuning=result)
    path = request.out / TUNED_ONNX
    told = {"fine_tuned": f"{method}."}
    convert = partial(int8_from_calibrated, tuned, job.floats, path, conversion=told)
    after = job.measure(convert, INT8)
    taken = rule.better(after, fidelity)
    result = replace(result, after=PrecisionResult.of(after, rule), taken=taken)
    reasons = f"with it {rule.of(after).reason}; without it {before.why}"
    if taken:
        path.replace(request.out / STUDENT_ONNX)
        say(f"The fine-tuned student is used: {reasons}.")
    else:
        path.unlink()
        say(f"The student from before fine-tuning is used: {reasons}.")
    return replace(PrecisionResult.of(after if taken else fidelity, rule), fine_tuning=result)
