"""The tasks that a file may name."""

from __future__ import annotations

from collections.abc import Callable

from compress.tasks.classification import Classification
from compress.tasks.task import Task

# Name -> how many numbers answer an image -> the task, its classes without names.
TASKS: dict[str, Callable[[int], Task]] = {Classification.name: Classification.of_width}


def unstated(width: int = 1) -> Task:
    """The task of a model where neither data nor a file say it."""
    return Classification.of_width(width)
