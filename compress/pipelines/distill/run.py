"""The stages of a run: teach, select, train, export, verify, profile, result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compress.data.dataset import to_device
from compress.data.normalization import normalize
from compress.data.sources import embedded_teacher_path
from compress.errors import UsageError
from compress.exporting import onnx_from_torch
from compress.files import printable, sha256_of, write_json
from compress.models.checkpoint import save_checkpoint
from compress.models.network import Network
from compress.models.registry import count_parameters
from compress.pipelines.distill.learning import TRAINING, fit_student
from compress.pipelines.distill.names import (
    CHOICE,
    FLOAT_ONNX,
    SHIPPED,
    STUDENT,
    STUDENT_ONNX,
    TEACHER_ONNX,
    TRADEOFF,
)
from compress.pipelines.distill.narrowing import Narrowing, first_images
from compress.pipelines.distill.request import DistillListener, Request
from compress.pipelines.distill.result import judged, make_result, score
from compress.profiling.fresh import FreshTiming, time_in_fresh_process
from compress.profiling.inputs import Sample
from compress.profiling.machine import fingerprint
from compress.profiling.registry import runtime_named
from compress.results import Fidelity, Parity
from compress.spec import AUTO, FASTEST, ModelSpec, Normalization
from compress.tasks.task import Standing
from compress.tradeoff import (
    OwnRun,
    Plan,
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
from compress.training.engine import choose_device
from compress.training.evaluation import answers_to, predictor, stratified_sample, timing_sample
from compress.training.finished import Distilled
from compress.training.outputs import Teaching
from compress.training.runfolder import RunFolder
from compress.training.student import first_network, with_dropout
from compress.training.teacher import Teacher, load_teacher
from compress.training.team import SINGLE_PROCESS, Team
from compress.units import format_percent

TEACHER_PROOF_IMAGES = 500
# The last timing takes no longer; a percentile needs hundreds of calls.
MEDIAN_S, PERCENTILE_S = 30.0, 120.0


def distill(
    request: Request, listener: DistillListener, team: Team = SINGLE_PROCESS
) -> dict[str, Any]:
    """Teacher and budget in, student.onnx and result.json out.

    A run that was stopped goes on where it was; one that is finished is only reported. The
    student's accuracies are those of the exported file, run by the target's runtime.

    Of several processes the first calls this, the others ``assist``.

    Returns:
        what result.json says; "budget.outcome" is "kept", "missed", "undecided" or "not judged".

    Raises:
        NoStudentFits: no candidate keeps the budget.
        TeacherError: the teacher is no better than chance.
        ParityError: the exported file is not the same function as the student.
        RunFolderError: ``request.out`` holds another run.
    """
    return _Run(request, listener, team).run()


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
        self.narrowing: Narrowing | None = None

    def run(self) -> dict[str, Any]:
        request, say = self.request, self.listener.message
        folder = RunFolder(request.out, self._config())
        if folder.finished and all(map(folder.is_whole, SHIPPED)):
            say(f"{request.out} is already finished; its result follows.")
            return judged(folder.result(Distilled), request.max_accuracy_drop)
        # A teacher that is refused leaves nothing behind, so the folder comes after it.
        teacher = self._teacher(self.teacher_path)
        self.more_teachers = [self._teacher(path) for path in request.more_teachers]
        with folder.alone():
            return self._run(folder, teacher)

    def _run(self, folder: RunFolder, teacher: Teacher) -> dict[str, Any]:
        say = self.listener.message
        if folder.finished:
            say(folder.reopen(SHIPPED))
        self._choose_runtime(folder)
        if told := folder.begin(self._facts(teacher)):
            say(told)
        teacher_onnx = self._export_teacher(folder, teacher)
        student_spec = self._choose(teacher, teacher_onnx)
        student = self._train(folder, teacher, student_spec)
        parity = self._export_student(student, student_spec, teacher)
        folder.keep(STUDENT, STUDENT_ONNX)
        sample = self._sample()
        on = "seeded noise" if sample is None else f"images of {sample.name}"
        say(f"Timing the file that ships and the teacher, in a fresh process, on {on}.")
        timing = self._time(teacher_onnx)
        result = self._result(teacher, teacher_onnx, student, parity, timing)
        folder.finish(judged(result, self.request.max_accuracy_drop))
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
                num_classes=data.task.width,
                input_shape=data.input_shape,
                tradeoff=request.tradeoff,
                sample=self._sample(),
                say=self.listener.message,
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

    def _export_teacher(self, folder: RunFolder, teacher: Teacher) -> Path:
        """The teacher in the student's runtime: the only fair denominator of a speed-up."""
        path = self.request.out / TEACHER_ONNX
        if not folder.is_whole(TEACHER_ONNX):
            if path.exists():
                self.listener.message(f"{path} is not the teacher's file that this run exported.")
            self.listener.message(f"Exporting the teacher, {teacher.spec.name}, to {path}.")
            # The teacher's file is what the student is compared with, not what ships: a part of
            # the validation images is proof enough, and a large teacher is slow.
            data = self.request.data
            sample = stratified_sample(data.validation, data.task, TEACHER_PROOF_IMAGES)
            images = data.validation.images[sample]
            self._export(teacher.network, teacher.spec, teacher.normalization, images, path, {})
            folder.keep(TEACHER_ONNX)
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
            classes=data.task.classes,
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
                request.student, num_classes=data.task.width, input_shape=data.input_shape
            )
            if self.budget.target.precision != "fp32":
                refuse_unrunnable(spec, self.budget)
            return with_dropout(spec, dropout)
        if (request.out / CHOICE).exists():
            stored = self._stored_choice()
            self.budget = self.budget.in_precision(stored.precision)
            return with_dropout(stored.spec, dropout)
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
            "teacher": teacher.spec,
            "precisions": try_precisions(
                self.budget,
                num_classes=data.task.width,
                input_shape=data.input_shape,
                tradeoff=request.tradeoff,
                sample=self._sample(),
                say=self.listener.message,
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
                say=self.listener.message,
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
        student = first_network(spec, request.options.seed, request.student_init, data.task.classes)
        self.listener.message(
            f"Training {spec.name} ({count_parameters(student):,} parameters) with "
            f"{request.recipe.name} for {request.options.epochs} epochs on {len(data.train):,} "
            f"images of {data.name}, on {self.device.type}."
        )
        teaching = self._teaching(teacher)
        if self.team.several:
            self.listener.message(f"{self.team.size} processes share each batch.")
            about = [
                {"spec": each.network.spec.to_dict(), "normalization": each.normalization.to_dict()}
                for each in teaching
            ]
            self.team.publish(TRAINING, {"student": spec.to_dict(), "teachers": about})
        fit_student(request, student, data, teaching, folder, self.listener, self.team)
        student = student.to("cpu")
        self._compare_with_chance(student)
        return student

    def _compare_with_chance(self, student: Network) -> None:
        """Says at once where the training came to nothing; what ships is judged in the end."""
        data = self.request.data
        predict = predictor(student, data.task)
        outputs = answers_to(predict, data.validation.images, data.normalization)
        chance = data.task.chance(outputs, data.validation.targets)
        if chance.standing is not Standing.BETTER:
            self.listener.message(f"Warning: on the validation images the student is {chance.text}")

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
            classes=data.task.classes,
            extra={"run": self._config()},
        )
        source = {
            "checkpoint_sha256": sha256_of(path),
            "recipe": request.recipe.name,
            "teacher_sha256": sha256_of(self.teacher_path),
        }
        shipped = self.budget.target.precision
        path = request.out / (STUDENT_ONNX if shipped == "fp32" else FLOAT_ONNX)
        self.listener.message(f"Exporting the student to {path}.")
        images = first_images(data.validation, data.task).images[:]
        parity = self._export(student, spec, data.normalization, images, path, source)
        if request.budget.target.precision != "fp32":
            self.narrowing = Narrowing(request, self.budget.target, self.listener)
            precisions, teaching = self._measured_precisions(), self._teaching(teacher)
            self.narrowing.narrow(path, spec, precisions, teaching)
        return parity

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
        return timing_sample(data, data.validation, data.normalization)

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
        if student["chance"]["standing"] == Standing.NO_BETTER.value:
            return  # it shows nothing of what the architecture is worth
        errors = {"fp32": 1 - student["accuracy"]["validation"]}
        fidelities = self.narrowing.fidelities if self.narrowing else {}
        for precision, found in fidelities.items():
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
            schedule=request.options.schedule,
            data=request.data.name,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            folder=printable(request.out.absolute()),
        )
        try:
            for precision, error in errors.items():
                record_run(replace(run, precision=precision, error=error))
        except UsageError as error:
            self.listener.message(f"The result is not recorded for later choices: {error}")

    def _measured_elsewhere(self) -> bool:
        """Whether the student was chosen by the figures of another machine than this one."""
        if self.request.tradeoff is None:
            return False
        there, here = self._stored_choice().machine, fingerprint().to_dict()
        return any(there.get(key) != here[key] for key in ("cpu", "isa", "cpus", "gpu"))

    def _stored_choice(self) -> StoredChoice:
        return read_choice(self.request.out / CHOICE)

    def _result(
        self,
        teacher: Teacher,
        teacher_onnx: Path,
        student: Network,
        parity: Parity,
        timing: FreshTiming,
    ) -> dict[str, Any]:
        """result.json. The one place that looks at the test images."""
        request, data = self.request, self.request.data
        self.listener.message(f"Scoring both on the {len(data.test):,} test images.")
        target = self.budget.target
        return make_result(
            request,
            self.budget,
            runtime=self.runtime,
            teacher=teacher,
            teacher_onnx=teacher_onnx,
            more_teachers=self.more_teachers,
            student=student,
            parity=parity,
            timing=timing,
            scores=score(request.out / STUDENT_ONNX, teacher, teacher_onnx, data, target),
            precisions=self.narrowing.to_dict() if self.narrowing else {},
            more_images=self.narrowing.more_images() if self.narrowing else "",
            elsewhere=self._measured_elsewhere(),
        )


def _plain(normalization: Normalization | None) -> dict[str, list[float]] | None:
    return None if normalization is None else normalization.to_dict()
