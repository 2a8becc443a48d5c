from __future__ import annotations

import pytest

from compress.data.classes import class_mapping
from compress.errors import UsageError


def test_another_order_is_mapped_by_name() -> None:
    assert class_mapping(("cat", "dog", "ship"), ("ship", "cat", "dog")) == (2, 0, 1)


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ((), ("cat", "dog")),
        (("cat", "dog"), ()),
        (("cat", "dog"), ("0", "1")),
        (("0", "1"), ("cat", "dog")),
        (("cat", "dog"), ("cat", "dog")),
        (("cat", "cat"), ("cat", "cat")),
        (("cat", "dog"), ("cat", "dog", "ship")),
    ],
)
def test_there_may_be_nothing_to_map(model: tuple[str, ...], data: tuple[str, ...]) -> None:
    assert class_mapping(model, data) is None


def test_other_names_are_refused() -> None:
    with pytest.raises(UsageError, match="the data has 'plane', the model 'ship' in their place"):
        class_mapping(("cat", "ship"), ("plane", "cat"))
    with pytest.raises(UsageError, match="there twice"):
        class_mapping(("crane", "crane", "cat"), ("cat", "crane", "crane"))
