"""The tasks that a file may name."""

from __future__ import annotations

from collections.abc import Callable

from compress.tasks.classification import Classification
from compress.tasks.task import Metric, Task

# Name -> how many numbers answer an image -> the task, its classes without names.
TASKS: dict[str, Callable[[int], Task]] = {Classification.name: Classification.of_width}


def unstated(width: int = 1) -> Task:
    """The task of a model where neither data nor a file say it."""
    return Classification.of_width(width)


def metric_named(name: str) -> Metric:
    """How the scores of that name are written."""
    metrics = (make(1).metric for make in TASKS.values())
    return next(metric for metric in metrics if metric.name == name)
