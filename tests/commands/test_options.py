from __future__ import annotations

import pytest

from compress.api.inputs import refuse_without_data
from compress.cli import load_command, main
from compress.commands.options import parse_shape
from compress.errors import UsageError

SOURCE = {"data", "data_dir", "image_size"}
OF_TRAINING = {"limit_train", "flip"}


@pytest.mark.parametrize(
    ("command", "used"),
    [
        ("train", SOURCE | {"validation"} | OF_TRAINING),
        ("distill", SOURCE | {"validation"} | OF_TRAINING),
        ("evaluate", SOURCE | {"validation"}),
        ("export", SOURCE | {"validation"}),
        ("select", SOURCE),
        ("profile", {"data"}),
    ],
)
def test_a_command_offers_the_data_options_that_it_uses(command: str, used: set[str]) -> None:
    offered = {parameter.name for parameter in load_command(command).params}
    assert offered & (SOURCE | {"validation"} | OF_TRAINING) == used


@pytest.mark.parametrize("text", ["3,32,48", "3x32x48", "3X32X48", " 3, 32, 48"])
def test_a_shape(text: str) -> None:
    assert parse_shape(text, "--shape") == (3, 32, 48)


@pytest.mark.parametrize("text", ["", "3,32", "3,32,32,1", "3,0,32", "3,-32,32", "a,b,c", "3;8;8"])
def test_what_is_no_shape(text: str) -> None:
    with pytest.raises(UsageError, match=r"--shape is '.*'; it takes channels, height and width"):
        parse_shape(text, "--shape")


def test_all_options_that_need_data_are_named() -> None:
    refuse_without_data(images=None, data_dir=None)
    with pytest.raises(UsageError, match="--images and --data-dir need --data"):
        refuse_without_data(images=0, data_dir="d", validation=None)


@pytest.mark.parametrize("command", ["evaluate", "profile", "check"])
def test_more_threads_than_any_machine_has_are_refused(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, __file__, "--threads", "1000000"]) == 2
    assert "1000000 is not in the range 1<=x<=4096" in capsys.readouterr().err
