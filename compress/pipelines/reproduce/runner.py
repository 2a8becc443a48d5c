"""Runs what is missing of an experiment, a run folder a training, and writes its table.

runs/TASK/STUDENT/METHOD/seedN/   a training: run.json, metrics.jsonl, last.safetensors,
                                  best.safetensors, result.json
teachers/TASK/                    see ``compress.pipelines.reproduce.work``
experiment.json                   what was asked for
table.md, table.csv, results.json, table.png and the figures

A training that was stopped goes on where it was. Several processes may work at one
folder: each takes a training that no other is at, on a device of its own where torchrun started
them; the first of those measures and draws when all is trained. Choices look at validation images;
the test images are looked at once a training, when both of its students are fixed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from compress.data.dataset import Split
from compress.errors import Inconclusive, TrainingDiverged
from compress.files import clear_up, read_json, sha256_of, try_lock, write_json
from compress.launched import place
from compress.models.checkpoint import save_checkpoint, weights_of
from compress.models.network import Network
from compress.models.registry import count_parameters
from compress.pipelines.reproduce.experiment import Experiment, ExperimentTask, Method, slug
from compress.pipelines.reproduce.finished import FinishedTraining
from compress.pipelines.reproduce.pictures import pictures_of
from compress.pipelines.reproduce.report import write_report
from compress.pipelines.reproduce.scores import Histogram, histogram
from compress.pipelines.reproduce.settings import Adapted
from compress.pipelines.reproduce.table import Report, TaskReport
from compress.pipelines.reproduce.timing import Times, time_networks
from compress.pipelines.reproduce.work import TaskWork, TeacherFacts, load_data
from compress.profiling.machine import fingerprint
from compress.report import drawing
from compress.schema import decode_or_none
from compress.spec import Normalization
from compress.tasks.classification import LOGITS
from compress.tasks.task import Task
from compress.training.checkpoints import Checkpoints
from compress.training.device import choose_device
from compress.training.engine import fit
from compress.training.evaluation import answers_to, evaluate, predictor, stratified_sample
from compress.training.listener import Listener, Progress
from compress.training.options import TrainingOptions
from compress.training.runfolder import METRICS, RunFolder, installed_versions, read_metrics
from compress.training.student import first_network

RUNS, EXPERIMENT = "runs", "experiment.json"
LAST, BEST = "last.safetensors", "best.safetensors"
WAIT_S = 2.0


@dataclass(frozen=True)
class _Scores:
    """What scores-TASK.json says."""

    key: dict[str, Any]
    histograms: tuple[Histogram, ...]


@dataclass(frozen=True)
class ReproduceRequest:
    """What is to be reproduced.

    Attributes:
        adapted: the experiment, and in what it differs from the declared one.
        out: the experiment's folder.
        data_dir: where known data sets lie.
        device: auto, cpu or cuda.
        max_s: after so many seconds no epoch begins; None for no end.
    """

    adapted: Adapted
    out: Path
    data_dir: Path | None = None
    device: str = "auto"
    max_s: float | None = None


@dataclass(frozen=True)
class Training:
    """One training of a student."""

    task: ExperimentTask
    student: str
    method: Method
    seed: int

    @property
    def place(self) -> Path:
        """Its folder within the experiment's."""
        parts = (slug(self.task.name), slug(self.student), slug(self.method.name))
        return Path(RUNS, *parts, f"seed{self.seed}")

    @property
    def options(self) -> TrainingOptions:
        """How it trains."""
        return replace(self.task.schedule, seed=self.seed)

    @property
    def title(self) -> str:
        """For a message."""
        return f"{self.task.name}, {self.student}, {self.method.name}, seed {self.seed}"


class TimeOver(Exception):
    """The time that was allowed is over; everything is saved."""


def trainings(experiment: Experiment, task: ExperimentTask) -> list[Training]:
    """All of a task; a seed of everything before the next seed."""
    return [
        Training(task, student, method, seed)
        for seed in experiment.seeds
        for student in task.students
        for method in experiment.methods
    ]


def reproduce(request: ReproduceRequest, listener: Listener) -> Report:
    """Trains what is missing and writes the table.

    Returns:
        what the table shows.

    Raises:
        Inconclusive: time was over first; the table of what there is has been written.
        RunFolderError: ``request.out`` holds something else.
        CompressError: whatever data, teachers and trainings raise.
    """
    return _Reproduction(request, listener).run()


def assist(request: ReproduceRequest, listener: Listener) -> None:
    """Trains what is missing beside another process that calls ``reproduce``.

    Raises:
        CompressError: as ``reproduce``.
    """
    _Reproduction(request, listener).train()


class _Reproduction:
    """An object because its stages share the request, the clock and what is found."""

    def __init__(self, request: ReproduceRequest, listener: Listener) -> None:
        self.request = request
        self.experiment = request.adapted.experiment
        self.listener = listener
        self.timed = _TimedListener(listener, request.max_s)
        self.device = choose_device(request.device)
        self.found: dict[str, TaskReport] = {}
        self.times: dict[str, Times] = {}
        self.scores: dict[str, tuple[Histogram, ...]] = {}
        self.count = sum(len(trainings(self.experiment, task)) for task in self.experiment.tasks)

    def run(self) -> Report:
        """See ``reproduce``."""
        over = False
        if place().size > 1:
            self.train()  # what is measured is not to be disturbed by the others' trainings
        for task in self.experiment.tasks:
            work = self._work(task)
            try:
                if not over:
                    self._train_all(work)
                    self._measure(work)
            except TimeOver:
                over = True
            self._collect(work)
        report = self._write()
        self._draw(report)
        if over:
            raise Inconclusive(
                f"The time is over: {report.finished} of {self.count} trainings are finished. "
                f"{self.request.out / 'table.md'} has their results; run the same command again "
                "to continue."
            )
        return report

    def train(self) -> None:
        """Trains what is missing of all tasks, until nothing is or time is over."""
        try:
            for task in self.experiment.tasks:
                self._train_all(self._work(task))
        except TimeOver:
            return

    def _work(self, task: ExperimentTask) -> TaskWork:
        request = self.request
        data = load_data(
            task,
            split_seed=self.experiment.split_seed,
            fraction=request.adapted.fraction,
            root=request.data_dir,
            say=self.listener.message,
        )
        return TaskWork(
            task, data, request.out, self.device, self.experiment.split_seed, self.timed
        )

    def _train_all(self, work: TaskWork) -> None:
        """Until nothing of the task is missing; what another process is at is waited for.

        Raises:
            TimeOver: it is.
        """
        missing = trainings(self.experiment, work.task)
        self._check(work, missing)
        waiting = False
        while True:
            left = [each for each in missing if not self._finish(work, each)]
            if not left:
                return
            if len(left) == len(missing):
                if not waiting:
                    self.listener.message(
                        f"Another process trains the rest of {work.task.name}; waiting for it."
                    )
                waiting = True
                self.timed.check()
                time.sleep(WAIT_S)
            missing = left

    def _check(self, work: TaskWork, all_of_it: list[Training]) -> None:
        """Refuses a folder that holds other trainings before anything is done.

        Raises:
            RunFolderError: it does.
        """
        facts = work.facts() if work.task.teacher is not None else None
        for training in all_of_it:
            if facts is not None or not training.method.make().teacher_outputs:
                self._folder(work, training, facts)

    def _folder(self, work: TaskWork, training: Training, facts: TeacherFacts | None) -> RunFolder:
        """The run folder of a training."""
        recipe, options = training.method.make(), training.options
        return RunFolder(
            self.request.out / training.place,
            {
                "command": "reproduce",
                "model": work.spec(training.student, options).to_dict(),
                "data": work.identity(),
                "recipe": {"name": recipe.name, **recipe.to_dict()},
                "teacher": facts.sha256 if facts and recipe.teacher_outputs else None,
                "training": options.to_dict(),
                "validate_images": self.experiment.validate_images,
                "curve_images": self.experiment.curve_images,
            },
        )

    def _finish(self, work: TaskWork, training: Training) -> bool:
        """Trains to the end; False where another process is at this or at what it needs."""
        facts = None
        if training.method.make().teacher_outputs:
            facts = work.make_teacher()
            if facts is None:
                return False
        path = self.request.out / training.place
        if (path / "result.json").exists():
            return True
        with try_lock(path) as mine:
            if not mine:
                return False
            clear_up(path)
            folder = self._folder(work, training, facts)
            if not folder.finished:
                self.timed.check()
                outputs = work.outputs(training.method.make(), training.options, facts)
                self._train(work, training, folder, outputs)
        self._collect(work)
        self._write()
        return True

    def _train(self, work: TaskWork, training: Training, folder: RunFolder, outputs: Any) -> None:
        """One training, its two students and their figures."""
        folder.begin({"device": self.device.type, "machine": fingerprint().to_dict()})
        options, recipe, data = training.options, training.method.make(), work.data
        student = first_network(work.spec(training.student, options), training.seed)
        self.listener.message(f"{training.title}: {options.epochs} epochs.")
        validate = self.experiment.validate_images
        judged = data
        if validate is not None and validate < len(data.validation):
            judged = replace(data, validation=_part(data.validation, data.task, validate))
        curves = self.experiment.curve_images
        about = {
            "task": training.task.name,
            "student": training.student,
            "method": training.method.name,
            "recipe": recipe.name,
            "recipe_options": recipe.to_dict(),
            "seed": training.seed,
            "epochs": options.epochs,
            "params": count_parameters(student),
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "machine": fingerprint().to_dict(),
        }
        try:
            fitted = fit(
                recipe,
                student,
                judged,
                options,
                teacher=outputs,
                folder=folder,
                listener=self.timed,
                watched={"train": _part(data.train, data.task, curves)} if curves else None,
            )
        except TrainingDiverged as error:
            # That is what this cell of the table is; the others do not wait for it.
            self.listener.message(f"{training.title}: {error}")
            folder.finish({**about, "diverged": str(error)})
            return
        weights = {name: value.clone() for name, value in student.state_dict().items()}
        epochs = {"last": len(fitted.history)}
        states: dict[str, Mapping[str, torch.Tensor]] = {"last": weights}
        if fitted.best is not None:
            epochs["best"], states["best"] = fitted.best.epoch, fitted.best.weights
        accuracies: dict[str, dict[str, float]] = {}
        for which, file in (("last", LAST), ("best", BEST)):
            if which in states:
                student.load_state_dict(states[which])
                again = which == "best" and epochs["best"] == epochs["last"]
                scores = accuracies["last"] if again else _accuracies(work, student)
                accuracies[which] = {**scores, "epoch": epochs[which]}
                save_checkpoint(
                    folder.path / file,
                    student,
                    normalization=data.normalization,
                    classes=data.task.classes,
                )
        folder.finish({**about, **accuracies})
        # What resuming needs is as large as four students, and there is nothing left to resume.
        Checkpoints(folder.path, self.listener.message).remove()

    # --- What is measured when all is trained ----------------------------------------------------

    def _measure(self, work: TaskWork) -> None:
        """Times networks and scores one class, where the experiment shows it.

        Raises:
            TimeOver: it is.
        """
        times = time_networks(
            self.experiment,
            work.task,
            num_classes=work.data.task.width,
            input_shape=work.data.input_shape,
            say=self.listener.message,
            check=self.timed.check,
        )
        if times is not None:
            self.times[work.task.name] = times
        if "scores" in self.experiment.figures:
            self.timed.check()
            self.scores[work.task.name] = _histograms(
                self.experiment, work, self.request.out, self.device
            )

    def _draw(self, report: Report) -> None:
        """The pictures, where they can be drawn."""
        if not drawing.available():
            self.listener.message(drawing.HOW_TO_GET)
            return
        out = self.request.out
        pictures = pictures_of(report, lambda place: read_metrics(out / place / METRICS))
        drawn = [drawing.draw(each, out / f"{each.name}.png") for each in pictures]
        if drawn:
            self.listener.message(f"Pictures: {', '.join(map(str, drawn))}")

    # --- The table -------------------------------------------------------------------------------

    def _collect(self, work: TaskWork) -> None:
        """Takes up what a task has finished by now."""
        self.found[work.task.name] = TaskReport(
            task=work.task,
            data=work.data.name,
            n={
                "train": len(work.data.train),
                "validation": len(work.data.validation),
                "test": len(work.data.test),
            },
            teacher=work.facts() if work.task.teacher is not None else None,
            results=tuple(self._results(work)),
            times=self.times.get(work.task.name),
            scores=self.scores.get(work.task.name, ()),
            class_name=work.data.task.classes[_score_class(self.experiment, work)],
        )

    def _results(self, work: TaskWork) -> Iterator[dict[str, Any]]:
        facts = work.facts() if work.task.teacher is not None else None
        for training in trainings(self.experiment, work.task):
            if (self.request.out / training.place / "result.json").exists():
                folder = self._folder(work, training, facts)
                if folder.finished:
                    # The method may have had another name with the same place when it was trained.
                    folder.result(FinishedTraining, beside=("*",))  # or it tells what is damaged
                    yield {
                        **folder.result(dict[str, Any]),
                        "method": training.method.name,
                        "place": training.place.as_posix(),
                    }

    def _write(self) -> Report:
        report = Report(
            experiment=self.experiment,
            differences=self.request.adapted.differences,
            tasks=tuple(self.found.values()),
            planned=self.count,
            device=self.device.type,
            machine=fingerprint(),
            versions=installed_versions(),
            made=datetime.now(UTC),
        )
        write_json(
            self.request.out / EXPERIMENT,
            {
                "name": self.experiment.name,
                "title": self.experiment.title,
                "differences": list(self.request.adapted.differences),
            },
        )
        write_report(report, self.request.out)
        return report


def _accuracies(work: TaskWork, student: Network) -> dict[str, float]:
    """The only look at the test images that a training gets."""
    data = work.data
    predict = predictor(student, data.task)
    return {
        "validation": evaluate(predict, data.task, data.validation, data.normalization),
        "test": evaluate(predict, data.task, data.test, data.normalization),
    }


def _score_class(experiment: Experiment, work: TaskWork) -> int:
    """The class that is shown; the last one where the data has fewer."""
    return min(experiment.score_class, work.data.task.width - 1)


def _histograms(
    experiment: Experiment, work: TaskWork, out: Path, device: torch.device
) -> tuple[Histogram, ...]:
    """Of a student trained on the labels, of the teacher, and of the last method's student.

    They are kept in ``out``: a teacher may take long for all test images.
    """
    plain = [m for m in experiment.methods if not m.make().teacher_outputs]
    taught = [m for m in experiment.methods if m.make().teacher_outputs]
    facts = work.facts() if work.task.teacher is not None else None
    student, seed = work.task.students[0], experiment.seeds[0]
    files = {
        method.name: out / Training(work.task, student, method, seed).place / LAST
        for method in (*plain[:1], *taught[-1:])
    }
    files = {name: file for name, file in files.items() if file.exists()}
    label = _score_class(experiment, work)
    key = {
        "class": label,
        "data": work.data.sha256,
        "teacher": None if facts is None else facts.sha256,
        **{name: sha256_of(file) for name, file in files.items()},
    }
    path = out / f"scores-{slug(work.task.name)}.json"
    if path.exists():
        stored = decode_or_none(_Scores, read_json(path))
        if stored is not None and stored.key == key:
            return stored.histograms
    test = work.data.test

    def of(name: str, network: Network, normalization: Normalization) -> Histogram:
        predict = predictor(network, work.data.task)
        logits = answers_to(predict, test.images, normalization)[LOGITS]
        return histogram(name, logits, test.targets, label)

    found = []
    for name, file in files.items():
        spec = work.spec(student, work.task.schedule)
        network = first_network(spec, seed)
        network.load_state_dict(weights_of(file, spec))
        found.append(of(f"{student}, {name}", network.to(device), work.data.normalization))
    if facts is not None:
        teacher = of(
            f"teacher, {facts.spec.name}", work.teacher_network(facts), facts.normalization
        )
        found.insert(min(1, len(plain), len(found)), teacher)
    write_json(path, {"key": key, "histograms": [each.to_dict() for each in found]})
    return tuple(found)


class _TimedListener:
    """Passes everything on, and stops after an epoch when time is over."""

    def __init__(self, listener: Listener, max_s: float | None) -> None:
        self._listener = listener
        self._end_s = None if max_s is None else time.monotonic() + max_s

    def message(self, text: str) -> None:
        """See ``Listener.message``."""
        self._listener.message(text)

    def progress(self, progress: Progress) -> None:
        """See ``Listener.progress``."""
        self._listener.progress(progress)

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """See ``Listener.epoch``; by now the epoch is saved."""
        self._listener.epoch(metrics)
        self.check()

    def check(self) -> None:
        """Raises where time is over.

        Raises:
            TimeOver: it is.
        """
        if self._end_s is not None and time.monotonic() >= self._end_s:
            raise TimeOver


def _part(split: Split, task: Task, count: int) -> Split:
    """At most ``count`` images of all classes alike, always the same ones."""
    return split.take(stratified_sample(split, task, count))
