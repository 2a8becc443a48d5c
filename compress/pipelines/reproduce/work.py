"""A task at work: its data, its teacher and what the teacher says, each made once and kept.

teachers/TASK/training/             the run folder of a teacher that is trained here
teachers/TASK/teacher.safetensors   the teacher, with all that running it needs
teachers/TASK/teacher.json          what it is and how good
teachers/TASK/outputs/              what it says of views of the training images, for all methods
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from compress.data.dataset import Dataset, load_dataset, to_device
from compress.data.normalization import resolve
from compress.errors import InputError, RunFolderError, UsageError
from compress.files import clear_up, read_json, sha256_of, try_lock, write_json
from compress.models.checkpoint import save_checkpoint, weights_of
from compress.models.network import Network
from compress.models.registry import build, count_parameters, spec_of, with_dropout
from compress.pipelines.reproduce.experiment import ExperimentTask, slug
from compress.recipes.recipe import Recipe
from compress.recipes.supervised import Supervised
from compress.results import Accuracies
from compress.schema import decode
from compress.schema.rules import Sha256
from compress.spec import ModelSpec, Normalization
from compress.teachers.checkpoint import open_checkpoint
from compress.teachers.network import NetworkTeacher
from compress.teachers.sources import judge, refuse_unjudged
from compress.training.engine import fit
from compress.training.evaluation import evaluate, predictor
from compress.training.kept import outputs_of
from compress.training.listener import Listener
from compress.training.options import TrainingOptions
from compress.training.outputs import TeacherOutputs
from compress.training.runfolder import RunFolder
from compress.training.student import first_network
from compress.units import format_percent

TEACHERS, TRAINING, OUTPUTS = "teachers", "training", "outputs"
TEACHER, FACTS = "teacher.safetensors", "teacher.json"
# What the teacher says of a seed's crops is kept for the other methods up to this size.
KEPT_BYTES = 5e9


def load_data(
    task: ExperimentTask,
    *,
    split_seed: int,
    fraction: float,
    root: Path | None,
    say: Callable[[str], None],
) -> Dataset:
    """A task's images, split; ``fraction`` of its training images where no number is given.

    ``say`` is told of what takes long.

    Raises:
        DataError, UsageError: as ``load_dataset``.
    """

    def load(limit: int | None) -> Dataset:
        return load_dataset(
            task.data,
            root=root,
            seed=split_seed,
            validation=task.validation,
            limit_train=limit,
            say=say,
        )

    data = load(task.limit_train)
    if fraction < 1:
        data = load(max(data.task.width, round(fraction * len(data.train))))
    if len(data.validation) == 0 or len(data.test) == 0:
        raise UsageError(
            f"{data.name} has {len(data.validation)} validation and {len(data.test)} test images, "
            "but a table needs both. Give --validation."
        )
    return data


@dataclass(frozen=True)
class TeacherFacts:
    """What is known of a task's teacher without running it.

    Attributes:
        sha256: of teacher.safetensors.
        spec: what it is.
        normalization: what its images go through.
        validation, test: accuracies, as fractions of 1.
        origin: where it comes from, in words.
        notes: what was found and assumed, in sentences.
    """

    sha256: str
    spec: ModelSpec
    normalization: Normalization
    validation: float
    test: float
    origin: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.spec.name,
            "sha256": self.sha256,
            "spec": self.spec.to_dict(),
            "normalization": self.normalization.to_dict(),
            "accuracy": {"validation": self.validation, "test": self.test},
            "origin": self.origin,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class _Stored:
    """What teacher.json has to have."""

    identity: dict[str, Any]
    sha256: Sha256
    spec: ModelSpec
    normalization: Normalization
    accuracy: Accuracies
    origin: str
    notes: tuple[str, ...]


class TaskWork:
    """One task with what its trainings share.

    Args:
        task: what is declared.
        data: its images, on the CPU.
        folder: of the experiment.
        device: that trains.
        split_seed: that ``data`` was split with.
        listener: is told how it goes.
    """

    def __init__(
        self,
        task: ExperimentTask,
        data: Dataset,
        folder: Path,
        device: torch.device,
        split_seed: int,
        listener: Listener,
    ) -> None:
        self.task = task
        self.data = to_device(data, device)
        self.device = device
        self.folder = folder / TEACHERS / slug(task.name)
        self._split_seed = split_seed
        self._listener = listener
        self._network: Network | None = None
        self._teacher_is: dict[str, Any] | None = None

    def identity(self) -> dict[str, Any]:
        """Which images a training of this task saw."""
        return {**self.data.identity(), "split_seed": self._split_seed}

    def spec(self, name: str, options: TrainingOptions) -> ModelSpec:
        """A network for this task's images."""
        spec = spec_of(name, num_classes=self.data.task.width, input_shape=self.data.input_shape)
        return with_dropout(spec, options.dropout)

    # --- The teacher -----------------------------------------------------------------------------

    def facts(self) -> TeacherFacts | None:
        """Of the teacher, where there is one already.

        Raises:
            RunFolderError: it is another teacher than the one that is asked for.
        """
        path = self.folder / FACTS
        if not path.exists():
            return None
        stored = decode(
            _Stored,
            read_json(path),
            f"{path} does not describe a teacher",
            mend="Remove it to train the teacher again.",
            beside=("name",),
        )
        identity = stored.identity
        asked = json.loads(json.dumps(self._teacher_identity()))
        if identity != asked:
            changed = [key for key in asked if identity.get(key) != asked[key]]
            raise RunFolderError(
                f"{self.folder} holds another teacher: {', '.join(changed) or 'more'} differ. "
                "Give --out another folder."
            )
        return TeacherFacts(
            sha256=stored.sha256,
            spec=stored.spec,
            normalization=stored.normalization,
            validation=stored.accuracy.validation,
            test=stored.accuracy.test,
            origin=stored.origin,
            notes=stored.notes,
        )

    def make_teacher(self) -> TeacherFacts | None:
        """The teacher's facts; it is loaded or trained where it was not yet.

        Returns:
            None where another process is at it.

        Raises:
            CheckpointError, TeacherError: the file cannot teach.
            UsageError: there is neither a file nor an architecture.
        """
        facts = self.facts()
        if facts is not None:
            return facts
        with try_lock(self.folder) as mine:
            if not mine:
                return None
            facts = self.facts()  # it may have come between the two looks
            if facts is None:
                facts = self._make()
        return facts

    def _make(self) -> TeacherFacts:
        teacher = self.task.teacher
        if teacher is None:
            raise UsageError(f"{self.task.name} has no teacher. Give one with --teacher.")
        if teacher.file is not None:
            network, normalization, origin, notes = self._load(teacher.file)
        else:
            network, origin = self._train()
            normalization, notes = self.data.normalization, ()
        predict = predictor(network, self.data.task)
        path = self.folder / TEACHER
        save_checkpoint(path, network, normalization=normalization)
        facts = TeacherFacts(
            sha256=sha256_of(path),
            spec=with_dropout(network.spec, 0.0),
            normalization=normalization,
            validation=evaluate(predict, self.data.task, self.data.validation, normalization),
            test=evaluate(predict, self.data.task, self.data.test, normalization),
            origin=origin,
            notes=notes,
        )
        write_json(self.folder / FACTS, {"identity": self._teacher_identity(), **facts.to_dict()})
        # It is run as it is read from the file, in this process too: the last bits of what a
        # network says depend on how its weights lie in memory.
        self._listener.message(
            f"The teacher of {self.task.name}, {facts.spec.name}: "
            f"{format_percent(facts.validation)} of {len(self.data.validation):,} validation "
            "images."
        )
        return facts

    def _load(self, file: Path) -> tuple[Network, Normalization, str, tuple[str, ...]]:
        teacher, data = self.task.teacher, self.data
        normalize = None if teacher is None else teacher.normalize
        refuse_unjudged(file, data)
        opened = open_checkpoint(
            file,
            data,
            normalization=resolve(normalize) if normalize else None,
            arch=None,
            device=self.device,
        )
        loaded = judge(opened, data)
        found = loaded.teacher
        return found.network, found.normalization, f"the file {file.name}", loaded.notes

    def _train(self) -> tuple[Network, str]:
        """A teacher from labels alone: its last epoch, as the papers have it."""
        teacher = self.task.teacher
        if teacher is None or not teacher.arch:
            raise UsageError(f"{self.task.name} has no teacher. Give one with --teacher.")
        options = teacher.schedule
        folder = RunFolder(self.folder / TRAINING, self._teacher_identity())
        clear_up(folder.path)
        folder.begin({"normalization": self.data.normalization.to_dict()})
        network = first_network(self.spec(teacher.arch, options), options.seed)
        self._listener.message(
            f"Training the teacher of {self.task.name}, {teacher.arch} "
            f"({count_parameters(network):,} parameters), for {options.epochs} epochs."
        )
        fit(
            Supervised(),
            network,
            self.data,
            options,
            teacher=None,
            folder=folder,
            listener=self._listener,
        )
        return network, f"trained here for {options.epochs} epochs, {options.schedule} schedule"

    def _teacher_identity(self) -> dict[str, Any]:
        """What a teacher is the same by."""
        if self._teacher_is is None:
            self._teacher_is = self._identify_teacher()
        return self._teacher_is

    def _identify_teacher(self) -> dict[str, Any]:
        teacher = self.task.teacher
        if teacher is None:
            raise UsageError(f"{self.task.name} has no teacher. Give one with --teacher.")
        if teacher.file is not None:
            made: dict[str, Any] = {"file": sha256_of(teacher.file), "normalize": teacher.normalize}
        else:
            made = {"arch": teacher.arch, "training": teacher.schedule.to_dict()}
        return {"command": "reproduce", **made, "data": self.identity()}

    def teacher_network(self, facts: TeacherFacts) -> Network:
        """The teacher in evaluation mode, on the device.

        Raises:
            InputError: the stored file is not the one that the facts are of.
        """
        if self._network is None:
            path = self.folder / TEACHER
            if sha256_of(path) != facts.sha256:
                raise InputError(
                    f"{path} is not the file that {FACTS} beside it describes. Remove both to "
                    "train the teacher again."
                )
            network = build(facts.spec)
            network.load_state_dict(weights_of(path, facts.spec))
            self._network = network.to(self.device).eval().requires_grad_(False)
        return self._network

    # --- What it says ----------------------------------------------------------------------------

    def outputs(
        self, recipe: Recipe, options: TrainingOptions, facts: TeacherFacts | None
    ) -> TeacherOutputs | None:
        """The teacher's outputs; None for a recipe that wants none."""
        if not recipe.teacher_outputs or facts is None:
            return None
        return outputs_of(
            [NetworkTeacher(self.teacher_network(facts), facts.normalization)],
            recipe.teacher_outputs,
            self.data,
            options,
            folder=self.folder / OUTPUTS,
            say=self._listener.message,
            keep_bytes=KEPT_BYTES,
        )
