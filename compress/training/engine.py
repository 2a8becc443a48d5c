"""The training loop: data in, a trained student out, nothing lost in between.

The loop knows no equation; the recipe knows no loop. Everything random comes from
``options.seed``, so on the CPU the same seed and thread count give the same student bit for bit,
also when the run was stopped and goes on from its checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from compress.data.augment import Augmenter
from compress.data.dataset import Dataset, Split
from compress.data.normalization import normalize
from compress.data.seeds import derive_seed, generator
from compress.errors import CheckpointError, TrainingDiverged, UsageError
from compress.files import atomic_path
from compress.models.registry import Network
from compress.recipes.recipe import Batch, Method, Phase, Recipe, Setting
from compress.training.evaluation import evaluate, predictor
from compress.training.options import TrainingOptions
from compress.training.outputs import Outputs, TeacherOutputs, feature_shape
from compress.training.runfolder import RunFolder

CHECKPOINT_VERSION = 2


@dataclass(frozen=True)
class Progress:
    """Where a training is, for a display.

    Attributes:
        epoch: the current one, from 1.
        epochs: all of them.
        fraction: share of the whole training done.
        images_per_s: since this process began to train.
        left_s: estimated time to the end.
    """

    epoch: int
    epochs: int
    fraction: float
    images_per_s: float
    left_s: float


@dataclass
class Best:
    """The student after the epoch that did best on the validation images; the first of equals.

    Attributes:
        epoch: from 1; 0 while there is none.
        accuracy: on the validation images.
        weights: of the student, on the CPU.
    """

    epoch: int = 0
    accuracy: float = -1.0
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """What a training leaves, beside the student after its last epoch.

    Attributes:
        history: a line of metrics an epoch.
        best: None where there are no validation images.
    """

    history: list[dict[str, Any]]
    best: Best | None


class Listener(Protocol):
    """Is told how the training goes."""

    def message(self, text: str) -> None:
        """Something that a user should know."""
        ...

    def progress(self, progress: Progress) -> None:
        """Called a few times a second at most."""
        ...

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """Called after each epoch with its line of metrics.jsonl."""
        ...


class Autocast(nn.Module):
    """A network whose passes run in bfloat16 where that is safe; what it returns is float32."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def _run(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return function(x).float()

    def forward(self, x: Tensor) -> Tensor:
        """See ``Network``: logits [b, C]."""
        return self._run(self.network, x)

    def features(self, x: Tensor) -> Tensor:
        """See ``Network``: the last convolutional feature map."""
        return self._run(self.network.features, x)

    def classify(self, features: Tensor) -> Tensor:
        """See ``Network``: logits [b, C] of a feature map."""
        return self._run(self.network.classify, features)

    @property
    def classifier(self) -> nn.Module:
        """See ``Network``: what ``classify`` has parameters in."""
        return self.network.classifier


def choose_device(name: str) -> torch.device:
    """'auto' -> the GPU where there is one, else the CPU.

    Raises:
        UsageError: a GPU was asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for and torch sees no GPU. Use --device cpu.")
    if name not in ("cpu", "cuda"):
        raise UsageError(f"--device is '{name}', it must be auto, cpu or cuda.")
    return torch.device(name)


def fit(
    recipe: Recipe,
    student: Network,
    data: Dataset,
    options: TrainingOptions,
    *,
    teacher: TeacherOutputs | None,
    folder: RunFolder | None,
    listener: Listener,
    student_trained: bool = False,
    watched: Mapping[str, Split] | None = None,
) -> Fitted:
    """Trains ``student`` in place.

    The data lies on the device that is to train. After every epoch everything that resuming
    needs is written to ``folder``; where it holds a checkpoint already, training goes on from it.
    A recipe's phases follow each other; epochs are counted through all of them.

    Args:
        recipe: what is descended.
        student: what learns.
        data: to learn from.
        options: how.
        teacher: its outputs; None for a recipe that wants none.
        folder: of the run; None to keep nothing.
        listener: is told how it goes.
        student_trained: whether the student comes trained on the labels already.
        watched: further images that the student is scored on after each epoch, by name; an
            epoch's metrics have "NAME_accuracy". Nothing depends on it.

    Raises:
        TrainingDiverged: the loss became infinite or not a number.
        CheckpointError: the folder's checkpoint cannot be read.
    """
    device = data.train.images.device
    student.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(derive_seed(options.seed, "train"))

        def optimizer(module: nn.Module) -> Optimizer:
            return SGD(
                module.parameters(),
                lr=options.lr,
                momentum=options.momentum,
                weight_decay=options.weight_decay,
            )

        trained = Autocast(student) if options.autocast == "bf16" else student
        setting = Setting(
            student=trained,
            num_classes=data.num_classes,
            input_shape=data.input_shape,
            optimizer=optimizer,
            epochs=options.epochs,
            student_features=feature_shape(student),
            teacher_features=teacher.feature_shape if teacher is not None else None,
            student_trained=student_trained,
        )
        method = recipe.start(setting)
        history: list[dict[str, Any]] = []
        best = Best()
        if folder is not None and folder.checkpoint.exists():
            history, best = _restore(folder.checkpoint, method)
            folder.write_metrics(history)  # the last line may have been lost with the process
            total = sum(phase.epochs for phase in method.phases)
            listener.message(f"Going on after epoch {len(history)} of {total}.")
        loop = _Loop(method, student, data, options, teacher, listener, watched or {})
        for place in _places(method.phases)[len(history) :]:
            history.append(loop.run_epoch(place))
            reached = history[-1]["validation_accuracy"]
            if place.phase.teaches and reached is not None and reached > best.accuracy:
                weights = {name: t.cpu().clone() for name, t in student.state_dict().items()}
                best = Best(place.epoch, reached, weights)
            if folder is not None:
                _save(folder.checkpoint, method, history, best)
                folder.write_metrics(history)
            listener.epoch(history[-1])
    student.eval()
    return Fitted(history, best if best.epoch else None)


@dataclass(frozen=True)
class _Place:
    """One epoch among all.

    Attributes:
        epoch: from 1, through all phases.
        phase: that it is a part of.
        number: of the epoch in its phase, from 0.
        view: of the images. The student's epochs are numbered from 1, and so are the others: what
            a teacher says of a view serves both.
    """

    epoch: int
    phase: Phase
    number: int
    view: int


def _places(phases: Sequence[Phase]) -> list[_Place]:
    """All epochs in order."""
    places: list[_Place] = []
    views = {True: 0, False: 0}
    for phase in phases:
        for number in range(phase.epochs):
            views[phase.teaches] += 1
            places.append(_Place(len(places) + 1, phase, number, views[phase.teaches]))
    return places


class _Loop:
    """One training; an object only because an epoch needs a dozen things of it."""

    def __init__(
        self,
        method: Method,
        student: nn.Module,
        data: Dataset,
        options: TrainingOptions,
        teacher: TeacherOutputs | None,
        listener: Listener,
        watched: Mapping[str, Split],
    ) -> None:
        self.method = method
        self.watched = watched
        self.student = student
        self.data = data
        self.options = options
        self.teacher = teacher
        self.listener = listener
        self.augment = Augmenter(
            data.train.images, seed=options.seed, flip=data.flip, pad=options.crop_padding
        )
        self.epochs = sum(phase.epochs for phase in method.phases)
        self.warned: set[str] = set()
        self.started_s = time.monotonic()
        self.images_seen = 0
        self.shown_s = 0.0

    def run_epoch(self, place: _Place) -> dict[str, Any]:
        """Trains one epoch and validates; the metrics of that epoch."""
        epoch, phase = place.epoch, place.phase
        options, train = self.options, self.data.train
        began_s = time.monotonic()
        for module in self.method.modules.values():
            module.train()
        order = torch.randperm(len(train), generator=generator(options.seed, "order", epoch))
        batches = [part for part in order.split(options.batch_size) if len(part) > 1]
        sums: dict[str, Tensor] = {}
        for number, cpu_index in enumerate(batches):
            done = number / len(batches)
            factor = options.rate_factor((place.number + done) / phase.epochs)
            rates = {
                name: phase.lr.get(name, options.lr) * factor for name in self.method.optimizers
            }
            for name, optimizer in self.method.optimizers.items():
                for group in optimizer.param_groups:
                    group["lr"] = rates[name]
            batch = self._batch(cpu_index.to(train.images.device), place)
            scalars = self.method.step(batch, phase.name)
            # Summed on the device and read once an epoch: reading is a synchronisation.
            for key, value in scalars.items():
                sums[key] = sums[key] + value if key in sums else value.clone()
            self.images_seen += len(cpu_index)
            self._show(epoch, (epoch - 1 + done) / self.epochs)
        means = {key: float(value) / len(batches) for key, value in sums.items()}
        trained_s = time.monotonic() - began_s
        if not math.isfinite(means["loss"]):
            raise TrainingDiverged(
                f"The loss became {means['loss']} in epoch {epoch}. Try a lower --lr "
                f"(it is {options.lr:g})"
                + (", or --lr-d." if "discriminator" in self.method.optimizers else ".")
            )
        advice = self.method.advice(means)
        if advice is not None and advice not in self.warned:
            self.warned.add(advice)
            self.listener.message(f"Warning, epoch {epoch}: {advice}")
        validation = None
        predict, normalization = predictor(self.student), self.data.normalization
        if len(self.data.validation):
            validation = evaluate(predict, self.data.validation, normalization)
        watched = {
            f"{name}_accuracy": evaluate(predict, split, normalization)
            for name, split in self.watched.items()
        }
        return {
            "epoch": epoch,
            **({"phase": phase.name} if len(self.method.phases) > 1 else {}),
            "lr": rates["student"],
            **means,
            "validation_accuracy": validation,
            **watched,
            "images_per_s": round(sum(map(len, batches)) / trained_s, 1),
        }

    def _batch(self, index: Tensor, place: _Place) -> Batch:
        pixels = self.augment(index, view=place.view)
        images = normalize(pixels, self.data.normalization)
        outputs = Outputs()
        if self.teacher is not None and place.phase.asks_teacher:
            outputs = self.teacher(index, place.view, pixels)
        return Batch(
            images=images.contiguous(memory_format=torch.channels_last),
            labels=self.data.train.labels[index],
            teacher_logits=outputs.logits,
            teacher_features=outputs.features,
        )

    def _show(self, epoch: int, fraction: float) -> None:
        now_s = time.monotonic()
        if now_s - self.shown_s < 0.25:
            return
        self.shown_s = now_s
        rate = self.images_seen / max(now_s - self.started_s, 1e-9)
        total = len(self.data.train) * self.epochs
        left = (1 - fraction) * total / rate
        self.listener.progress(Progress(epoch, self.epochs, fraction, rate, left))


def _save(path: Path, method: Method, history: list[dict[str, Any]], best: Best) -> None:
    """Everything that resuming needs, whole or not at all."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    with atomic_path(path) as temporary:
        torch.save(
            {
                "version": CHECKPOINT_VERSION,
                "modules": {name: m.state_dict() for name, m in method.modules.items()},
                "optimizers": {name: o.state_dict() for name, o in method.optimizers.items()},
                "random": torch.get_rng_state(),
                "random_cuda": cuda,
                "history": history,
                "best": asdict(best),
            },
            temporary,
        )


def _restore(path: Path, method: Method) -> tuple[list[dict[str, Any]], Best]:
    """Puts a checkpoint back into the method and the generators; what was found so far."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if saved["version"] != CHECKPOINT_VERSION:
            raise ValueError(f"its version is {saved['version']}, not {CHECKPOINT_VERSION}")
        for name, module in method.modules.items():
            module.load_state_dict(saved["modules"][name])
        for name, optimizer in method.optimizers.items():
            optimizer.load_state_dict(saved["optimizers"][name])
        torch.set_rng_state(saved["random"])
        if saved["random_cuda"]:
            torch.cuda.set_rng_state_all(saved["random_cuda"])
        history: list[dict[str, Any]] = saved["history"]
        best = Best(**saved["best"])
    except Exception as error:
        # torch raises anything from KeyError to UnpicklingError for a damaged file.
        raise CheckpointError(
            f"{path} is damaged or of another run ({type(error).__name__}: {error}). "
            "Remove it to start this training over."
        ) from error
    return history, best
