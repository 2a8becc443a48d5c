"""The steps and epochs of a training: batches in, metrics and a better student out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compress.data.augment import Augmenter, crop
from compress.data.dataset import Dataset, Split
from compress.data.images import ahead
from compress.data.normalization import Normalizer
from compress.data.seeds import generator
from compress.errors import TrainingDiverged
from compress.recipes.recipe import Batch, Method, Phase
from compress.training.epochs import Epoch, epochs_of
from compress.training.evaluation import score_on_device
from compress.training.listener import Listener, ProgressMeter
from compress.training.options import TrainingOptions
from compress.training.outputs import TeacherOutputs
from compress.training.passes import Average, Learner
from compress.training.state import Best, Position
from compress.training.stopping import interruptible
from compress.training.team import Team
from compress.training.trial import format_of
from compress.training.tuning import Tuning


def nothing() -> None:
    """Does nothing between two steps."""


class Loop:
    """One training at work.

    Attributes:
        position: how far it is.
        checked_s: when ``check_scalars`` looked at the losses last, by ``time.monotonic``.

    Args:
        method: what a step does.
        student: what learns.
        data: on the device that trains.
        options: of the training.
        teacher: gives the teacher's outputs; None for a recipe that wants none.
        listener: is told how it goes.
        watched: further images that are scored after each epoch, by name.
        tuning: how steps are computed.
        team: the processes that train together.
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
        self.method, self.student, self.data, self.team = method, student, data, team
        self.listener = listener
        self.average = Average(student, options.ema) if options.ema else None
        self._options, self._teacher, self._watched = options, teacher, watched
        self._layout = format_of(tuning.memory_format)
        device = data.train.images.device
        # Elementwise both: compiled they are a kernel each, of the same bits.
        fuse = device.type == "cuda" and tuning.compile != "off"
        normalize = Normalizer(data.normalization, device)
        self._normalize = torch.compile(normalize.__call__) if fuse else normalize
        self._augment = Augmenter(
            data.train.images,
            seed=options.seed,
            flip=data.flip,
            pad=options.crop_padding,
            cropping=torch.compile(crop) if fuse else crop,
        )
        self._epochs = epochs_of(method.phases, options.reused_views)
        self.position = Position(len(self._epochs))
        self._meter = ProgressMeter(listener, len(data.train), len(self._epochs))
        self._warned: set[str] = set()
        self.checked_s = time.monotonic()

    @property
    def evaluated(self) -> nn.Module:
        """What is scored and kept: the student, or the average of its weights."""
        return self.student if self.average is None else self.average.network

    def run(
        self,
        between_steps: Callable[[], None] = nothing,
        interrupt: Callable[[], None] = nothing,
    ) -> None:
        """Trains what is left.

        Args:
            between_steps: called after each step and, when its metrics are there, each epoch.
            interrupt: called now and then within a step that takes long.
        """
        position, score = self.position, f"validation_{self.data.task.metric.name}"
        for epoch in self._epochs[len(position.history) :]:
            metrics = self._run_epoch(epoch, between_steps, interrupt)
            reached = metrics[score]
            if epoch.phase.trains_student and reached is not None and position.improves(reached):
                state = self.evaluated.state_dict()
                weights = {name: t.cpu().clone() for name, t in state.items()}
                position.best = Best(epoch.number, reached, weights)
            position.end_epoch(metrics)
            between_steps()
            self.listener.epoch(metrics)

    def _run_epoch(
        self, epoch: Epoch, between_steps: Callable[[], None], interrupt: Callable[[], None]
    ) -> dict[str, Any]:
        """Trains what is left of one epoch and validates; the metrics of that epoch."""
        phase, train, scalars = epoch.phase, self.data.train, self.position.scalars
        began_s, images_before = time.monotonic(), self._meter.seen
        for module in self.method.modules.values():
            module.train()
        order = torch.randperm(
            len(train), generator=generator(self._options.seed, "order", epoch.number)
        )
        if train.images.device.type == "cuda":
            order = order.pin_memory()  # so that a batch's part of it is copied without waiting
        batches = [part for part in order.split(self._options.batch_size) if len(part) > 1]
        crops = (self._augment(index, epoch.view) for index in batches[scalars.steps :])
        for number, pixels in enumerate(
            ahead(crops) if self._augment.streams else crops, start=scalars.steps
        ):
            done = number / len(batches)
            self._set_rates(phase, epoch.in_phase + done)
            with interruptible(interrupt):
                batch = self._batch(batches[number], pixels, epoch)
            scalars.add(self.method.step(batch, phase.name), of=len(batches))
            if self.average is not None and phase.trains_student:
                self.average.update(self.student)
            fraction = (epoch.number - 1 + done) / len(self._epochs)
            self._meter.add(len(batches[number]), epoch.number, fraction)
            if number + 1 < len(batches):
                between_steps()
        self.check_scalars()
        means = scalars.means()
        trained_s = time.monotonic() - began_s
        self._warn(self.method.advice(means), epoch)
        return {
            "epoch": epoch.number,
            **({"phase": phase.name} if len(self.method.phases) > 1 else {}),
            "lr": self.method.optimizers["student"].param_groups[0]["lr"],
            **means,
            **self._scores(),
            "images_per_s": round((self._meter.seen - images_before) / trained_s, 1),
        }

    def _set_rates(self, phase: Phase, epochs_done: float) -> None:
        factor = self._options.rate_factor(epochs_done / phase.epochs)
        for name, optimizer in self.method.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = phase.lr.get(name, self._options.lr) * factor

    def _batch(self, index: Tensor, pixels: Tensor, epoch: Epoch) -> Batch:
        """The images at ``index``, on the CPU, of which ``pixels`` are the crops."""
        images = self._normalize(pixels)
        teacher = self._teacher if epoch.phase.uses_teacher else None
        teachers = () if teacher is None else teacher(index, epoch.view, pixels)
        labels = self.data.train.targets[index.to(pixels.device, non_blocking=True)]
        return Batch(
            images=images.contiguous(memory_format=self._layout),
            labels=labels,
            targets=self.data.task.targets(labels, self._options.label_smoothing),
            teachers=teachers,
        )

    def _scores(self) -> dict[str, float | None]:
        """The score on the validation images, and on those that are watched."""
        data, metric = self.data, self.data.task.metric.name
        splits = {"validation": data.validation, **self._watched}
        return {
            f"{name}_{metric}": score_on_device(
                self.evaluated, data.task, split, data.normalization, self._layout, self.team
            )
            if len(split)
            else None
            for name, split in splits.items()
        }

    def _warn(self, advice: str | None, epoch: Epoch) -> None:
        if advice is not None and advice not in self._warned:
            self._warned.add(advice)
            self.listener.message(f"Warning, epoch {epoch.number}: {advice}")

    def check_scalars(self) -> None:
        """Looks whether what the steps have returned is finite; it waits for the device.

        Raises:
            TrainingDiverged: it is not.
        """
        self.checked_s = time.monotonic()
        bad = self.position.scalars.first_bad()
        if bad is not None:
            step, name, value = bad
            what = "loss" if name == "loss" else f"figure {name}"
            epoch = len(self.position.history) + 1
            raise self._diverged(f"The {what} became {value} in step {step} of epoch {epoch}.")

    def check_weights(self) -> None:
        """The same of the student's weights.

        Raises:
            TrainingDiverged: they are not finite.
        """
        if not all(bool(t.isfinite().all()) for t in self.student.parameters()):
            raise self._diverged(f"The weights are not finite after {self.position.text}.")

    def _diverged(self, found: str) -> TrainingDiverged:
        saved = self.position.saved
        kept = f" The state after {saved} is kept." if saved else ""
        discriminator = "discriminator" in self.method.optimizers
        return TrainingDiverged(
            f"{found}{kept} Try a lower --lr (it is {self._options.lr:g}) with another --out"
            f"{', or a lower --lr-d' if discriminator else ''}."
        )
