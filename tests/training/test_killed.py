"""A training that is killed at any moment ends with the same student, bit for bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from compress.training.checkpoints import Checkpoints
from compress.training.options import TrainingOptions
from compress.training.runfolder import RunFolder
from tests.training.toy import Listener, same, stripes, train

# The adversary's dropout draws from torch's generator in every step.
RECIPE = "logit-gan"
OPTIONS = TrainingOptions(epochs=3, batch_size=16, lr=0.05, seed=1)


def context() -> Any:
    """Starts processes from one that has imported torch and computed nothing."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tests.training.toy"])
    return server


@pytest.fixture(scope="module")
def whole() -> dict[str, Tensor]:
    return train(stripes(), RECIPE, options=OPTIONS)[0]


def finish(path: Path, listener: Listener | None = None) -> dict[str, Tensor]:
    folder = RunFolder(path, {})
    with folder.alone():
        folder.begin({})
        found, _ = train(stripes(), RECIPE, folder, listener, OPTIONS, save_every_s=0.0)
    return found


def work(path: Path, threads: int) -> None:
    """Trains; "begun" and "done" lie beside the folder."""
    # The last bits of a student depend on the threads.
    torch.set_num_threads(threads)
    path.with_suffix(".begun").touch()
    finish(path)
    path.with_suffix(".done").touch()


def work_and_die(path: Path, threads: int, call: int) -> None:
    """Trains and kills itself in the middle of a checkpoint: at a call to sync or to rename."""
    left, saving = call, False
    RunFolder(path, {}).begin({})
    save = Checkpoints.save

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def calls(*arguments: Any) -> Any:
            nonlocal left
            left -= saving
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return calls

    def counting(self: Checkpoints, state: Mapping[str, Any]) -> None:
        nonlocal saving
        saving = True  # before there is a checkpoint, what the teacher said is written
        save(self, state)

    setattr(Checkpoints, "save", counting)  # noqa: B010 - mypy forbids assigning to it
    os.fsync = counted(os.fsync)
    setattr(Path, "replace", counted(Path.replace))  # noqa: B010 - mypy forbids assigning to it
    work(path, threads)


def wait_for(path: Path, process: Any) -> None:
    end_s = time.monotonic() + 200
    while not path.exists() and process.is_alive() and time.monotonic() < end_s:
        time.sleep(0.002)


def kill_at_random(folder: Path, kills: int, whole: dict[str, Tensor], seed: int) -> None:
    """Kills so many processes, one training after the other; each has to end as ``whole``."""
    moments, number = random.Random(seed), 0
    while kills > 0:
        path = folder / str(number)
        number += 1
        began_s, spent_s = time.monotonic(), 0.5
        while kills > 0:
            process = context().Process(target=work, args=(path, torch.get_num_threads()))
            path.with_suffix(".begun").unlink(missing_ok=True)
            process.start()
            wait_for(path.with_suffix(".begun"), process)
            process.join(moments.uniform(0, spent_s))
            if not process.is_alive():
                break
            process.kill()
            process.join()
            kills -= 1
            # So that a training is killed about five times, however fast the machine is.
            spent_s = max(spent_s, 0.4 * (time.monotonic() - began_s))
        process.join()
        assert path.with_suffix(".done").exists() or kills == 0
        assert same(finish(path), whole)
        assert not list(path.glob(".last.ckpt.*"))


def test_killed_at_a_few_random_moments(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    kill_at_random(tmp_path, 3, whole, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_thirty_random_moments(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    kill_at_random(tmp_path, 30, whole, seed=1)


@pytest.mark.parametrize(
    "call",
    # A checkpoint syncs, moves the one before away if there is one, syncs, and takes its name.
    [0, 4, 5, pytest.param(3, marks=pytest.mark.slow), pytest.param(6, marks=pytest.mark.slow)],
)
def test_killed_during_the_write(tmp_path: Path, whole: dict[str, Tensor], call: int) -> None:
    path = tmp_path / "run"
    process = context().Process(target=work_and_die, args=(path, torch.get_num_threads(), call))
    process.start()
    process.join(200)
    assert process.exitcode == -signal.SIGKILL
    assert list(path.glob(".last.ckpt.*"))
    listener = Listener()
    assert same(finish(path, listener), whole)
    assert bool(listener.messages) == (call >= 3)  # whether a checkpoint before was whole
