"""A training that is saved as it goes, stops on a signal, and goes on where it was."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from compress.errors import CheckpointError, EndedElsewhere, ProcessLost, TrainingDiverged
from compress.training.checkpoints import Checkpoints
from compress.training.loop import Loop
from compress.training.runfolder import RunFolder
from compress.training.state import check_optimizer, position_of
from compress.training.stopping import StopSignals

CHECKPOINT_VERSION = 4
# A loss that is no number any more is looked for at least so often. Looking makes the host wait
# for the device, so it is not done in every step.
LOOK_EVERY_S = 10.0
# After so many steps several processes with a GPU each agree whether to stop; on a CPU, where a
# step takes longer, after each.
AGREE_EVERY = 10


class SavedTraining:
    """Runs a loop, keeps its state in a folder, and acts on signals between two steps.

    Args:
        loop: at its beginning.
        folder: of the run; None for a training that keeps nothing, and for a process of a team
            that is not the first.
        save_every_s: a longer epoch is saved within.
    """

    def __init__(self, loop: Loop, folder: RunFolder | None, save_every_s: float) -> None:
        self._loop, self._folder, self._save_every_s = loop, folder, save_every_s
        self._device = loop.data.train.images.device
        self._checkpoints = Checkpoints(folder.path, loop.listener.message) if folder else None
        self._stop = StopSignals()
        self._stopping = False
        self._saved_s = time.monotonic()

    def run(self) -> None:
        """Trains from where the saved state is, if there is one.

        Raises:
            TrainingDiverged, CheckpointError, UsageError, ProcessLost: as ``engine.fit``.
        """
        team = self._loop.team
        if self._folder is None and not team.several:
            self._loop.run(self._between_steps)  # signals act at once
            return
        self._resume()
        with self._stop:
            try:
                self._loop.run(self._between_steps, self._interrupt)
            except ProcessLost:
                self._stop.raise_signal()  # the others had the signal too
                raise
            except TrainingDiverged as error:
                if team.first:
                    raise
                raise EndedElsewhere(error.exit_code) from error

    # --- Between two steps -----------------------------------------------------------------------

    def _between_steps(self) -> None:
        """Agrees with the other processes; looks at the losses, saves and stops where it is due."""
        scalars, team = self._loop.position.scalars, self._loop.team
        look = self._stopping = False
        if not (team.several and self._device.type == "cuda" and scalars.steps % AGREE_EVERY):
            due = time.monotonic() - self._loop.checked_s >= LOOK_EVERY_S
            number, looks = team.all_reduce_max(self._stop.number, int(due))
            if number and not self._stop.received:
                self._stop.record(number)
            self._stopping, look = bool(number), bool(looks)
        if look and scalars.steps:
            self._loop.check_scalars()
        self._save_and_stop()

    def _interrupt(self) -> None:
        """Stops within a step, which has changed nothing yet, where a signal was received."""
        if self._stop.received:
            self._stopping = True
            self._save_and_stop()

    def _save_and_stop(self) -> None:
        position = self._loop.position
        whole_epoch = position.scalars.steps == 0
        due = time.monotonic() - self._saved_s >= self._save_every_s
        if self._checkpoints is not None and (whole_epoch or self._stopping or due):
            self._loop.check_scalars()
            self._loop.check_weights()
            self._checkpoints.save(self._state())
            self._saved_s = time.monotonic()
            position.saved = position.text
        if whole_epoch and self._folder is not None:
            self._folder.write_metrics(position.history)
        if self._stopping:
            self._loop.listener.message(f"Stopped after {position.text}; its state is saved.")
            self._stop.raise_signal()

    # --- Where it was ----------------------------------------------------------------------------

    def _resume(self) -> None:
        """Goes on from the folder's state, if it has one; every process in that of the first."""
        loop, team = self._loop, self._loop.team
        there = self._checkpoints is not None and bool(self._checkpoints.load(self._restore))
        if team.several:
            content = io.BytesIO()
            if there and team.first:
                torch.save(self._state(), content)
            state = team.broadcast_object(content.getvalue())
            if state and not team.first:
                self._restore(torch.load(io.BytesIO(state), map_location="cpu", weights_only=True))
        if there and self._folder is not None:
            self._folder.write_metrics(loop.position.history)  # the last line may have been lost
            loop.listener.message(f"Resuming after {loop.position.text}.")
            loop.position.saved = loop.position.text

    def _modules(self) -> dict[str, nn.Module]:
        """What is trained; the student itself and not what runs its passes."""
        return {**self._loop.method.modules, "student": self._loop.student}

    def _state(self) -> dict[str, Any]:
        """Everything that resuming needs."""
        loop, on_gpu = self._loop, self._device.type == "cuda"
        return {
            "version": CHECKPOINT_VERSION,
            "modules": {name: module.state_dict() for name, module in self._modules().items()},
            "optimizers": {name: o.state_dict() for name, o in loop.method.optimizers.items()},
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self._device) if on_gpu else None,
            "average": None if loop.average is None else loop.average.state_dict(),
            **loop.position.state_dict(),
        }

    def _restore(self, saved: Mapping[str, Any]) -> bool:
        """Puts a state back.

        Raises:
            Exception: it is not one of this training.
        """
        loop = self._loop
        if saved["version"] != CHECKPOINT_VERSION:
            if saved["version"] > CHECKPOINT_VERSION:
                raise CheckpointError(
                    "The state of the training was written by a newer version of compress. Use "
                    "that version."
                )
            raise ValueError(f"its version is {saved['version']}, not {CHECKPOINT_VERSION}")
        position = position_of(saved, epochs=loop.position.epochs, evaluated=loop.evaluated)
        for name, module in self._modules().items():
            module.load_state_dict(saved["modules"][name])
        for name, optimizer in loop.method.optimizers.items():
            check_optimizer(optimizer, saved["optimizers"][name])
            optimizer.load_state_dict(saved["optimizers"][name])
        if loop.average is not None:
            loop.average.load_state_dict(saved["average"])
        torch.set_rng_state(saved["random"])
        if saved["random_cuda"] is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(saved["random_cuda"], self._device)
        position.scalars.table = position.scalars.table.to(self._device)
        loop.position = position
        return True
