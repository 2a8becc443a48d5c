"""The training loop: data in, a trained student out, nothing lost in between.

The loop knows no equation; the recipe knows no loop. Everything random comes from
``options.seed``, so on the CPU the same seed and thread count give the same student bit for bit,
also when the run was stopped at any step and goes on from its checkpoint.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from compress.data.augment import Augmenter, crop
from compress.data.dataset import Dataset, Split
from compress.data.images import ahead
from compress.data.normalization import Normalizer
from compress.data.seeds import derive_seed, generator
from compress.errors import (
    CheckpointError,
    EndedElsewhere,
    ProcessLost,
    TrainingDiverged,
    UsageError,
    first_line,
)
from compress.launched import place as launched_place
from compress.recipes.recipe import Batch, Method, Phase, Recipe, Setting
from compress.recipes.registry import check_task
from compress.training.checkpoints import Checkpoints
from compress.training.evaluation import score_on_device
from compress.training.options import TrainingOptions
from compress.training.outputs import TeacherOutputs, shapes_of
from compress.training.passes import Average, Learner, Passes, arithmetic
from compress.training.runfolder import RunFolder
from compress.training.state import Best, Scalars, check_optimizer, place_of
from compress.training.stopping import StopSignals, interruptible
from compress.training.team import (
    SINGLE_PROCESS,
    BatchParallel,
    GlobalBatch,
    Team,
    synchronized_layers,
)
from compress.training.trial import format_of
from compress.training.tuning import Tuning, as_before, tune

# Version 2 had no place within an epoch.
CHECKPOINT_VERSIONS = (2, 3)
# An epoch that takes longer is saved within.
SAVE_EVERY_S = 120.0
# A loss that is no number any more is looked for at least so often. Looking makes the host wait
# for the device, so it is not done in every step.
LOOK_EVERY_S = 10.0
# After so many steps several processes with a GPU each agree whether to stop; on a CPU, where a
# step takes longer, after each.
AGREE_EVERY = 10


@dataclass(frozen=True)
class Progress:
    """Where a training is, for a display.

    Attributes:
        epoch: the current one, from 1.
        epochs: all of them.
        fraction: share of the whole training done.
        images_per_s: since the first step of this process.
        left_s: estimated time to the end.
    """

    epoch: int
    epochs: int
    fraction: float
    images_per_s: float
    left_s: float


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


class Silent:
    """A listener that says nothing: of a process that is not the first of several."""

    def message(self, text: str) -> None:
        """See ``Listener.message``."""

    def progress(self, progress: Progress) -> None:
        """See ``Listener.progress``."""

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """See ``Listener.epoch``."""


def choose_device(name: str) -> torch.device:
    """'auto' -> the GPU where there is one, else the CPU.

    Of several processes on a machine each gets a GPU of its own.

    Raises:
        UsageError: a GPU was asked for and there is none, or fewer than processes.
    """
    here = launched_place()
    if here.size > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
        if here.local_size > torch.cuda.device_count():
            raise UsageError(
                f"{here.local_size} processes were started here, but torch sees "
                f"{torch.cuda.device_count()} GPUs. Give torchrun --nproc-per-node "
                f"{torch.cuda.device_count()}, or --device cpu."
            )
        torch.cuda.set_device(here.local_rank)
        return torch.device("cuda", here.local_rank)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device is cuda, but torch sees no GPU. Use --device cpu.")
    if name not in ("cpu", "cuda"):
        raise UsageError(f"--device is '{name}'. It must be auto, cpu or cuda.")
    return torch.device(name)


def fit(
    recipe: Recipe,
    student: Learner,
    data: Dataset,
    options: TrainingOptions,
    *,
    teacher: TeacherOutputs | None,
    folder: RunFolder | None,
    listener: Listener,
    student_trained: bool = False,
    watched: Mapping[str, Split] | None = None,
    save_every_s: float = SAVE_EVERY_S,
    team: Team = SINGLE_PROCESS,
) -> Fitted:
    """Trains ``student`` in place.

    The data lies on the device that is to train. Everything that resuming needs is written to
    ``folder`` after every epoch, every ``save_every_s`` within one, and on SIGINT and SIGTERM,
    which then do what they would have done; where the folder holds a state already, training goes
    on from it. A recipe's phases follow each other; epochs are counted through all of them.

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
        save_every_s: see above; 0 saves after every step.
        team: the processes that train it together, each of which calls this; see
            ``compress.training.team``. The weights and the state are the first one's, and the
            folder is its alone.

    Raises:
        TrainingDiverged: the loss became infinite or not a number.
        CheckpointError: the folder's checkpoints cannot be read.
        UsageError: a checkpoint cannot be written, or the options are not for several processes.
        ProcessLost: another process of the team is gone.
    """
    check_task(recipe, data.task.name)
    device = data.train.images.device
    if len(data.train) < 2:
        raise UsageError(
            f"There are {len(data.train)} training images, but batch normalisation needs at "
            "least 2."
        )
    options = _for_team(team, options)
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        arithmetic(device, tf32=options.tf32, deterministic=options.deterministic),
        ExitStack() as while_training,
    ):
        tuning = Tuning()
        if team.first:
            tuning = _tuning(student, data, options, folder, listener)
        tuning = team.broadcast_object(tuning)
        layout = format_of(tuning.memory_format)
        student.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        torch.manual_seed(derive_seed(options.seed, "train"))
        batch = GlobalBatch()
        if team.several:
            team.broadcast_module(student)
            while_training.enter_context(synchronized_layers(student, team, batch))

        def optimizer(module: nn.Module) -> Optimizer:
            made = SGD(
                module.parameters(),
                lr=options.lr,
                momentum=options.momentum,
                weight_decay=options.weight_decay,
                fused=tuning.fused or None,
            )
            team.all_reduce_gradients(made, student)
            return made

        trained: nn.Module = student
        if tuning.bf16 or tuning.compile != "off":
            trained = Passes(
                student,
                bf16=tuning.bf16,
                compiled=tuning.compile,
                batch_size=options.batch_size,
            )
        if team.several:
            trained = BatchParallel(trained, team, batch)
        setting = Setting(
            student=trained,
            num_classes=data.task.width,
            input_shape=data.input_shape,
            optimizer=optimizer,
            loss=lambda answers, targets: data.task.loss({data.task.output: answers}, targets),
            epochs=options.epochs,
            student_shapes=shapes_of(student, student.taps),
            teacher_shapes={} if teacher is None else teacher.shapes,
            student_trained=student_trained,
        )
        method = recipe.start(setting)
        for name, module in method.modules.items():
            if name != "student":
                team.broadcast_module(module)
        loop = _Loop(method, student, data, options, teacher, listener, watched or {}, tuning, team)
        with explained(options, tuning):
            if folder is None and not team.several:
                loop.run()
            else:
                loop.run_in(folder, save_every_s)
    if loop.average is not None:
        student.load_state_dict(loop.average.network.state_dict())
    student.eval()
    return Fitted(loop.history, loop.best if loop.best.epoch else None)


@contextmanager
def explained(options: TrainingOptions, tuning: Tuning) -> Iterator[None]:
    """What torch raises for lack of memory or of a compiler, in words.

    Raises:
        UsageError: it did.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"The GPU has no memory left: {first_line(error).rstrip('.')}. Use a smaller "
            f"--batch-size (it is {options.batch_size}) with another --out, or free memory of the "
            "GPU."
        ) from error
    except Exception as error:
        compiling = type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
        if tuning.compile == "off" or not compiling:
            raise
        raise UsageError(
            f"torch.compile failed: {type(error).__name__}: {first_line(error).rstrip('.')}. Use "
            "--compile off with another --out, or install a C++ compiler."
        ) from error


def _for_team(team: Team, options: TrainingOptions) -> TrainingOptions:
    """The options as several processes have them: they do not compile.

    Raises:
        UsageError: they are asked for what they cannot do.
    """
    if not team.several:
        return options
    if options.compile not in ("auto", "off"):
        raise UsageError(
            f"--compile is {options.compile}, but a student cannot be compiled while several "
            "processes train it. Leave --compile out."
        )
    if options.batch_size < team.size:
        raise UsageError(
            f"The batch size is {options.batch_size}, but {team.size} processes share it and each "
            "needs an image. Use a larger --batch-size (the total of all processes) or fewer "
            "processes."
        )
    return replace(options, compile="off")


def _tuning(
    student: Learner,
    data: Dataset,
    options: TrainingOptions,
    folder: RunFolder | None,
    listener: Listener,
) -> Tuning:
    """How steps are computed: as when the run began, or decided now."""
    if folder is not None:
        noted = folder.facts().get("tuning") if folder.existed else None
        if noted is not None:
            return Tuning.from_dict(noted)
        if Checkpoints(folder.path, listener.message).any():
            options = as_before(options)
    steps = options.epochs * math.ceil(len(data.train) / options.batch_size)
    tuning = tune(student, data.train.images.device, options, steps=steps, say=listener.message)
    if folder is not None and folder.existed:
        folder.note("tuning", tuning.to_dict())
    return tuning


@dataclass(frozen=True)
class _Place:
    """One epoch among all.

    Attributes:
        epoch: from 1, through all phases.
        phase: that it is a part of.
        number: of the epoch in its phase, from 0.
        view: of the images. Those of the student's epochs are numbered from 1, and so are those of
            the others: what a teacher says of a view serves both.
    """

    epoch: int
    phase: Phase
    number: int
    view: int


def _places(phases: Sequence[Phase], reused_views: int | None) -> list[_Place]:
    """All epochs in order."""
    places: list[_Place] = []
    seen = {True: 0, False: 0}
    for phase in phases:
        for number in range(phase.epochs):
            view = seen[phase.trains_student]
            seen[phase.trains_student] += 1
            if reused_views is not None:
                view %= reused_views
            places.append(_Place(len(places) + 1, phase, number, 1 + view))
    return places


class _Loop:
    """One training; an object only because its parts share a dozen things.

    ``history``, ``best`` and ``scalars`` say where it is: what is done is ``len(history)`` epochs,
    and ``scalars.steps`` of the next.
    """

    def __init__(
        self,
        method: Method,
        student: Learner,
        data: Dataset,
        options: TrainingOptions,
        teacher: TeacherOutputs | None,
        listener: Listener,
        watched: Mapping[str, Split],
        tuning: Tuning,
        team: Team,
    ) -> None:
        self.method = method
        self.team = team
        self.stop = StopSignals()
        self.stopping = self.looking = False
        self.layout = format_of(tuning.memory_format)
        self.average = Average(student, options.ema) if options.ema else None
        # What is validated and kept.
        self.judged: nn.Module = student if self.average is None else self.average.network
        self.watched = watched
        self.student = student
        self.data = data
        self.options = options
        self.teacher = teacher
        self.listener = listener
        self.after_step: Callable[[], None] = lambda: None
        device = data.train.images.device
        # Elementwise both: compiled they are a kernel each, of the same bits.
        fuse = device.type == "cuda" and tuning.compile != "off"
        normalize = Normalizer(data.normalization, device)
        self.normalize = torch.compile(normalize.__call__) if fuse else normalize
        self.augment = Augmenter(
            data.train.images,
            seed=options.seed,
            flip=data.flip,
            pad=options.crop_padding,
            cropping=torch.compile(crop) if fuse else crop,
        )
        self.places = _places(method.phases, options.reused_views)
        self.history: list[dict[str, Any]] = []
        self.best = Best()
        self.scalars = Scalars()
        self.kept = ""  # what the newest saved state is, for people
        self.warned: set[str] = set()
        self.started_s = self.looked_s = self.saved_s = time.monotonic()
        self.images_seen = self.images_seen_first = 0
        self.shown_s = 0.0

    def run_in(self, folder: RunFolder | None, save_every_s: float) -> None:
        """Trains from where the folder's state is, and keeps the state there.

        Args:
            folder: None for a process that has none, and goes along with the first of its team.
            save_every_s: see ``fit``.
        """
        checkpoints = Checkpoints(folder.path, self.listener.message) if folder else None
        going_on = checkpoints is not None and bool(checkpoints.load(self._restore))
        if self.team.several:
            going_on = self._restore_with_first(going_on)
        if going_on and folder:
            folder.write_metrics(self.history)  # the last line may have been lost
            self.listener.message(f"Resuming after {self._where()}.")
            self.kept = f"The state after {self._where()}"

        def keep() -> None:
            whole_epoch = self.scalars.steps == 0
            if checkpoints is not None and (
                whole_epoch or self.stopping or time.monotonic() - self.saved_s >= save_every_s
            ):
                self._look(to_save=True)
                checkpoints.save(self._state())
                self.saved_s = time.monotonic()
                self.kept = f"The state after {self._where()}"
            if whole_epoch and folder is not None:
                folder.write_metrics(self.history)
            if self.stopping:
                self.listener.message(f"Stopped after {self._where()}; its state is saved.")
                self.stop.raise_signal()

        with self.stop:
            try:
                self.run(keep)
            except ProcessLost:
                self.stop.raise_signal()  # the others had the signal too
                raise
            except TrainingDiverged as error:
                if self.team.first:
                    raise
                raise EndedElsewhere(error.exit_code) from error

    def _restore_with_first(self, going_on: bool) -> bool:
        """Has every process of the team in the first one's state, if it has one; whether it has."""
        content = io.BytesIO()
        if going_on and self.team.first:
            torch.save(self._state(), content)
        said = self.team.broadcast_object(content.getvalue())
        if said and not self.team.first:
            self._restore(torch.load(io.BytesIO(said), map_location="cpu", weights_only=True))
        return bool(said)

    def _agree(self) -> None:
        """Finds out whether to stop, and whether to look at the losses, alike in all processes."""
        steps = self.scalars.steps
        on_gpu = self.data.train.images.device.type == "cuda"
        self.stopping = self.looking = False
        if self.team.several and on_gpu and steps % AGREE_EVERY:
            return
        due = time.monotonic() - self.looked_s >= LOOK_EVERY_S
        signal, look = self.team.all_reduce_max(self.stop.number, int(due))
        if signal and not self.stop.received:
            self.stop.record(signal)
        self.stopping, self.looking = bool(signal), bool(look)

    def _interrupt(self) -> None:
        """Stops within a step, which has changed nothing yet, where a signal says so."""
        if self.stop.received:
            self.stopping = True
            self.after_step()

    def run(self, after_step: Callable[[], None] = lambda: None) -> None:
        """Trains what is left.

        Args:
            after_step: called after each step and, when its metrics are there, each epoch.
        """
        self.after_step = after_step
        for place in self.places[len(self.history) :]:
            metrics = self._run_epoch(place)
            self.history.append(metrics)
            self.scalars = Scalars()
            reached = metrics["validation_accuracy"]
            if place.phase.trains_student and reached is not None and reached > self.best.accuracy:
                weights = {name: t.cpu().clone() for name, t in self.judged.state_dict().items()}
                self.best = Best(place.epoch, reached, weights)
            self._agree()
            after_step()
            self.listener.epoch(metrics)

    def _run_epoch(self, place: _Place) -> dict[str, Any]:
        """Trains what is left of one epoch and validates; the metrics of that epoch."""
        epoch, phase = place.epoch, place.phase
        options, train = self.options, self.data.train
        began_s, images_before = time.monotonic(), self.images_seen
        for module in self.method.modules.values():
            module.train()
        order = torch.randperm(len(train), generator=generator(options.seed, "order", epoch))
        if train.images.device.type == "cuda":
            order = order.pin_memory()  # so that a batch's part of it is copied without waiting
        batches = [part for part in order.split(options.batch_size) if len(part) > 1]
        left = batches[self.scalars.steps :]
        crops = (self.augment(index, place.view) for index in left)
        for number, pixels in enumerate(
            ahead(crops) if self.augment.streams else crops, start=self.scalars.steps
        ):
            done = number / len(batches)
            self._set_rates(phase, place.number + done)
            batch = self._batch(batches[number], pixels, place)
            self.scalars.add(self.method.step(batch, phase.name), of=len(batches))
            if self.average is not None and phase.trains_student:
                self.average.update(self.student)
            self.images_seen += len(batches[number])
            self._show(epoch, (epoch - 1 + done) / len(self.places))
            if number + 1 < len(batches):
                self._agree()
                if self.looking:
                    self._look()
                self.after_step()
        self._look()
        means = self.scalars.means()
        trained_s = time.monotonic() - began_s
        advice = self.method.advice(means)
        if advice is not None and advice not in self.warned:
            self.warned.add(advice)
            self.listener.message(f"Warning, epoch {epoch}: {advice}")
        validation = None
        if len(self.data.validation):
            validation = self._score(self.data.validation)
        watched = {f"{name}_accuracy": self._score(s) for name, s in self.watched.items()}
        return {
            "epoch": epoch,
            **({"phase": phase.name} if len(self.method.phases) > 1 else {}),
            "lr": self.method.optimizers["student"].param_groups[0]["lr"],
            **means,
            "validation_accuracy": validation,
            **watched,
            "images_per_s": round((self.images_seen - images_before) / trained_s, 1),
        }

    def _score(self, split: Split) -> float:
        data = self.data
        return score_on_device(
            self.judged, data.task, split, data.normalization, self.layout, self.team
        )

    def _set_rates(self, phase: Phase, epochs_done: float) -> None:
        factor = self.options.rate_factor(epochs_done / phase.epochs)
        for name, optimizer in self.method.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = phase.lr.get(name, self.options.lr) * factor

    def _batch(self, index: Tensor, pixels: Tensor, place: _Place) -> Batch:
        """The images at ``index``, on the CPU, of which ``pixels`` are the crops."""
        images = self.normalize(pixels)
        asked = self.teacher if place.phase.uses_teacher else None
        with interruptible(self._interrupt):
            outputs = () if asked is None else asked(index, place.view, pixels)
        labels = self.data.train.targets[index.to(pixels.device, non_blocking=True)]
        return Batch(
            images=images.contiguous(memory_format=self.layout),
            labels=labels,
            targets=self.data.task.targets(labels, self.options.label_smoothing),
            teachers=outputs,
        )

    def _show(self, epoch: int, fraction: float) -> None:
        now_s = time.monotonic()
        if not self.images_seen_first:
            # The first step compiles, and waits for what the teacher says of all images.
            self.images_seen_first, self.started_s = self.images_seen, now_s
            return
        if now_s - self.shown_s < 0.25:
            return
        self.shown_s = now_s
        rate = (self.images_seen - self.images_seen_first) / max(now_s - self.started_s, 1e-9)
        epochs = len(self.places)
        left = (1 - fraction) * len(self.data.train) * epochs / rate
        self.listener.progress(Progress(epoch, epochs, fraction, rate, left))

    def _look(self, *, to_save: bool = False) -> None:
        """Looks whether the training has diverged; before its state is saved, at the weights too.

        Raises:
            TrainingDiverged: it has.
        """
        self.looked_s = time.monotonic()
        bad = self.scalars.first_bad()
        if bad is not None:
            step, name, value = bad
            what = "loss" if name == "loss" else f"figure {name}"
            found = f"The {what} became {value} in step {step} of epoch {len(self.history) + 1}."
        elif to_save and not all(bool(t.isfinite().all()) for t in self.student.parameters()):
            found = f"The weights are not finite after {self._where()}."
        else:
            return
        kept = f" {self.kept} is kept." if self.kept else ""
        discriminator = "discriminator" in self.method.optimizers
        raise TrainingDiverged(
            f"{found}{kept} Try a lower --lr (it is {self.options.lr:g}) with another --out"
            f"{', or a lower --lr-d' if discriminator else ''}."
        )

    def _where(self) -> str:
        """How far the training is, for people."""
        epochs = f"epoch {len(self.history)} of {len(self.places)}"
        if self.scalars.steps == 0:
            return epochs
        steps = f"step {self.scalars.steps} of {len(self.scalars.table)}"
        return f"{steps} of epoch {len(self.history) + 1} of {len(self.places)}"

    def _state(self) -> dict[str, Any]:
        """Everything that resuming needs."""
        device = self.data.train.images.device
        # A list, because earlier versions had the states of all devices.
        cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
        return {
            "version": CHECKPOINT_VERSIONS[-1],
            "modules": {name: module.state_dict() for name, module in self._modules().items()},
            "optimizers": {name: o.state_dict() for name, o in self.method.optimizers.items()},
            "random": torch.get_rng_state(),
            "random_cuda": cuda,
            "average": self.average.state_dict() if self.average is not None else None,
            "history": self.history,
            "best": dict(vars(self.best)),
            "scalars": dict(vars(self.scalars)),
        }

    def _modules(self) -> dict[str, nn.Module]:
        """What is trained; the student itself and not what runs its passes."""
        return {**self.method.modules, "student": self.student}

    def _restore(self, saved: Mapping[str, Any]) -> bool:
        """Puts a state back.

        Raises:
            Exception: it is not one of this training.
        """
        if saved["version"] not in CHECKPOINT_VERSIONS:
            if saved["version"] > CHECKPOINT_VERSIONS[-1]:
                raise CheckpointError(
                    "The state of the training was written by a newer version of compress. Use "
                    "that version."
                )
            raise ValueError(f"its version is {saved['version']}, not {CHECKPOINT_VERSIONS[-1]}")
        history, best, scalars = place_of(saved, epochs=len(self.places), judged=self.judged)
        for name, module in self._modules().items():
            state = saved["modules"][name]
            if name == "student":  # version 2 had it inside another module under autocast
                state = {key.removeprefix("network."): value for key, value in state.items()}
            module.load_state_dict(state)
        for name, optimizer in self.method.optimizers.items():
            check_optimizer(optimizer, saved["optimizers"][name])
            optimizer.load_state_dict(saved["optimizers"][name])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        torch.set_rng_state(saved["random"])
        device = self.data.train.images.device
        if saved["random_cuda"] and device.type == "cuda":
            torch.cuda.set_rng_state(saved["random_cuda"][0], device)
        self.history, self.best, self.scalars = history, best, scalars
        self.scalars.table = self.scalars.table.to(device)
        return True
