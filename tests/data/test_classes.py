"""Matching a model's classes to a data set's by name."""

import pytest

from compress.data.classes import class_mapping, class_note, named, names_differ
from compress.errors import DataError

PETS = ("cat", "dog", "pickup truck")


def test_the_same_names_in_another_order_give_the_permutation() -> None:
    """logits[:, p] are in the data's order, so that p[i] is where the model has class i."""
    assert class_mapping(("dog", "pickup truck", "cat"), PETS) == (2, 0, 1)
    assert "matched by name" in (class_note(("dog", "pickup truck", "cat"), PETS) or "")


def test_case_spaces_underscores_and_hyphens_do_not_count() -> None:
    assert class_mapping(("Pickup_Truck", "DOG", "cat "), PETS) == (2, 1, 0)
    assert class_mapping(("Cat", "dog", "pickup-truck"), PETS) is None
    assert class_note(("Cat", "dog", "pickup-truck"), PETS) is None


@pytest.mark.parametrize(
    "classes", [(), ("0", "1", "2"), ("cat", "dog"), ("cat", "cat", "pickup truck")]
)
def test_what_names_nothing_maps_nothing(classes: tuple[str, ...]) -> None:
    for model, data in ((classes, PETS), (PETS, classes)):
        assert class_mapping(model, data) is None
        assert class_note(model, data) is None
        assert not names_differ(model, data)


def test_names_that_differ_only_in_capitals_are_two_classes() -> None:
    assert class_mapping(("a", "A", "b"), ("A", "a", "b")) == (1, 0, 2)


def test_other_names_at_the_same_places_are_taken_as_they_are_and_told() -> None:
    model = ("cat", "hound", "pickup truck")
    assert class_mapping(model, PETS) is None
    assert names_differ(model, PETS)
    note = class_note(model, PETS) or ""
    assert "only the model has 'hound', only the data has 'dog'" in note
    assert "assumed to be in the same order" in note


def test_another_order_that_names_cannot_undo_is_refused() -> None:
    with pytest.raises(DataError, match=r"'cat' is class 1 of the model and class 0 of the data"):
        class_mapping(("hound", "cat", "pickup truck"), PETS)


def test_numbers_are_no_names() -> None:
    assert not named(())
    assert not named(("0", "1"))
    assert named(("1", "0"))
