"""Where the time of a training goes, seen from outside: the engine is run as it is.

A clock is switched from part to part by what surrounds the engine: a recipe and a source of
teacher's outputs that pass everything on, hooks that torch offers, and two methods of the engine
that are wrapped for as long as a measurement lasts.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from compress.data.augment import Augmenter
from compress.models.network import LOGITS, Network
from compress.recipes.recipe import Batch, Method, Phase, Recipe, Setting
from compress.training.checkpoints import Checkpoints
from compress.training.outputs import OutputsByTeacher, TeacherOutputs

# Crops, normalisation, labels and layout of a batch; what is kept of the teacher, looked up or
# computed, but for the passes that are marked; the student's pass; the loss and its gradient; the
# student's gradients; its update. The rest is bookkeeping and display.
DATA, TEACHER, FORWARD, LOSS = "data", "teacher", "forward", "loss"
BACKWARD, OPTIMIZER, REST = "backward", "optimiser", "rest"
PARTS = (DATA, TEACHER, FORWARD, LOSS, BACKWARD, OPTIMIZER, REST)
# Of a whole run.
TEACHER_PASSES, VALIDATION, SAVING = "teacher's passes", "validation passes", "checkpoints"


def nothing() -> None:
    """Done after a step where nothing is to be."""


class Clock:
    """Adds up seconds by part.

    On a GPU a part ends when the GPU has done what it was given until then, so what it waited for
    is in the part that kept it waiting.

    Args:
        device: that computes.
        now: of a CPU, seconds.
    """

    def __init__(self, device: torch.device, now: Callable[[], float] = time.perf_counter) -> None:
        self._device = device
        self._now = now
        self.part = REST
        self._marks: list[tuple[str, Any]] = [(REST, self._stamp())]

    def switch(self, part: str) -> str:
        """What follows is of this part; gives the one before."""
        before, self.part = self.part, part
        self._marks.append((part, self._stamp()))
        return before

    @contextmanager
    def inside(self, part: str) -> Iterator[None]:
        """The block is of this part, what follows of the one before again."""
        before = self.switch(part)
        try:
            yield
        finally:
            self.switch(before)

    def take(self) -> dict[str, float]:
        """Seconds by part since the last time."""
        end = self._stamp()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        marks = [*self._marks, (self.part, end)]
        self._marks = [marks[-1]]
        found: dict[str, float] = {}
        for (part, began), (_, ended) in itertools.pairwise(marks):
            found[part] = found.get(part, 0.0) + self._between(began, ended)
        return found

    def _stamp(self) -> Any:
        if self._device.type != "cuda":
            return self._now()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, began: Any, ended: Any) -> float:
        if self._device.type != "cuda":
            return float(ended - began)
        return float(began.elapsed_time(ended)) / 1e3


class TimedRecipe:
    """A recipe whose steps are told apart.

    Args:
        recipe: that does everything.
        clock: that is switched.
        after_step: called at the end of each step.
    """

    def __init__(
        self, recipe: Recipe, clock: Clock, after_step: Callable[[], None] = nothing
    ) -> None:
        self._recipe = recipe
        self._clock = clock
        self._after_step = after_step
        self.name, self.summary, self.paper = recipe.name, recipe.summary, recipe.paper
        self.teacher_outputs, self.tasks = recipe.teacher_outputs, recipe.tasks

    def start(self, setting: Setting) -> Method:
        """See ``Recipe.start``."""
        clock = self._clock

        def optimizer(module: nn.Module) -> Optimizer:
            made = setting.optimizer(module)
            made.register_step_pre_hook(lambda *_: _mark(clock, OPTIMIZER))
            made.register_step_post_hook(lambda *_: _mark(clock, LOSS))
            return made

        passes = TimedPasses(setting.student, clock)
        method = self._recipe.start(replace(setting, student=passes, optimizer=optimizer))
        return TimedMethod(method, setting.student, clock, self._after_step)

    def to_dict(self) -> dict[str, Any]:
        """See ``Recipe.to_dict``."""
        return self._recipe.to_dict()


class TimedPasses(nn.Module):
    """A student whose passes are told apart, forth and back."""

    def __init__(self, student: Any, clock: Clock) -> None:
        super().__init__()
        self.student = student
        self._clock = clock

    def _run(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with self._clock.inside(FORWARD):
            return self._marked(function(x))

    def _marked(self, found: Tensor) -> Tensor:
        if found.requires_grad:
            found.register_hook(lambda _: _mark(self._clock, BACKWARD))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """See ``Student``: logits [b, C]."""
        return self._run(self.student, x)

    def outputs(self, x: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
        """See ``Student``: outputs and feature maps by name."""
        with self._clock.inside(FORWARD):
            found = self.student.outputs(x, wanted)
            return {name: self._marked(t) for name, t in found.items()}

    def classify(self, features: Tensor) -> Tensor:
        """See ``Student``: logits [b, C] of a feature map."""
        return self._run(self.student.classify, features)

    @property
    def classifier(self) -> nn.Module:
        """See ``Student``: what ``classify`` has parameters in."""
        found: nn.Module = self.student.classifier
        return found


class TimedMethod:
    """A method at work whose steps are told apart; see ``Method``."""

    def __init__(
        self, method: Method, student: nn.Module, clock: Clock, after_step: Callable[[], None]
    ) -> None:
        self._method = method
        self._clock = clock
        self._after_step = after_step
        self.modules: Mapping[str, nn.Module] = {**method.modules, "student": student}
        self.optimizers: Mapping[str, Optimizer] = method.optimizers
        self.phases: Sequence[Phase] = method.phases

    def step(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """See ``Method.step``."""
        self._clock.switch(LOSS)
        found = self._method.step(batch, phase)
        self._clock.switch(REST)
        self._after_step()
        return found

    def advice(self, means: Mapping[str, float]) -> str | None:
        """See ``Method.advice``."""
        return self._method.advice(means)


class TimedOutputs:
    """A source of teacher's outputs that is told apart; see ``TeacherOutputs``."""

    def __init__(self, source: TeacherOutputs, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self.shapes = source.shapes

    def __call__(self, index: Tensor, view: int, pixels: Tensor) -> OutputsByTeacher:
        """See ``TeacherOutputs``."""
        with self._clock.inside(TEACHER):
            return self._source(index, view, pixels)


@contextmanager
def timed_engine(clock: Clock) -> Iterator[None]:
    """Tells the engine's batches and the writing of its states apart, while the block lasts."""
    crops, save = Augmenter.__call__, Checkpoints.save

    def timed_crops(self: Augmenter, *given: Any, **named: Any) -> Tensor:
        # Those that the teacher is asked about are the teacher's.
        if clock.part == REST:
            clock.switch(DATA)
        return crops(self, *given, **named)

    def timed_save(self: Checkpoints, *given: Any, **named: Any) -> None:
        with clock.inside(SAVING):
            save(self, *given, **named)

    with (
        patch.object(Augmenter, "__call__", timed_crops),
        patch.object(Checkpoints, "save", timed_save),
    ):
        yield


def time_outputs(network: Network, clock: Clock, part: str) -> None:
    """Tells a teacher's passes that give outputs by name apart."""
    outputs = network.outputs

    def timed(images: Tensor, wanted: Collection[str] = (LOGITS,)) -> dict[str, Tensor]:
        with clock.inside(part):
            return outputs(images, wanted)

    network.outputs = timed  # type: ignore[method-assign]


def time_passes(network: nn.Module, clock: Clock, part: str) -> None:
    """Tells a network's passes in evaluation mode apart: those through all of it."""
    before: list[str] = []

    def begin(module: nn.Module, _given: Any) -> None:
        if not module.training:
            before.append(clock.switch(part))

    def end(module: nn.Module, _given: Any, _found: Any) -> None:
        if not module.training:
            clock.switch(before.pop())

    network.register_forward_pre_hook(begin)
    network.register_forward_hook(end)


def _mark(clock: Clock, part: str) -> None:
    """As a hook, which has to return nothing."""
    clock.switch(part)


def shares(parts: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Each part's share of all of them, those that took no time included."""
    whole = sum(parts.values())
    return {name: parts.get(name, 0.0) / whole for name in names}
