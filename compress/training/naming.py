"""How good a model is whose names of the classes have to be believed."""

from __future__ import annotations

from collections.abc import Sequence

from compress.data.classes import names_differ
from compress.data.dataset import Dataset
from compress.errors import DataError
from compress.spec import Normalization
from compress.tasks.task import Standing
from compress.training.evaluation import Predict, answers_to


def believed_score(
    name: str,
    predict: Predict,
    data: Dataset,
    normalization: Normalization,
    classes: Sequence[str],
) -> tuple[float, tuple[str, ...]]:
    """The score on the validation images, and a warning where it is no better than chance.

    Args:
        name: of the model, for messages.
        predict: the model, its outputs in the data's order as far as names tell.
        data: whose validation images it is scored on.
        normalization: of the images.
        classes: what the model calls its outputs; empty where it names none.

    Raises:
        DataError: it is no better than chance, and names its classes otherwise than the data, so
            that nothing shows that they are the same ones in the same order.
    """
    targets = data.validation.targets
    outputs = answers_to(predict, data.validation.images, normalization)
    chance = data.task.chance(outputs, targets)
    warnings: tuple[str, ...] = ()
    if chance.standing is Standing.NO_BETTER:
        if names_differ(classes, data.task.classes):
            raise DataError(
                f"{name} and {data.name} have different class names, and in the same order the "
                f"model is {chance.text} Give the data that it was made for, or use the same "
                "class names in both."
            )
        warnings = (f"Warning: on the validation images the model is {chance.text}",)
    return data.task.evidence(outputs, targets).value, warnings
