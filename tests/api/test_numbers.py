from __future__ import annotations

import pytest

from compress.api.numbers import fault_of


@pytest.mark.parametrize(
    ("value", "kind", "refused"),
    [(8, int, False), (0, int, True), ([1, 0], list[int], True), ("1,8", str, False)],
)
def test_limits_are_of_numbers(value: object, kind: object, refused: bool) -> None:
    assert bool(fault_of("batch", value, kind)) == refused
