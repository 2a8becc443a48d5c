"""The pipeline of a run: select, train, export, verify, profile, result.

Choices look at the validation images. The test images are looked at once, at the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from compress.data.dataset import Dataset, Split, to_device
from compress.data.normalization import Normalized, normalize
from compress.data.sources import embedded_teacher_path
from compress.errors import CompressError, TrainingDiverged, UsageError
from compress.export import onnx_from_torch
from compress.export.fidelity import Proof
from compress.export.parity import Array
from compress.export.precision import narrowed_from_onnx
from compress.export.quantize import (
    CALIBRATION_IMAGES,
    Quantization,
    calibrate,
    int8_from_calibrated,
)
from compress.files import cache_folder, sha256_of, write_json
from compress.gate.precision import MAX_LOSS, PrecisionRule, more_images
from compress.gate.verdict import Outcome
from compress.models.checkpoint import save_checkpoint
from compress.models.registry import Network, build, count_parameters
from compress.profiling.costs import costs_of_module
from compress.profiling.fresh import FreshTiming, time_in_fresh_process
from compress.profiling.machine import fingerprint
from compress.profiling.runtimes import RUNTIMES, runtime_named
from compress.profiling.sample import Sample
from compress.profiling.timing import ModelTiming
from compress.recipes.recipe import Recipe
from compress.results import Artifact, Fidelity, Parity
from compress.spec import AUTO, FASTEST, PRECISIONS, Budget, ModelSpec, Normalization
from compress.tradeoff import (
    Choice,
    OwnRun,
    RuntimeChoice,
    choose_runtime,
    load_table,
    record_run,
    refuse_unrunnable,
    table_for,
    try_precisions,
    with_runtime,
    write_csv,
)
from compress.tradeoff.storage import StoredChoice, read_choice
from compress.training.engine import Listener, Silent, choose_device, fit
from compress.training.evaluation import evaluate, file_predictor, spread, timing_sample
from compress.training.finished import Distilled
from compress.training.kept import outputs_of
from compress.training.options import TrainingOptions
from compress.training.outputs import TeacherOutputs, Teaching
from compress.training.quantization_aware import FineTuning, fine_tune
from compress.training.runfolder import RunFolder
from compress.training.student import first_network, with_dropout
from compress.training.teacher import Teacher, load_teacher
from compress.training.team import ALONE, Team
from compress.units import format_percent

STUDENT, STUDENT_ONNX, TEACHER_ONNX = "student.safetensors", "student.onnx", "teacher.onnx"
# Beside a student.onnx in fewer bits: what it was made of.
FLOAT_ONNX = "student.fp32.onnx"
# A fine-tuned one until it is known to be better, and the folder of its training.
TUNED_ONNX, FINE_TUNING = "student.tuned.onnx", "fine-tuning"
INT8 = "int8"
TEACHER_PROOF_IMAGES = 500
# Of validation images that memory has no room for.
STREAMED_PROOF_IMAGES = 5000
# The last timing takes no longer; a percentile needs hundreds of calls.
MEDIAN_S, PERCENTILE_S = 30.0, 120.0
TRADEOFF, CHOICE = "tradeoff.csv", "choice.json"
# What the first of several processes tells the others before they train.
TRAINING = "training"
# In the cache folder: what teachers said, for all runs.
OUTPUTS = "outputs"


class DistillListener(Listener, Protocol):
    """Is told how the run goes."""

    def choice(self, choice: Choice) -> None:
        """Called when the student was chosen from the trade-off table."""
        ...


@dataclass(frozen=True)
class Request:
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
        max_precision_loss: of accuracy on validation images, as a fraction of 1, that a student in
            fewer bits may cost.
        fine_tuning: of a student in int8 that costs more, or for which that is not decided.
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
    max_precision_loss: float = MAX_LOSS
    fine_tuning: FineTuning = field(default_factory=FineTuning)

    def __post_init__(self) -> None:
        PrecisionRule(self.max_precision_loss)
        if self.fine_tuning != FineTuning() and self.budget.target.precision not in (INT8, AUTO):
            raise UsageError(
                "--qat-epochs and --qat-lr are of a student in int8, and --precision is "
                f"{self.budget.target.precision}."
            )
        if self.budget.target.runtime != FASTEST:
            runtime_named(self.budget.target.runtime)  # so that an absent one is told at once
        if self.student is None:
            self.budget.require_limit()
        else:
            ModelSpec.parse(self.student)  # so that a wrong name is told before anything is done
            if self.budget.target.precision == AUTO:
                raise UsageError(
                    "--precision auto chooses the precision with the student, and --student names "
                    f"one: name the precision too ({', '.join(PRECISIONS)})."
                )
            if self.tradeoff is not None:
                raise UsageError(
                    "--student names the student, so --tradeoff has nothing to choose."
                )
        if len(self.data.validation) == 0:
            raise UsageError(
                "A distillation needs validation images to prove the exported file on; "
                "--validation is 0."
            )


def distill(request: Request, listener: DistillListener, team: Team = ALONE) -> dict[str, Any]:
    """Teacher and budget in, student.onnx and result.json out.

    A run that was stopped goes on where it was; one that is finished is only reported. The
    student's accuracies are those of the exported file, run by the target's runtime.

    Of several processes the first calls this, the others ``assist``.

    Returns:
        what result.json says; "budget.kept" is None where no budget was given.

    Raises:
        NoStudentFits: no candidate keeps the budget.
        TeacherError: the teacher is no better than chance.
        ParityError: the exported file is not the same function as the student.
        RunFolderError: ``request.out`` holds another run.
    """
    return _Run(request, listener, team).run()


def assist(request: Request, team: Team) -> None:
    """Takes part in the training of a run that the first process of a team does.

    Teachers and weights come from that process; nothing is written but the teachers' outputs.

    Raises:
        EndedElsewhere: the first process came to its end without a training.
        ProcessLost: another process is gone.
    """
    device = choose_device(request.device)
    told = team.told(TRAINING)
    teachers = []
    for each in told["teachers"]:
        network = build(ModelSpec.from_dict(each["spec"])).to(device).eval().requires_grad_(False)
        mean, std = (tuple(each["normalization"][name]) for name in ("mean", "std"))
        teachers.append(Teaching(network, Normalization(mean, std)))
    spec = ModelSpec.from_dict(told["student"])
    student = first_network(spec, request.options.seed)
    _fit(request, student, to_device(request.data, device), teachers, None, Silent(), team)


def _fit(
    request: Request,
    student: Network,
    data: Dataset,
    teachers: Sequence[Teaching],
    folder: RunFolder | None,
    listener: Listener,
    team: Team,
) -> None:
    """Trains the student; all processes of a team do this together."""
    for teacher in teachers:
        team.spread(teacher.network)
    fit(
        request.recipe,
        student,
        data,
        request.options,
        teacher=_outputs(request, data, request.options, teachers, listener, team),
        folder=folder,
        listener=listener,
        student_trained=request.student_init is not None,
        team=team,
    )


def _outputs(
    request: Request,
    data: Dataset,
    options: TrainingOptions,
    teachers: Sequence[Teaching],
    listener: Listener,
    team: Team = ALONE,
) -> TeacherOutputs | None:
    """Where a training with these options gets its teachers' outputs from."""
    return outputs_of(
        teachers,
        request.recipe.teacher_outputs,
        data,
        options,
        folder=request.outputs_dir or cache_folder() / OUTPUTS,
        say=listener.message,
        team=team,
    )


class _Run:
    """One run; an object because its stages share the request, the folder and the teacher."""

    def __init__(self, request: Request, listener: DistillListener, team: Team) -> None:
        self.request = request
        self.team = team
        self.listener = listener
        self.device = choose_device(request.device)
        self.teacher_path = request.teacher or embedded_teacher_path()
        self.more_teachers: list[Teacher] = []
        self.budget = request.budget
        self.runtime: RuntimeChoice | None = None
        # Of files in fewer bits, by precision; a text says why there is none.
        self.fidelities: dict[str, Fidelity | str] = {}
        # How it was, and what came of it; None where there was none.
        self.fine_tuning: dict[str, Any] | None = None

    def run(self) -> dict[str, Any]:
        request, say = self.request, self.listener.message
        folder = RunFolder(request.out, self._config())
        if folder.finished:
            say(f"{request.out} is finished already; this is what it found.")
            return folder.result(Distilled)
        with folder.alone():
            return self._run(folder)

    def _run(self, folder: RunFolder) -> dict[str, Any]:
        request, say = self.request, self.listener.message
        teacher = self._teacher(self.teacher_path)
        self.more_teachers = [self._teacher(path) for path in request.more_teachers]
        self._choose_runtime(folder)
        folder.begin(self._facts(teacher))
        teacher_onnx = self._export_teacher(teacher)
        student_spec = self._choose(teacher, teacher_onnx)
        student = self._train(folder, teacher, student_spec)
        parity = self._export_student(student, student_spec, teacher)
        sample = self._sample()
        on = "seeded noise" if sample is None else f"images of {sample.name}"
        say(f"Timing the file that ships and the teacher, in a fresh process, on {on}.")
        timing = self._time(teacher_onnx)
        result = self._result(teacher, teacher_onnx, student, parity, timing)
        folder.finish(result)
        self._remember(result)
        return folder.result(Distilled)

    def _config(self) -> dict[str, Any]:
        """Everything that the result depends on; a run with another one is another run."""
        request = self.request
        data = request.data
        narrow = request.budget.target.precision != "fp32"
        return {
            "command": "distill",
            "teacher": {
                "sha256": sha256_of(self.teacher_path),
                "arch": request.teacher_arch,
                "normalization": _plain(request.normalization),
            },
            "more_teachers": [sha256_of(path) for path in request.more_teachers],
            "student_init": sha256_of(request.student_init) if request.student_init else None,
            "data": data.identity(),
            "budget": asdict(request.budget),
            "student": request.student,
            "tradeoff": sha256_of(request.tradeoff) if request.tradeoff else None,
            "recipe": {"name": request.recipe.name, **request.recipe.to_dict()},
            "training": request.options.to_dict(),
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            **(
                {
                    "max_precision_loss": request.max_precision_loss,
                    "fine_tuning": request.fine_tuning.to_dict(),
                }
                if narrow
                else {}
            ),
        }

    def _facts(self, teacher: Teacher) -> dict[str, Any]:
        """What explains the result without deciding it."""
        return {
            "machine": fingerprint().to_dict(),
            "processes": self.team.size,
            "runtime_choice": None if self.runtime is None else self.runtime.to_dict(),
            "data_source": self.request.data.source,
            "normalization": self.request.data.normalization.to_dict(),
            "teacher": {
                "file": self.teacher_path.name,
                "spec": teacher.spec.to_dict(),
                "normalization": teacher.normalization.to_dict(),
                "notes": list(teacher.notes),
            },
        }

    def _choose_runtime(self, folder: RunFolder) -> None:
        """The fastest runtime, where that was asked for: as it was found when the run began."""
        request, data = self.request, self.request.data
        if request.budget.target.runtime == FASTEST and folder.existed:
            self.runtime = RuntimeChoice.from_dict(folder.facts().get("runtime_choice"))
        else:
            self.runtime = choose_runtime(
                request.budget,
                num_classes=data.num_classes,
                input_shape=data.input_shape,
                tradeoff=request.tradeoff,
                sample=self._sample(),
                progress=self.listener.message,
            )
        if self.runtime is not None:
            runtime_named(self.runtime.runtime)
            self.budget = with_runtime(request.budget, self.runtime.runtime)

    def _teacher(self, path: Path) -> Teacher:
        request, data = self.request, self.request.data
        self.listener.message(
            f"Reading the teacher {path.name} and scoring it on the validation images."
        )
        teacher = load_teacher(
            path,
            data,
            normalization=request.normalization,
            arch=request.teacher_arch,
            device=self.device,
        )
        for note in teacher.notes:
            self.listener.message(note)
        self.listener.message(
            f"The teacher {path.name}, {teacher.spec.name}: {format_percent(teacher.accuracy)} of "
            f"{len(data.validation):,} validation images."
        )
        return teacher

    def _export_teacher(self, teacher: Teacher) -> Path:
        """The teacher in the student's runtime: the only fair denominator of a speed-up."""
        path = self.request.out / TEACHER_ONNX
        if not path.exists():
            self.listener.message(f"Exporting the teacher, {teacher.spec.name}, to {path}.")
            # The teacher's file is what the student is compared with, not what ships: a part of
            # the validation images is proof enough, and a large teacher is slow.
            sample = spread(self.request.data.validation.labels, TEACHER_PROOF_IMAGES)
            images = self.request.data.validation.images[sample]
            self._export(teacher.network, teacher.spec, teacher.normalization, images, path, {})
        return path

    def _export(
        self,
        network: torch.nn.Module,
        spec: ModelSpec,
        normalization: Normalization,
        images: Tensor,
        path: Path,
        source: Mapping[str, str],
    ) -> Parity:
        data = self.request.data
        _, parity = onnx_from_torch(
            network,
            path,
            spec=replace(spec, dropout=0.0),
            normalization=normalization,
            classes=data.class_names,
            images=normalize(images, normalization),
            source={"data": data.name, "data_sha256": data.sha256, **source},
        )
        return parity

    def _choose(self, teacher: Teacher, teacher_onnx: Path) -> ModelSpec:
        """The student: named, or chosen before this run was interrupted, or chosen now."""
        request, data = self.request, self.request.data
        dropout = request.options.dropout
        if request.student is not None:
            spec = ModelSpec.parse(
                request.student, num_classes=data.num_classes, input_shape=data.input_shape
            )
            if self.budget.target.precision != "fp32":
                refuse_unrunnable(spec, self.budget)
            return with_dropout(spec, dropout)
        if (request.out / CHOICE).exists():
            stored = self._stored_choice()
            self.budget = self.budget.in_precision(stored.precision)
            return with_dropout(stored.spec, dropout)
        known: dict[str, Any] = {
            "num_classes": data.num_classes,
            "input_shape": data.input_shape,
            "dataset_name": data.name,
            "dataset_sha256": data.sha256,
            "recipe": request.recipe.name,
            "epochs": request.options.epochs,
            "teacher": teacher.spec,
            "precisions": try_precisions(
                self.budget,
                num_classes=data.num_classes,
                input_shape=data.input_shape,
                tradeoff=request.tradeoff,
                sample=self._sample(),
                progress=self.listener.message,
            ),
        }
        if request.tradeoff is not None:
            table = load_table(request.tradeoff, **known)
        else:
            table = table_for(
                **known,
                teacher_onnx=teacher_onnx,
                sample=self._sample(),
                cache=request.use_cache,
                progress=self.listener.message,
            )
        choice = table.select(self.budget)
        write_csv(request.out / TRADEOFF, choice)
        write_json(request.out / CHOICE, choice.to_dict())
        self.listener.choice(choice)
        self.budget = self.budget.in_precision(choice.precision)
        return with_dropout(choice.spec, dropout)

    def _train(self, folder: RunFolder, teacher: Teacher, spec: ModelSpec) -> Network:
        request = self.request
        data = to_device(request.data, self.device)
        student = first_network(spec, request.options.seed, request.student_init)
        self.listener.message(
            f"Training {spec.name} ({count_parameters(student):,} parameters) with "
            f"{request.recipe.name} for {request.options.epochs} epochs on {len(data.train):,} "
            f"images of {data.name}, on {self.device.type}."
        )
        teaching = self._teaching(teacher)
        if self.team.several:
            self.listener.message(f"{self.team.size} processes share every batch.")
            about = [
                {"spec": each.network.spec.to_dict(), "normalization": each.normalization.to_dict()}
                for each in teaching
            ]
            self.team.tell(TRAINING, {"student": spec.to_dict(), "teachers": about})
        _fit(request, student, data, teaching, folder, self.listener, self.team)
        return student.to("cpu")

    def _teaching(self, teacher: Teacher) -> list[Teaching]:
        everyone = (teacher, *self.more_teachers)
        return [Teaching(each.network, each.normalization) for each in everyone]

    def _export_student(self, student: Network, spec: ModelSpec, teacher: Teacher) -> Parity:
        request, data = self.request, self.request.data
        path = request.out / STUDENT
        save_checkpoint(
            path,
            student,
            normalization=data.normalization,
            classes=data.class_names,
            extra={"run": self._config()},
        )
        source = {
            "run": request.out.name,
            "checkpoint_sha256": sha256_of(path),
            "recipe": request.recipe.name,
            "teacher_sha256": sha256_of(self.teacher_path),
        }
        shipped = self.budget.target.precision
        path = request.out / (STUDENT_ONNX if shipped == "fp32" else FLOAT_ONNX)
        self.listener.message(f"Exporting the student to {path}.")
        first = self._first_images(data.validation)
        images = first.images[:]
        parity = self._export(student, spec, data.normalization, images, path, source)
        if request.budget.target.precision != "fp32":
            self._narrow(path, spec, teacher)
        return parity

    def _first_images(self, split: Split) -> Split:
        """What is proved on: all, or a part where memory has no room for all."""
        if isinstance(split.images, Tensor):
            return split
        return split.take(spread(split.labels, STREAMED_PROOF_IMAGES))

    def _narrow(self, floats: Path, spec: ModelSpec, teacher: Teacher) -> None:
        """The student in the precision that ships, and what it is in the others that could be.

        Raises:
            PrecisionLost: what is to ship overflows.
        """
        request, target = self.request, self.budget.target
        with tempfile.TemporaryDirectory(prefix="compress-") as folder:
            for precision in self._measured_precisions():
                ships = precision == target.precision
                path = request.out / STUDENT_ONNX if ships else Path(folder, "student.onnx")
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
            self.listener.message(f"In int8 too much may be lost: {loss.reason}.")
            self._fine_tune(floats, spec, teacher, before)

    @property
    def _quantization(self) -> Quantization:
        return Quantization(activations=RUNTIMES[self.budget.target.runtime].activations)

    def _calibration(self) -> Array:
        data = self.request.data
        chosen = spread(data.train.labels, CALIBRATION_IMAGES)
        found: Array = normalize(data.train.images[chosen], data.normalization).numpy()
        return found

    def _measured(self, convert: Callable[..., tuple[Artifact, Fidelity]]) -> Fidelity:
        """How far a file is from float32, on more images where the first ones do not decide.

        Args:
            convert: makes the file, given the proof.
        """
        split = self.request.data.validation
        first = self._first_images(split)
        _, found = convert(proof=self._proof(first))
        undecided = PrecisionRule(self.request.max_precision_loss).of(found)
        if undecided.outcome is Outcome.INCONCLUSIVE and len(first) < len(split):
            self.listener.message(
                f"{len(first):,} images do not decide what it loses; going on to all "
                f"{len(split):,} validation images."
            )
            _, found = convert(proof=self._proof(split))
        return found

    def _proof(self, split: Split) -> Proof:
        images = Normalized(split.images, self.request.data.normalization)
        return Proof(images, split.labels.numpy().astype(np.int64))

    def _fine_tune(self, floats: Path, spec: ModelSpec, teacher: Teacher, before: Fidelity) -> None:
        """Trains the student as its int8 file computes it; what loses less ships."""
        request, say = self.request, self.listener.message
        options = request.fine_tuning.options(request.options)
        recipe = request.fine_tuning.recipe(request.recipe, request.options)
        method = f"{options.epochs} epochs of {recipe.name} from a rate of {options.lr:g}"
        say(
            f"Fine-tuning it as it is computed in int8, for {method} "
            "(quantisation-aware distillation)."
        )
        data = to_device(request.data, self.device)
        folder = RunFolder(
            request.out / FINE_TUNING,
            {
                "command": "fine-tune",
                # Not of the ONNX file, which says the name of this folder.
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
                teacher=_outputs(request, data, options, self._teaching(teacher), self.listener),
                folder=folder,
                listener=self.listener,
            )
        except TrainingDiverged as error:
            say(f"{error} The student stays as it was before its fine-tuning (--qat-lr).")
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
            say(f"The fine-tuned student is taken: {told}.")
        else:
            path.unlink()
            say(f"The student stays as it was before its fine-tuning: {told}.")

    def _measured_precisions(self) -> list[str]:
        """Those with fewer bits that the target runs, as far as the choice was between them."""
        shipped = self.budget.target.precision
        if self.request.budget.target.precision != AUTO:
            return [shipped]
        trials = self._stored_choice().precisions
        return [trial.precision for trial in trials if trial.runs and trial.precision != "fp32"]

    def _sample(self) -> Sample | None:
        """Images that networks are timed on; the test images are looked at once, at the end."""
        data = self.request.data
        return timing_sample(data.validation, data.normalization, data.name)

    def _time(self, teacher_onnx: Path) -> FreshTiming:
        budget = self.budget
        return time_in_fresh_process(
            self.request.out / STUDENT_ONNX,
            batch=budget.batch,
            threads=budget.target.threads,
            percentile=budget.percentile,
            runtime=budget.target.runtime,
            budget_s=budget.latency_s,
            speedup=budget.speedup,
            against=teacher_onnx,
            sample=self._sample(),
            max_s=MEDIAN_S if budget.percentile == 50 else PERCENTILE_S,
            seed=self.request.options.seed,
        )

    def _remember(self, result: dict[str, Any]) -> None:
        """Keeps the outcome for the next choice on this data; a run is not lost by failing to."""
        request, student = self.request, result["student"]
        errors = {"fp32": 1 - student["accuracy"]["validation"]}
        for precision, found in self.fidelities.items():
            if isinstance(found, Fidelity) and found.accuracy is not None:
                errors[precision] = 1 - found.accuracy
                errors["fp32"] = 1 - (found.float_accuracy or 0.0)
        run = OwnRun(
            dataset_sha256=request.data.sha256,
            name=student["name"],
            recipe=request.recipe.name,
            epochs=request.options.epochs,
            error=errors["fp32"],
            images=len(request.data.validation),
            seed=request.options.seed,
            train_images=len(request.data.train),
        )
        try:
            for precision, error in errors.items():
                record_run(replace(run, precision=precision, error=error))
        except UsageError as error:
            self.listener.message(f"The outcome is not kept for the next choice: {error}")

    def _measured_elsewhere(self) -> bool:
        """Whether the student was chosen by the figures of another machine than this one."""
        if self.request.tradeoff is None:
            return False
        there, here = self._stored_choice().machine, fingerprint().to_dict()
        return any(there.get(key) != here[key] for key in ("cpu", "isa", "cpus", "gpu"))

    def _stored_choice(self) -> StoredChoice:
        return read_choice(self.request.out / CHOICE)

    def _precisions(self) -> dict[str, dict[str, Any]]:
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

    def _result(
        self,
        teacher: Teacher,
        teacher_onnx: Path,
        student: Network,
        parity: Parity,
        timing: FreshTiming,
    ) -> dict[str, Any]:
        """result.json. The one place that looks at the test images."""
        request, data, budget = self.request, self.request.data, self.budget
        student_onnx = request.out / STUDENT_ONNX
        self.listener.message(f"Scoring both on the {len(data.test):,} test images.")
        with file_predictor(student_onnx, budget.target, made_here=True) as predict:
            student_accuracy = {
                "validation": evaluate(predict, data.validation, data.normalization),
                "test": evaluate(predict, data.test, data.normalization),
            }
        with file_predictor(teacher_onnx, budget.target, made_here=True) as predict:
            teacher_accuracy = {
                "validation": teacher.accuracy,
                "test": evaluate(predict, data.test, teacher.normalization),
            }
        size_bytes = student_onnx.stat().st_size
        elsewhere = self._measured_elsewhere()
        kept = _kept(budget, size_bytes, None if elsewhere else timing)
        warnings = _warnings(budget, timing)
        if elsewhere:
            warnings.insert(
                0,
                "The student was chosen by the figures of another machine, so this one cannot "
                "tell whether it keeps a time there: run `compress profile student.onnx` there.",
            )
        lost = self._precisions().get(budget.target.precision)
        if lost is not None and not lost["kept"]:
            found = self.fidelities[budget.target.precision]
            rule = PrecisionRule(request.max_precision_loss)
            warnings.append(
                f"The student may lose more in {budget.target.precision} than is allowed: "
                f"{lost['why']} (--max-precision-loss)."
                + (
                    more_images(rule.of(found), data.name, len(data.validation), len(data.train))
                    if isinstance(found, Fidelity)
                    else ""
                )
            )
        return {
            "budget": {
                "latency_ms": _scaled(budget.latency_s, 1e3),
                "size_mb": _scaled(budget.size_bytes, 1e-6),
                "speedup": budget.speedup,
                "batch": budget.batch,
                "percentile": budget.percentile,
                "headroom": budget.headroom,
                "measured_ms": _estimate(timing.model, 1e3),
                "kept": kept,
            },
            "target": asdict(budget.target),
            "runtime_choice": None if self.runtime is None else self.runtime.to_dict(),
            "teacher": {
                **_costs(teacher.network, teacher.spec, data.input_shape),
                "size_bytes": teacher_onnx.stat().st_size,
                "accuracy": teacher_accuracy,
                "latency_ms": _latency(timing.against),
                "file": TEACHER_ONNX,
                "sha256": sha256_of(teacher_onnx),
            },
            "more_teachers": [
                {"name": each.spec.name, "sha256": each.sha256, "validation": each.accuracy}
                for each in self.more_teachers
            ],
            "student": {
                **_costs(student, student.spec, data.input_shape),
                "size_bytes": size_bytes,
                "accuracy": student_accuracy,
                "latency_ms": _latency(timing.model),
                "parity": {
                    "top1_agreement": parity.top1_agreement,
                    "max_abs_diff": parity.max_abs_diff,
                    "images": parity.images,
                },
                "precision": budget.target.precision,
                "file": STUDENT_ONNX,
                "sha256": sha256_of(student_onnx),
            },
            "precisions": self._precisions(),
            "speedup": timing.speedup.to_dict() if timing.speedup else None,
            "load_ms": timing.load_s * 1e3,
            "first_ms": timing.first_s * 1e3,
            "memory_bytes": timing.memory_bytes,
            "recipe": request.recipe.name,
            "recipe_options": request.recipe.to_dict(),
            "epochs": request.options.epochs,
            "seed": request.options.seed,
            "data": {
                "name": data.name,
                "sha256": data.sha256,
                "n": {
                    "train": len(data.train),
                    "validation": len(data.validation),
                    "test": len(data.test),
                },
            },
            "machine": fingerprint().to_dict(),
            "warnings": warnings,
        }


def _of_precision(found: Fidelity | str, rule: PrecisionRule) -> dict[str, Any]:
    """What result.json says of a precision with fewer bits."""
    if isinstance(found, str):
        return {"accuracy": None, "top1_agreement": None, "kept": False, "why": found}
    loss = rule.of(found)
    return {
        "accuracy": found.accuracy,
        "top1_agreement": found.top1_agreement,
        "fidelity": found.to_dict(),
        "loss": loss.to_dict(),
        "kept": loss.outcome is Outcome.PASS,
        "why": loss.reason,
    }


def _kept(budget: Budget, size_bytes: int, timing: FreshTiming | None) -> bool | None:
    """Whether the file keeps every limit, judged by the unfavourable end of each interval.

    None: there is no limit, or none that is missed and one that could not be judged.
    """
    held: list[bool | None] = []
    model = timing.model if timing else None
    ratio = timing.speedup if timing else None
    if budget.latency_s is not None:
        held.append(None if model is None else model.latency.high <= budget.latency_s)
    if budget.speedup is not None:
        held.append(None if ratio is None else ratio.low >= budget.speedup)
    if budget.size_bytes is not None:
        held.append(size_bytes <= budget.size_bytes)
    if False in held:
        return False
    return None if None in held or not held else True


def _warnings(budget: Budget, timing: FreshTiming) -> list[str]:
    """What is to be known about the last timing, a sentence each."""
    warnings = []
    if timing.model is not None and timing.model.straddles:
        warnings.append("The budget lies inside the interval of the latency, timed for long.")
    ratio = timing.speedup
    if ratio is not None and budget.speedup is not None and ratio.low < budget.speedup < ratio.high:
        warnings.append("The speed-up asked for lies inside the interval, timed for long.")
    for role, each in (("student", timing.model), ("teacher", timing.against)):
        said = () if each is None else each.warnings
        warnings += [f"Timing the {role}: {text}" for text in said]
    return warnings


def _costs(network: Network, spec: ModelSpec, input_shape: tuple[int, int, int]) -> dict[str, Any]:
    costs = costs_of_module(network, input_shape)
    return {"name": spec.name, "params": costs.params, "macs": costs.macs}


def _latency(timing: ModelTiming | None) -> dict[str, float] | None:
    return None if timing is None else timing.median.to_dict(1e3, "median")


def _estimate(timing: ModelTiming | None, scale: float) -> dict[str, float] | None:
    return None if timing is None else timing.latency.to_dict(scale)


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _plain(normalization: Normalization | None) -> dict[str, list[float]] | None:
    return None if normalization is None else normalization.to_dict()
