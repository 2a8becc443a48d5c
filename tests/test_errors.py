"""compress.errors: the tree, its exit codes, the nearest name."""

import inspect
import re

import pytest

from compress import errors
from compress.errors import CompressError, UnknownName


def tree() -> dict[str, int]:
    """Error -> exit code, as drawn at the top of the module."""
    drawn = re.findall(r"^[ |+-]*(\w+) +(\d)\b", inspect.getdoc(errors) or "", re.MULTILINE)
    return {name: int(code) for name, code in drawn}


def test_the_drawn_tree_is_the_tree_there_is() -> None:
    there = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, CompressError)
    }
    assert tree() == there


def test_no_error_ends_with_success() -> None:
    assert set(tree().values()) == {1, 2, 3, 4}


@pytest.mark.parametrize(("name", "hint"), [("kdd", "Did you mean 'kd'?"), ("zzz", "'zzz'. Known")])
def test_an_unknown_name_offers_the_nearest_if_one_is_near(name: str, hint: str) -> None:
    error = UnknownName("recipe", name, ["supervised", "kd", "logit-gan"])
    assert hint in str(error)
    assert str(error).endswith("Known: kd, logit-gan, supervised.")
    assert error.exit_code == 2
