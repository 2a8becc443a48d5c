"""Classes by their names: which output of a model is which class of a data set."""

from __future__ import annotations

from collections.abc import Sequence

from compress.errors import UsageError

SHOWN = 5


def class_mapping(
    model_classes: Sequence[str], data_classes: Sequence[str]
) -> tuple[int, ...] | None:
    """Where a model that names its classes has those of a data set.

    Args:
        model_classes: names in the order of the model's outputs; empty where it names none.
        data_classes: names in the order of the labels; numbers where the data names none.

    Returns:
        a permutation p: class i of the data is output p[i] of the model. None where there is
        nothing to map: one of them names no classes, they are not as many, or the order is the
        same.

    Raises:
        UsageError: they are as many and of other names, or names are there twice.
    """
    if not (_named(model_classes) and _named(data_classes)):
        return None
    if len(model_classes) != len(data_classes) or list(model_classes) == list(data_classes):
        return None
    missing = [name for name in data_classes if name not in model_classes]
    if missing:
        unknown = [name for name in model_classes if name not in data_classes]
        raise UsageError(
            f"The model and the data name other classes: the data has {_shown(missing)}, the model "
            f"{_shown(unknown)} in their place. Give the data that the model was made for, or "
            "write the names of the data into the model where they mean the same."
        )
    place = {name: output for output, name in enumerate(model_classes)}
    if len(place) != len(model_classes):
        raise UsageError(
            "The model and the data name their classes in another order, and some names are there "
            "twice, so that they cannot be told apart. Give each class a name of its own."
        )
    return tuple(place[name] for name in data_classes)


def _named(classes: Sequence[str]) -> bool:
    """Whether classes have names, and not their numbers alone."""
    return bool(classes) and any(name != str(number) for number, name in enumerate(classes))


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
