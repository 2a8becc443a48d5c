from __future__ import annotations

import pytest

from compress.gate.naming import compare_classes
from compress.gate.verdict import Outcome

PETS = ("cat", "dog", "pickup truck")


@pytest.mark.parametrize(
    ("ours", "outcome", "says"),
    [
        (PETS, Outcome.PASS, "the same 3 names in the same order"),
        (("Cat", "DOG", "pickup_truck"), Outcome.PASS, "the same 3 names"),
        (("cat", "hound", "pickup truck"), Outcome.PASS, "some with other names"),
        (("cat", "pickup truck", "dog"), Outcome.FAIL, "output 1 is 'pickup truck', but 'dog' in"),
        (("Cat", "pickup truck", "dog"), Outcome.FAIL, "output 1 is 'pickup truck', but 'dog' in"),
        (("hound", "cat", "pickup truck"), Outcome.FAIL, "output 0 is 'hound', but 'cat' in"),
    ],
)
def test_names_are_compared(ours: tuple[str, ...], outcome: Outcome, says: str) -> None:
    found = compare_classes(ours, PETS)
    assert found is not None
    assert found.outcome is outcome
    assert says in found.reason


@pytest.mark.parametrize("ours", [(), ("0", "1", "2")])
def test_without_names_there_is_nothing_to_compare(ours: tuple[str, ...]) -> None:
    assert compare_classes(ours, PETS) is None
    assert compare_classes(PETS, ours) is None
