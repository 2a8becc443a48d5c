"""Whether a model and a data set mean the same class by the same number.

Both may name their classes, and then the names decide, however they are ordered: a model's outputs
are put into the data's order before anything is scored, taught or written (``class_mapping``).
Names are compared forgivingly: case, spaces, underscores and hyphens do not count.

Names that are not the same set say two different things. Where one that both have stands at
different places, the order is another and the rest of it is not known: that is refused. Where all
that both have stand at the same places ('plane' for 'airplane', or no name in common), the
order is taken to be the same and ``class_note`` says so; whether the model is better than chance
then has to show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compress.data.dataset import Dataset, Split
from compress.errors import DataError

# In a message: more names than these say nothing more.
NAMES_SHOWN = 3


def class_mapping(
    model_classes: Sequence[str], data_classes: Sequence[str]
) -> tuple[int, ...] | None:
    """Which output of a model is which class of a data set, by their names.

    Args:
        model_classes: names in the order of the model's outputs; empty where it names none.
        data_classes: names in the order of the labels; numbers where the data set names none.

    Returns:
        p with class i of the data being output p[i] of the model, so that ``logits[:, p]`` are in
        the data's order. None where they are in it already, or where nothing says that they are
        not: a side names nothing, or not the same number of classes, or differs in names alone.

    Raises:
        DataError: some names are the same at different places, and others differ.
    """
    pair = _comparable(model_classes, data_classes)
    if pair is None or pair[0] == pair[1]:
        return None
    model, data = pair
    place = {name: index for index, name in enumerate(model)}
    if place.keys() == set(data):
        return tuple(place[name] for name in data)
    moved = [i for i, name in enumerate(data) if name in place and place[name] != i]
    if not moved:
        return None
    first = moved[0]
    raise DataError(
        f"The model's classes are in another order than the data's ('{data_classes[first]}' is "
        f"class {place[data[first]]} of the model and class {first} of the data), and some names "
        f"differ: {_differing(model_classes, data_classes)}. Give the data that the model was "
        "made for, or use the same class names in both."
    )


def class_note(model_classes: Sequence[str], data_classes: Sequence[str]) -> str | None:
    """What there is to be told of the names, a sentence; None where there is nothing.

    Raises:
        DataError: as ``class_mapping`` does.
    """
    if class_mapping(model_classes, data_classes) is not None:
        return "The model's classes are in another order than the data's; they are matched by name."
    pair = _comparable(model_classes, data_classes)
    if pair is None or pair[0] == pair[1]:
        return None
    return (
        "Warning: the model and the data have different class names "
        f"({_differing(model_classes, data_classes)}); the classes are assumed to be in the same "
        "order."
    )


def renumbered(data: Dataset, model_classes: Sequence[str]) -> Dataset:
    """The data set with its targets as a model numbers its classes, where both name them.

    For a model that has to stay as it is: what is written beside it keeps its own names.

    Raises:
        DataError: as ``class_mapping`` does.
    """
    order = class_mapping(model_classes, data.task.classes)
    if order is None:
        return data

    def moved(split: Split) -> Split:
        return replace(split, targets=data.task.renumbered(split.targets, order))

    return replace(
        data,
        train=moved(data.train),
        validation=moved(data.validation),
        test=moved(data.test),
        task=data.task.with_classes(model_classes),
    )


def names_differ(model_classes: Sequence[str], data_classes: Sequence[str]) -> bool:
    """Whether both sides name their classes, and not by the same set of names."""
    pair = _comparable(model_classes, data_classes)
    return pair is not None and set(pair[0]) != set(pair[1])


def named(classes: Sequence[str]) -> bool:
    """Whether these are names, and not just the numbers of the classes."""
    return bool(classes) and list(classes) != [str(index) for index in range(len(classes))]


def _comparable(
    model_classes: Sequence[str], data_classes: Sequence[str]
) -> tuple[list[str], list[str]] | None:
    """Both sides' names in the form in which they are compared; None where they cannot be."""
    if len(model_classes) != len(data_classes):
        return None
    if not (named(model_classes) and named(data_classes)):
        return None
    for form in (_plain, str):
        pair = [form(name) for name in model_classes], [form(name) for name in data_classes]
        if all(len(set(names)) == len(names) for names in pair):
            return pair
    return None  # a name that stands for two classes says nothing


def _plain(name: str) -> str:
    """'Pickup_Truck ' -> 'pickuptruck'."""
    return "".join(each for each in name.casefold() if not (each.isspace() or each in "_-"))


def _differing(model_classes: Sequence[str], data_classes: Sequence[str]) -> str:
    """The names that only one side has."""
    sides = []
    for who, own, others in (
        ("the model", model_classes, data_classes),
        ("the data", data_classes, model_classes),
    ):
        theirs = set(map(_plain, others))
        alone = [name for name in own if _plain(name) not in theirs]
        shown = ", ".join(f"'{name}'" for name in alone[:NAMES_SHOWN])
        more = len(alone) - NAMES_SHOWN
        sides.append(f"only {who} has {shown}" + (f" and {more} more" if more > 0 else ""))
    return ", ".join(sides)
