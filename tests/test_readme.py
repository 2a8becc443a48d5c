"""The README's commands are ones that the program takes."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from compress.cli import COMMANDS, group, load_command, read_config

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


LINES = [
    line.split("#")[0].strip()
    for block in blocks("sh")
    for line in block.splitlines()
    if line.startswith("compress ")
]


def parse(command: click.Command, arguments: list[str]) -> list[str]:
    """What is left of the arguments; an unknown option raises."""
    context = click.Context(command, allow_interspersed_args=not isinstance(command, click.Group))
    _, rest, _ = command.make_parser(context).parse_args(list(arguments))
    return list(rest)


@pytest.mark.parametrize("line", LINES)
def test_a_command_is_one_that_the_program_takes(line: str) -> None:
    rest = parse(group, shlex.split(line)[1:])
    if rest:
        assert rest[0] in COMMANDS
        parse(load_command(rest[0]), rest[1:])


def test_every_subcommand_is_shown() -> None:
    assert {name for name in COMMANDS if any(f"compress {name} " in line for line in LINES)} == set(
        COMMANDS
    )


def test_the_configuration_is_one_that_can_be_read(tmp_path: Path) -> None:
    (block,) = blocks("toml")
    (tmp_path / "compress.toml").write_text(block)
    read = read_config(tmp_path / "compress.toml")
    assert {key.replace("-", "_") for key in tomllib.loads(block)["distill"]} == set(
        read["distill"]
    )


def test_the_exit_codes_are_all_told() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    assert told == {0, 1, 2, 3, 4, 70}
