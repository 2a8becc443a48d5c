"""benchmarks/step_parts.py: the engine is as it was, and every part of a step is told apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.step_parts import (
    BACKWARD,
    DATA,
    FORWARD,
    LOSS,
    OPTIMIZER,
    PARTS,
    REST,
    SAVING,
    TEACHER,
    TEACHER_PASSES,
    VALIDATION,
    Clock,
    TimedOutputs,
    TimedRecipe,
    shares,
    time_outputs,
    time_passes,
    timed_engine,
)
from compress.models.registry import build
from compress.recipes.registry import make_recipe
from compress.teachers.network import NetworkTeacher
from compress.training.engine import fit
from compress.training.kept import outputs_of
from compress.training.runfolder import RunFolder
from tests.training.toy import GRAY, OPTIONS, SPEC, Listener, stripes

CPU = torch.device("cpu")


def clock_of(*seconds: float) -> Clock:
    moments: Iterator[float] = iter(seconds)
    return Clock(CPU, lambda: next(moments))


def test_time_goes_to_the_part_that_was_switched_to_last() -> None:
    clock = clock_of(0, 1, 3, 6, 10, 15)
    clock.switch(DATA)
    with clock.inside(TEACHER):
        assert clock.part == TEACHER
    clock.switch(LOSS)
    assert clock.take() == {REST: 1, DATA: 2 + 4, TEACHER: 3, LOSS: 5}


def test_a_clock_that_was_read_begins_anew() -> None:
    clock = clock_of(0, 1, 2, 5)
    clock.switch(LOSS)
    assert clock.take() == {REST: 1, LOSS: 1}
    assert clock.take() == {LOSS: 3}


def test_shares_are_of_all_parts() -> None:
    assert shares({DATA: 1.0, LOSS: 3.0}, (DATA, REST)) == {DATA: 0.25, REST: 0.0}


def trained(recipe: str, folder: Path, clock: Clock | None) -> tuple[dict[str, Tensor], int]:
    """The toy's student, and how many steps were seen."""
    torch.manual_seed(5)
    student, teacher = build(SPEC), build(SPEC).eval()
    data, made = stripes(), make_recipe(recipe)
    outputs = outputs_of(
        [NetworkTeacher(teacher, GRAY)],
        made.teacher_outputs,
        data,
        OPTIONS,
        folder=folder / "outputs",
        say=lambda _: None,
    )
    assert outputs is not None
    run = RunFolder(folder / "run", {})
    run.begin({})
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    if clock is None:
        fit(made, student, data, OPTIONS, teacher=outputs, folder=run, listener=Listener())
    else:
        time_outputs(teacher, clock, TEACHER_PASSES)
        time_passes(student, clock, VALIDATION)
        with timed_engine(clock):
            fit(
                TimedRecipe(made, clock, step),
                student,
                data,
                OPTIONS,
                teacher=TimedOutputs(outputs, clock),
                folder=run,
                listener=Listener(),
            )
    return student.state_dict(), steps


@pytest.mark.parametrize("recipe", ["kd", "fitnet", "ktan"])
def test_a_training_that_is_watched_gives_the_same_student(tmp_path: Path, recipe: str) -> None:
    clock = Clock(CPU)
    alone, _ = trained(recipe, tmp_path / "alone", None)
    watched, steps = trained(recipe, tmp_path / "watched", clock)
    assert all(torch.equal(alone[name], watched[name]) for name in alone)
    assert steps >= OPTIONS.epochs * 6  # 97 images in batches of 16, the last alone is left out
    parts = clock.take()
    assert set(parts) == {*PARTS, SAVING, VALIDATION, TEACHER_PASSES}
    assert min(parts.values()) > 0


def test_a_step_goes_through_its_parts_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(CPU)
    seen = []
    switch = clock.switch

    def noted(part: str) -> str:
        seen.append(part)
        return switch(part)

    monkeypatch.setattr(clock, "switch", noted)
    trained("kd", tmp_path, clock)
    one = [DATA, TEACHER, DATA, LOSS, FORWARD, LOSS, BACKWARD, OPTIMIZER, LOSS, REST]
    first = seen.index(REST) + 1
    assert seen[first : first + len(one)] == one


def test_the_engine_is_itself_again_afterwards() -> None:
    from compress.data.augment import Augmenter
    from compress.training.checkpoints import Checkpoints

    before = (Augmenter.__call__, Checkpoints.save)
    with timed_engine(Clock(CPU)):
        assert Augmenter.__call__ is not before[0]
    assert (Augmenter.__call__, Checkpoints.save) == before
