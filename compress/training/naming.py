"""How accurate a model is whose names of the classes have to be believed."""

from __future__ import annotations

from collections.abc import Sequence

from compress.data.classes import names_differ
from compress.data.dataset import Dataset
from compress.errors import DataError
from compress.spec import Normalization
from compress.training.chance import Standing, compare_with_chance
from compress.training.evaluation import Predict, accuracy, logits_of


def believed_accuracy(
    name: str,
    predict: Predict,
    data: Dataset,
    normalization: Normalization,
    classes: Sequence[str],
) -> tuple[float, tuple[str, ...]]:
    """Accuracy on the validation images, and a warning where it is no better than chance.

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
    labels = data.validation.labels
    logits = logits_of(predict, data.validation.images, normalization)
    chance = compare_with_chance(logits, labels)
    warnings: tuple[str, ...] = ()
    if chance.standing is Standing.NO_BETTER:
        if names_differ(classes, data.class_names):
            raise DataError(
                f"{name} and {data.name} have different class names, and in the same order the "
                f"model is {chance.text} Give the data that it was made for, or use the same "
                "class names in both."
            )
        warnings = (f"Warning: on the validation images the model is {chance.text}",)
    return accuracy(logits, labels), warnings
