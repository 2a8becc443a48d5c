"""The training loop: data in, a trained student out, nothing lost in between.

The loop knows no equation; the recipe knows no loop. Everything random comes from
``options.seed``, so on the CPU the same seed and thread count give the same student bit for bit,
also when the run was stopped at any step and goes on from its checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Optimizer

from compress.data.dataset import Dataset, Split
from compress.data.seeds import derive_seed
from compress.errors import (
    UsageError,
    first_line,
)
from compress.recipes.recipe import Recipe, Setting
from compress.recipes.registry import check_task
from compress.training.listener import Listener
from compress.training.loop import Loop
from compress.training.options import TrainingOptions
from compress.training.outputs import TeacherOutputs, shapes_of
from compress.training.passes import Learner, Passes, arithmetic
from compress.training.runfolder import RunFolder
from compress.training.saving import SavedTraining
from compress.training.state import Best
from compress.training.team import (
    SINGLE_PROCESS,
    BatchParallel,
    GlobalBatch,
    Team,
    synchronized_layers,
)
from compress.training.trial import format_of
from compress.training.tuning import Tuning, tune

# An epoch that takes longer is saved within.
SAVE_EVERY_S = 120.0


@dataclass(frozen=True)
class Fitted:
    """What a training leaves, beside the student after its last epoch.

    Attributes:
        history: a line of metrics an epoch.
        best: None where there are no validation images.
    """

    history: list[dict[str, Any]]
    best: Best | None


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

    Everything that resuming needs is written to ``folder`` after every epoch, every
    ``save_every_s`` within one, and on SIGINT and SIGTERM, which then do what they would have done.
    Where the folder holds a state already, training goes on from it. A recipe's phases follow each
    other; epochs are counted through all of them.

    Args:
        recipe: the method; it has to serve the data's task.
        student: the network to train.
        data: the images and targets, on the device that trains.
        options: the optimiser, its schedule, and how steps are computed.
        teacher: gives the teachers' outputs; None for a recipe that wants none.
        folder: of the run; None to keep nothing.
        listener: is told how it goes.
        student_trained: whether the student comes trained on the labels already.
        watched: further images that the student is scored on after each epoch, by name; an
            epoch's metrics have "NAME_accuracy", or what the task calls its score. Nothing depends
            on it.
        save_every_s: see above; 0 saves after every step.
        team: the processes that train it together, each of which calls this; see
            ``compress.training.team``. The weights and the state are the first one's, and the
            folder is its alone.

    Raises:
        TrainingDiverged: the loss became infinite or not a number.
        CheckpointError: the folder's checkpoints cannot be read.
        UsageError: a checkpoint cannot be written, the options are not for several processes, or
            the recipe does not serve the task.
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
        loop = Loop(method, student, data, options, teacher, listener, watched or {}, tuning, team)
        with explained(options, tuning):
            SavedTraining(loop, folder, save_every_s).run()
    if loop.average is not None:
        student.load_state_dict(loop.average.network.state_dict())
    student.eval()
    best = loop.position.best
    return Fitted(loop.position.history, best if best.epoch else None)


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
    steps = options.epochs * math.ceil(len(data.train) / options.batch_size)
    tuning = tune(student, data.train.images.device, options, steps=steps, say=listener.message)
    if folder is not None and folder.existed:
        folder.note("tuning", tuning.to_dict())
    return tuning
