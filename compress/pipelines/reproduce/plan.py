"""What an experiment will cost here, told before it is begun.

A few steps of each network are timed on this machine, with numbers that are no images, and kept:
what a step takes depends on neither weights nor pixels. What the methods train beside the student
is small beside it and is not counted.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from compress.environment import cache_folder
from compress.errors import CompressError, InputError
from compress.files import read_json, write_json
from compress.models.checkpoint import read_tensors
from compress.models.network import FEATURES, LOGITS
from compress.models.registry import build, map_shape, spec_of, with_dropout
from compress.pipelines.reproduce import work
from compress.pipelines.reproduce.experiment import ExperimentTask, Images, slug
from compress.pipelines.reproduce.runner import ReproduceRequest, Training, trainings
from compress.pipelines.reproduce.work import FACTS, TEACHERS, TRAINING, load_data
from compress.profiling.machine import fingerprint
from compress.report.document import Document, Table, Text, names, numbers
from compress.schema import decode_or_none
from compress.spec import ModelSpec
from compress.tradeoff.costs import costs_of
from compress.training.device import choose_device
from compress.training.options import TrainingOptions
from compress.training.runfolder import METRICS, RESULT, read_metrics
from compress.training.trial import Speed, time_steps, trial_batch
from compress.training.tuning import takes_bf16
from compress.units import format_count, format_duration


@dataclass(frozen=True)
class Part:
    """Trainings of one kind that are missing.

    Attributes:
        what: they are.
        trainings: how many.
        epochs: all of theirs together.
        images: that pass through the trained network, forth and back.
        seconds: estimated.
    """

    what: str
    trainings: int
    epochs: int
    images: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What is missing of an experiment, and what that costs on this machine."""

    parts: tuple[Part, ...]
    finished: int
    planned: int
    device: str

    @property
    def seconds(self) -> float:
        """Of everything, one after the other."""
        return sum(part.seconds for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "parts": [asdict(part) for part in self.parts],
            "seconds": self.seconds,
            "finished": self.finished,
            "planned": self.planned,
            "device": self.device,
        }


def document_of(plan: Plan) -> Document:
    """What is missing of an experiment, and what it takes here."""
    if not plan.parts:
        return Document((Text(f"All {plan.planned} trainings are finished."),))
    rows = [
        (
            part.what,
            f"{part.trainings:,}",
            f"{part.epochs:,}",
            format_count(part.images),
            format_duration(part.seconds),
        )
        for part in plan.parts
    ]
    total = ("trainings", "epochs", "images")
    trainings, epochs, images = (sum(getattr(part, name) for part in plan.parts) for name in total)
    whole = format_duration(plan.seconds)
    rows.append(("together", f"{trainings:,}", f"{epochs:,}", format_count(images), whole))
    columns = (*names(""), *numbers("trainings", "epochs", "images", "time, about"))
    return Document(
        (
            Table(columns, tuple(rows)),
            Text(f"Estimated from a trial of some steps on this machine ({plan.device})."),
            Text(f"{plan.finished} of {plan.planned} students are finished."),
        )
    )


def make_plan(request: ReproduceRequest, say: Callable[[str], None]) -> Plan:
    """What is missing in the folder, and what it costs.

    Args:
        request: what is to be reproduced.
        say: is told what is being timed.

    Raises:
        CompressError: data that has to be looked at, or a teacher's file, cannot be used.
    """
    return _Planner(request, say).plan()


class _Planner:
    """An object because every part needs the request and the speeds that are known."""

    def __init__(self, request: ReproduceRequest, say: Callable[[str], None]) -> None:
        self.request = request
        self.experiment = request.adapted.experiment
        self.say = say
        self.device = choose_device(request.device)
        self.path = cache_folder() / "training" / f"{_conditions(self.device)}.json"
        self.speeds: dict[str, Speed] = _recall(self.path)

    def plan(self) -> Plan:
        """See ``make_plan``."""
        parts: list[Part] = []
        finished = planned = 0
        for task in self.experiment.tasks:
            all_of_it = trainings(self.experiment, task)
            planned += len(all_of_it)
            left = [(each, self._left(each)) for each in all_of_it]
            missing = [(each, epochs) for each, epochs in left if epochs is not None]
            finished += len(all_of_it) - len(missing)
            if missing:
                parts += self._task(task, missing)
        return Plan(tuple(parts), finished, planned, self.device.type)

    def _left(self, training: Training) -> int | None:
        """Epochs that are missing; None where the training is finished."""
        folder = self.request.out / training.place
        if (folder / RESULT).exists():
            return None
        return max(0, training.options.epochs - _lines(folder / METRICS))

    def _task(self, task: ExperimentTask, missing: list[tuple[Training, int]]) -> list[Part]:
        images = self._images(task)
        train, validation = self._counts(task, images)
        judged = min(validation, self.experiment.validate_images or validation)
        watched = self.experiment.curve_images
        parts = []
        teacher_s, teacher = 0.0, None
        if any(each.method.make().teacher_outputs for each, _ in missing) and task.teacher:
            teacher = self._spec(self._teacher_arch(task), images, task.teacher.schedule)
            speed = self._speed(teacher, task.teacher.schedule)
            teacher_s = speed.forward_s
            part = self._teacher(task, teacher, speed, train, validation, images.test)
            if part is not None:
                parts.append(part)
        for student in task.students:
            these = [(each, epochs) for each, epochs in missing if each.student == student]
            if not these:
                continue
            speed = self._speed(self._spec(student, images, task.schedule), task.schedule)
            epochs = sum(count for _, count in these)
            seconds = epochs * (train * speed.train_s + (judged + watched) * speed.forward_s)
            seconds += 2 * len(these) * (validation + images.test) * speed.forward_s
            seconds += train * teacher_s * _teacher_passes(these, teacher, train)
            parts.append(
                Part(f"{task.name}, {student}", len(these), epochs, epochs * train, seconds)
            )
        return parts

    def _teacher(
        self,
        task: ExperimentTask,
        spec: ModelSpec,
        speed: Speed,
        train: int,
        validation: int,
        test: int,
    ) -> Part | None:
        """Training the teacher where none is given, scoring it, and asking it of the images."""
        folder = self.request.out / TEACHERS / slug(task.name)
        if (folder / FACTS).exists():
            return None
        asked = train if task.schedule.views == 1 else 0
        seconds = (asked + validation + test) * speed.forward_s
        epochs = 0
        if task.teacher is not None and task.teacher.file is None:
            done = _lines(folder / TRAINING / METRICS)
            epochs = max(0, task.teacher.schedule.epochs - done)
            seconds += epochs * (train * speed.train_s + validation * speed.forward_s)
        what = f"{task.name}, the teacher {spec.name}"
        return Part(what, 1 if epochs else 0, epochs, epochs * train, seconds)

    def _images(self, task: ExperimentTask) -> Images:
        """How many images of which shape: as declared, or from the data itself."""
        if task.images is not None:
            return task.images
        data = load_data(
            task,
            split_seed=self.experiment.split_seed,
            fraction=1.0,
            root=self.request.data_dir,
            say=self.say,
        )
        train = len(data.train) + len(data.validation)
        return Images(train, len(data.test), data.task.width, data.input_shape)

    def _counts(self, task: ExperimentTask, images: Images) -> tuple[int, int]:
        """Training and validation images that are used."""
        validation = task.validation or min(images.train // 10, 5000)
        train = task.limit_train or images.train - validation
        return max(images.classes, round(self.request.adapted.fraction * train)), validation

    def _spec(self, name: str, images: Images, options: TrainingOptions) -> ModelSpec:
        spec = spec_of(name, num_classes=images.classes, input_shape=images.shape)
        return with_dropout(spec, options.dropout)

    def _teacher_arch(self, task: ExperimentTask) -> str:
        """The name of the teacher: its file's, where one is given.

        Raises:
            CheckpointError: the file cannot be used.
        """
        teacher = task.teacher
        if teacher is None:
            return ""
        if teacher.file is None:
            return teacher.arch
        return read_tensors(teacher.file).hypotheses()[0].spec.name

    def _speed(self, spec: ModelSpec, options: TrainingOptions) -> Speed:
        """Of one network, remembered or tried."""
        key = json.dumps([spec.to_dict(), options.autocast, options.batch_size], sort_keys=True)
        if key not in self.speeds:
            self.say(f"Timing some steps of {spec.name}.")
            batch = trial_batch(options.batch_size, costs_of(spec).macs)
            found = time_steps(
                build(spec), self.device, batch=batch, bf16=takes_bf16(options, self.device)
            )
            self.speeds[key] = found
            try:
                known = _recall(self.path) | {key: found}
                write_json(self.path, {name: asdict(speed) for name, speed in known.items()})
            except CompressError:
                self.say("The trial's times could not be stored.")
        return self.speeds[key]


def _teacher_passes(
    these: list[tuple[Training, int]], teacher: ModelSpec | None, train: int
) -> int:
    """Epochs in which the teacher looks at the crops; once for all methods where that is kept."""
    if teacher is None:
        return 0
    maps = map_shape(teacher)
    anew, kept = 0, dict[tuple[int, frozenset[str]], int]()
    for training, epochs in these:
        options, wanted = training.options, training.method.make().teacher_outputs
        if options.views == 1:
            wanted -= {LOGITS}  # of the images as they are, for all seeds; see _teacher
        if not wanted:
            continue
        numbers = math.prod(maps) * (FEATURES in wanted) + teacher.num_classes * (LOGITS in wanted)
        few = 2 * numbers * train * options.epochs <= work.KEPT_BYTES
        if options.reused_views is None and (options.teacher_dropout or not few):
            anew += epochs
        else:
            key = (training.seed, wanted)
            kept[key] = max(kept.get(key, 0), min(epochs, options.reused_views or epochs))
    return anew + sum(kept.values())


def _lines(path: Path) -> int:
    """Epochs that a training has saved."""
    return len(read_metrics(path))


def _conditions(device: torch.device) -> str:
    """Of everything that a step's time belongs to."""
    text = f"{fingerprint().digest} {device.type} {torch.get_num_threads()}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _recall(path: Path) -> dict[str, Speed]:
    """What is remembered; nothing where the file is missing or unreadable."""
    try:
        return decode_or_none(dict[str, Speed], read_json(path)) or {}
    except InputError:
        return {}
