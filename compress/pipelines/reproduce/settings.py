"""What a user asks otherwise than the declared file: smaller, shorter, elsewhere; and said so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compress.errors import UnknownName, UsageError
from compress.pipelines.reproduce.experiment import (
    Experiment,
    ExperimentTask,
    ExperimentTeacher,
    Method,
    check_network,
    check_seeds,
)
from compress.training.options import TrainingOptions


@dataclass(frozen=True)
class Overrides:
    """What the command line says; None and empty mean what the file says.

    Attributes:
        scale: shrinks epochs, training images, seeds and the validation of each epoch.
        tasks, methods, students: subsets by name; a student may be one that the file has not.
        seeds, epochs, limit_train, validation, schedule, autocast: as in the file.
        data, teachers: task's name -> data, checkpoint; under "" what is said without a task.
    """

    scale: float = 1.0
    tasks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    students: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    epochs: int | None = None
    limit_train: int | None = None
    validation: int | None = None
    schedule: str | None = None
    autocast: str | None = None
    data: Mapping[str, str] | None = None
    teachers: Mapping[str, Path] | None = None


@dataclass(frozen=True)
class Adapted:
    """An experiment as it is going to run.

    Attributes:
        experiment: what to train. A task whose data has to be given and was not is left out.
        differences: from the declared file, a sentence each.
        fraction: of each task's training images that are used, where no number was given.
    """

    experiment: Experiment
    differences: tuple[str, ...]
    fraction: float


def adapt(declared: Experiment, asked: Overrides) -> Adapted:
    """The experiment that was asked for, and in what it differs from the declared one.

    Raises:
        UnknownName: a task or a method that is not there.
        UsageError: values that cannot be; all of them are told.
    """
    differences: list[str] = []
    faults = list(_faults(asked))
    if faults:
        raise UsageError(f"This cannot be reproduced: {'; '.join(faults)}.")
    tasks = _chosen_tasks(declared, asked, differences)
    methods = _chosen_methods(declared, asked.methods, differences)
    data, teachers = _by_task(asked.data, tasks, "data"), _by_task(asked.teachers, tasks, "teacher")
    for name, source in data.items():
        differences.append(f"{name}: --data {Path(source).name}")
    for name, file in teachers.items():
        differences.append(f"{name}: the teacher is the file {file.name}")
    seeds = _seeds(declared.seeds, asked, differences)
    validate = declared.validate_images
    if asked.scale < 1:
        differences.append(
            f"scale {asked.scale:g} of the epochs, of the training images and of the seeds"
        )
        # A fifth of a validation set still tells one epoch from another.
        validate = min(validate or 1000, 1000)
    adapted = []
    for task in tasks:
        schedule = _schedule(task.schedule, asked)
        teacher = task.teacher
        if teacher is not None:
            file = teachers.get(task.name, teacher.file)
            teacher = replace(teacher, file=file, schedule=_schedule(teacher.schedule, asked))
        adapted.append(
            replace(
                task,
                data=data.get(task.name, task.data),
                # Another data set may hold another number of images.
                images=None if task.name in data else task.images,
                validation=asked.validation or task.validation,
                limit_train=asked.limit_train or task.limit_train,
                students=asked.students or task.students,
                schedule=schedule,
                teacher=teacher,
            )
        )
        differences += _schedule_differences(task, schedule, task.teacher, teacher)
    for name, value in (
        ("training images", asked.limit_train),
        ("validation images", asked.validation),
        ("students", ", ".join(asked.students) or None),
    ):
        if value is not None:
            differences.append(f"{name}: {value}")
    experiment = replace(
        declared, tasks=tuple(adapted), methods=methods, seeds=seeds, validate_images=validate
    )
    fraction = asked.scale if asked.limit_train is None else 1.0
    return Adapted(experiment, tuple(dict.fromkeys(differences)), fraction)


def _faults(asked: Overrides) -> Iterator[str]:
    if not 0 < asked.scale <= 1:
        yield f"--scale is {asked.scale:g}, it must be more than 0 and at most 1"
    if asked.seeds:
        yield from check_seeds(asked.seeds)
    for student in asked.students:
        yield from check_network(student, "--students")
    for name in ("epochs", "limit_train", "validation"):
        value = getattr(asked, name)
        if value is not None and value < 1:
            yield f"--{name.replace('_', '-')} is {value}, it must be 1 or more"
    try:
        _schedule(TrainingOptions(), replace(asked, scale=1.0, epochs=None))
    except UsageError as error:
        yield str(error).rstrip(".")


def _chosen_tasks(
    declared: Experiment, asked: Overrides, differences: list[str]
) -> tuple[ExperimentTask, ...]:
    """The tasks that are asked for and have data.

    Raises:
        UnknownName: no such task.
        UsageError: none is left.
    """
    names = [task.name for task in declared.tasks]
    for name in (
        *asked.tasks,
        *filter(None, asked.data or ()),
        *filter(None, asked.teachers or ()),
    ):
        if name not in names:
            raise UnknownName("task", name, names)
    wanted = asked.tasks or tuple(names)
    if asked.tasks and set(asked.tasks) != set(names):
        left_out = ", ".join(name for name in names if name not in asked.tasks)
        differences.append(f"left out: {left_out}")
    tasks = [task for task in declared.tasks if task.name in wanted]
    given = asked.data or {}
    found = [task for task in tasks if task.data or given.get(task.name) or "" in given]
    for task in tasks:
        if task not in found:
            differences.append(f"left out: {task.name}, which needs --data {task.name}=FILE")
    if not found:
        lacking = ", ".join(task.name for task in tasks)
        raise UsageError(f"There is no data for {lacking}. Give it with --data.")
    return tuple(found)


def _chosen_methods(
    declared: Experiment, wanted: Sequence[str], differences: list[str]
) -> tuple[Method, ...]:
    names = [method.name for method in declared.methods]
    by_lower = {name.lower(): name for name in names}
    for name in wanted:
        if name.lower() not in by_lower:
            raise UnknownName("method", name, names)
    chosen = {by_lower[name.lower()] for name in wanted} or set(names)
    if chosen != set(names):
        differences.append(f"left out: {', '.join(name for name in names if name not in chosen)}")
    return tuple(method for method in declared.methods if method.name in chosen)


def _by_task(
    given: Mapping[str, Any] | None, tasks: Sequence[ExperimentTask], option: str
) -> dict[str, Any]:
    """Task's name -> what was given for it.

    Raises:
        UsageError: something was given without a task, and there are several.
    """
    found = dict(given or {})
    if "" in found:
        if len(tasks) > 1:
            names = ", ".join(task.name for task in tasks)
            raise UsageError(
                f"--{option} {found['']} could be for {names}. Choose one with --tasks, or write "
                f"--{option} {tasks[0].name}={found['']}."
            )
        found[tasks[0].name] = found.pop("")
    return {name: value for name, value in found.items() if name in {t.name for t in tasks}}


def _seeds(declared: tuple[int, ...], asked: Overrides, differences: list[str]) -> tuple[int, ...]:
    seeds = asked.seeds or declared[: max(1, round(asked.scale * len(declared)))]
    if seeds != declared:
        told = [", ".join(map(str, each)) for each in (seeds, declared)]
        differences.append(f"seeds {told[0]} instead of {told[1]}")
    return seeds


def _schedule(options: TrainingOptions, asked: Overrides) -> TrainingOptions:
    changes: dict[str, Any] = {"epochs": max(1, round(asked.scale * options.epochs))}
    for name in ("epochs", "schedule", "autocast"):
        value = getattr(asked, name)
        if value is not None:
            changes[name] = value
    return replace(options, **changes)


def _schedule_differences(
    task: ExperimentTask,
    schedule: TrainingOptions,
    before: ExperimentTeacher | None,
    teacher: ExperimentTeacher | None,
) -> Iterator[str]:
    """What is trained otherwise than declared, of students and of a teacher that is trained."""
    yield from _changes("", task.schedule, schedule)
    if before is not None and teacher is not None and teacher.file is None:
        yield from _changes("the teacher: ", before.schedule, teacher.schedule)


def _changes(whose: str, before: TrainingOptions, now: TrainingOptions) -> Iterator[str]:
    then = before.to_dict()
    for name, value in now.to_dict().items():
        if value != then[name]:
            yield f"{whose}{name.replace('_', ' ')} {value} instead of {then[name]}"
