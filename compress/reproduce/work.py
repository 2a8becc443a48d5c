"""A task at work: its data, its teacher and the teacher's logits, each made once and kept.

teachers/TASK/training/             the run folder of a teacher that is trained here
teachers/TASK/teacher.safetensors   the teacher, with all that running it needs
teachers/TASK/teacher.json          what it is and how good
teachers/TASK/logits.safetensors    its logits of the training images, for all methods and seeds
teachers/TASK/crops/                 its outputs of the crops of a seed, for all methods
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from compress.data.augment import Augmenter
from compress.data.dataset import Dataset, load_dataset, to_device
from compress.data.normalization import resolve
from compress.errors import InputError, RunFolderError, UsageError
from compress.files import atomic_path, clear_up, read_json, sha256_of, try_lock, write_json
from compress.models.checkpoint import save_checkpoint, weights_of
from compress.models.registry import Network, build, count_parameters
from compress.recipes.recipe import FEATURES, LOGITS, Recipe
from compress.recipes.supervised import Supervised
from compress.reproduce.experiment import Task, slug
from compress.spec import ModelSpec, Normalization
from compress.training.engine import Listener, fit
from compress.training.evaluation import evaluate, logits_of, predictor, spread
from compress.training.options import TrainingOptions
from compress.training.outputs import (
    ComputedOutputs,
    KeptOutputs,
    Outputs,
    TeacherOutputs,
    Teaching,
)
from compress.training.runfolder import RunFolder
from compress.training.student import first_network, with_dropout
from compress.training.teacher import load_teacher
from compress.units import format_percent

TEACHERS, TRAINING, CROPS = "teachers", "training", "crops"
TEACHER, FACTS, LOGITS_FILE = "teacher.safetensors", "teacher.json", "logits.safetensors"
# Stored logits are computed again for so many images before they are believed, and may differ by
# this share of their deviation: another device or another number of threads rounds otherwise.
CHECKED_IMAGES = 16
CHECK_TOLERANCE = 0.05
# What the teacher says of a seed's crops is kept for the other methods up to this size.
KEPT_BYTES = 5e9


def load_data(task: Task, *, split_seed: int, fraction: float, root: Path | None) -> Dataset:
    """A task's images, split; ``fraction`` of its training images where no number is given.

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
        )

    data = load(task.limit_train)
    if fraction < 1:
        data = load(max(data.num_classes, round(fraction * len(data.train))))
    if len(data.validation) == 0 or len(data.test) == 0:
        raise UsageError(
            f"{data.name} has {len(data.validation)} validation and {len(data.test)} test images; "
            "a table needs both. Say --validation."
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
        """Plain values for JSON; ``from_dict`` reads them back."""
        return {
            "name": self.spec.name,
            "sha256": self.sha256,
            "spec": self.spec.to_dict(),
            "normalization": self.normalization.to_dict(),
            "accuracy": {"validation": self.validation, "test": self.test},
            "origin": self.origin,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TeacherFacts:
        """The inverse of ``to_dict``."""
        normalization = values["normalization"]
        return cls(
            sha256=values["sha256"],
            spec=ModelSpec.from_dict(values["spec"]),
            normalization=Normalization(tuple(normalization["mean"]), tuple(normalization["std"])),
            validation=values["accuracy"]["validation"],
            test=values["accuracy"]["test"],
            origin=values["origin"],
            notes=tuple(values["notes"]),
        )


class SharedOutputs:
    """Stored logits that somebody else has computed, and feature maps of the crops.

    Args:
        logits: float32 [n, C] of all training images; None where they are not wanted.
        features: gives the feature maps; None where they are not wanted.
    """

    def __init__(self, logits: Tensor | None, features: TeacherOutputs | None) -> None:
        self._logits = logits
        self._features = features
        self.feature_shape = None if features is None else features.feature_shape

    def __call__(self, index: Tensor, view: int, pixels: Tensor) -> Outputs:
        """See ``TeacherOutputs``."""
        logits = () if self._logits is None else (self._logits[index],)
        if self._features is None:
            return Outputs(logits)
        return Outputs(logits, self._features(index, view, pixels).features)


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
        task: Task,
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
        self._images_sha256 = _digest(data.train.images)
        self._split_seed = split_seed
        self._listener = listener
        self._network: Network | None = None
        self._teacher_is: dict[str, Any] | None = None
        self._logits: Tensor | None = None

    def identity(self) -> dict[str, Any]:
        """Which images a training of this task saw."""
        return {**self.data.identity(), "split_seed": self._split_seed}

    def spec(self, name: str, options: TrainingOptions) -> ModelSpec:
        """A network for this task's images."""
        spec = ModelSpec.parse(
            name, num_classes=self.data.num_classes, input_shape=self.data.input_shape
        )
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
        stored = read_json(path)
        try:
            identity, facts = stored["identity"], TeacherFacts.from_dict(stored)
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{path} does not describe a teacher. Remove it to make the teacher again."
            ) from error
        asked = json.loads(json.dumps(self._teacher_identity()))
        if identity != asked:
            changed = [key for key in asked if identity.get(key) != asked[key]]
            raise RunFolderError(
                f"{self.folder} holds another teacher: {', '.join(changed) or 'more'} differ. "
                "Give --out another folder."
            )
        return facts

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
        predict = predictor(network)
        path = self.folder / TEACHER
        save_checkpoint(path, network, normalization=normalization)
        facts = TeacherFacts(
            sha256=sha256_of(path),
            spec=replace(network.spec, dropout=0.0),
            normalization=normalization,
            validation=evaluate(predict, self.data.validation, normalization),
            test=evaluate(predict, self.data.test, normalization),
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
        loaded = load_teacher(
            file,
            data,
            normalization=resolve(normalize) if normalize else None,
            arch=None,
            device=self.device,
        )
        return loaded.network, loaded.normalization, f"the file {file.name}", loaded.notes

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
                    f"{path} is not the file that {FACTS} beside it is of. Remove both to make "
                    "the teacher again."
                )
            network = build(facts.spec)
            network.load_state_dict(weights_of(path, facts.spec))
            self._network = network.to(self.device).eval().requires_grad_(False)
        return self._network

    # --- What it says ----------------------------------------------------------------------------

    def outputs(
        self, recipe: Recipe, options: TrainingOptions, facts: TeacherFacts | None
    ) -> tuple[bool, TeacherOutputs | None]:
        """Whether the outputs are to be had now, and they; None for a recipe that wants none.

        They are not where another process computes the logits at the moment.
        """
        wanted = recipe.teacher_outputs
        if not wanted or facts is None:
            return True, None
        network = self.teacher_network(facts)
        teaching = [Teaching(network, facts.normalization)]
        if LOGITS in wanted and options.teacher_logits == "stored":
            logits = self._stored_logits(facts)
            if logits is None:
                return False, None
            if FEATURES not in wanted:
                return True, SharedOutputs(logits, None)
            return True, SharedOutputs(logits, self._of_crops(teaching, {FEATURES}, options))
        return True, self._of_crops(teaching, wanted, options)

    def _of_crops(
        self, teaching: list[Teaching], wanted: Collection[str], options: TrainingOptions
    ) -> TeacherOutputs:
        """Outputs of the crops that a seed gives: computed by the first method, kept for all.

        They are not kept where they would fill a disk, or are drawn anew each time.
        """
        train = self.data.train
        computed = ComputedOutputs(
            teaching,
            wanted=frozenset(wanted),
            logits=options.teacher_logits,
            images=train.images,
            dropout=options.teacher_dropout,
        )
        classes = self.data.num_classes if LOGITS in wanted else 0
        if not computed.repeatable or not keeps_crops(
            len(train) * options.epochs, classes, computed.feature_shape
        ):
            return computed
        crops = Augmenter(
            train.images, seed=options.seed, flip=self.data.flip, pad=options.crop_padding
        )
        return KeptOutputs(computed, crops, len(train), self.folder / CROPS)

    def _stored_logits(self, facts: TeacherFacts) -> Tensor | None:
        """Of all training images, float32 [n, C]: from the file where that is right, or computed.

        Returns:
            None where another process computes them.
        """
        if self._logits is None:
            found = self._read_logits(facts)
            if found is None:
                with try_lock(self.folder) as mine:
                    if not mine:
                        return None
                    found = self._read_logits(facts)
                    if found is None:
                        found = self._compute_logits(facts)
            self._logits = found.to(self.device)
        return self._logits

    def _logits_key(self, facts: TeacherFacts) -> dict[str, str]:
        return {"teacher": facts.sha256, "images": self._images_sha256}

    def _compute_logits(self, facts: TeacherFacts) -> Tensor:
        images = self.data.train.images
        self._listener.message(
            f"Computing the teacher's logits of {len(images):,} images of {self.task.name}, once "
            "for all methods and seeds."
        )
        network = self.teacher_network(facts)
        logits = logits_of(predictor(network), images, facts.normalization).contiguous()
        metadata = {**self._logits_key(facts), "logits": _digest(logits)}
        with atomic_path(self.folder / LOGITS_FILE) as temporary:
            save_file({"logits": logits}, temporary, metadata=metadata)
        return logits

    def _read_logits(self, facts: TeacherFacts) -> Tensor | None:
        """What is stored, if it is of this teacher and of these images and undamaged."""
        path = self.folder / LOGITS_FILE
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
                logits: Tensor = file.get_tensor("logits")
        except (SafetensorError, OSError) as error:
            self._listener.message(f"{path} cannot be read and is made again: {error}.")
            return None
        key = self._logits_key(facts)
        if metadata != {**key, "logits": _digest(logits)} or not self._agrees(logits, facts):
            self._listener.message(
                f"{path} is not of this teacher and these images, or is damaged; it is made again."
            )
            return None
        return logits

    def _agrees(self, logits: Tensor, facts: TeacherFacts) -> bool:
        """Whether the teacher says the same of a few images today."""
        train = self.data.train
        if len(logits) != len(train):
            return False
        sample = spread(train.labels, CHECKED_IMAGES).to(train.images.device)
        images = train.images[sample]
        now = logits_of(predictor(self.teacher_network(facts)), images, facts.normalization)
        then = logits[sample.cpu()]
        return float((now - then).abs().max()) <= CHECK_TOLERANCE * float(logits.std())


def keeps_crops(crops: int, classes: int, maps: tuple[int, int, int] | None) -> bool:
    """Whether a seed's outputs of so many crops are few enough to be kept.

    Args:
        crops: training images times epochs.
        classes: of the logits, float32; 0 where they are not wanted.
        maps: shape of the feature maps, float16; None where they are not wanted.
    """
    each_bytes = 4 * classes + (0 if maps is None else 2 * math.prod(maps))
    return crops * each_bytes <= KEPT_BYTES


def _digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's shape and values."""
    digest = hashlib.sha256(str(tuple(tensor.shape)).encode())
    digest.update(tensor.contiguous().cpu().numpy().data)
    return digest.hexdigest()
