"""compress.streams: what is printed commands neither a terminal nor GitHub's runner."""

from __future__ import annotations

import json
import sys

import click
import pytest
from rich.console import Console

from compress.streams import dependable_streams, escaped, write_commands

NAME = "conv1\n::stop-commands::token"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, 2\u00b5s\ttab\n", "plain text, 2\u00b5s\ttab\n"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("up\x1b[3A", r"up\u001b[3A"),
        ("\x1b]0;title\x07", r"\u001b]0;title\u0007"),
        ("pass\rFAIL", r"pass\u000dFAIL"),
        ("abc\u202edef", r"abc\u202edef"),
        ("one\u2028two", r"one\u2028two"),
        ("caf\udce9", r"caf\udce9"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert escaped(text) == shown


@pytest.mark.parametrize("err", [False, True])
def test_no_line_is_a_command(capsys: pytest.CaptureFixture[str], err: bool) -> None:
    with dependable_streams():
        click.echo(f"error: no layer {NAME}", err=err)
        click.echo("  ", err=err, nl=False)
        click.echo("::set-env name=A::1", err=err)
        Console(stderr=err, width=200).print(f"[bold]table[/bold] \n  {NAME}", markup=True)
        click.echo("see ##[add-matcher]x", err=err)
    said = "".join(capsys.readouterr())
    assert "::stop-commands" in said
    assert not [line for line in said.splitlines() if line.lstrip().startswith("::")]
    assert "##[" not in said


def test_a_command_that_is_meant_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    with dependable_streams():
        write_commands(["::error title=x::y"])
    assert capsys.readouterr().err == "::error title=x::y\n"


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": NAME, "other": "##[x] \x1b[2J \x7f \x9b \u2028"}
    with dependable_streams():
        click.echo(json.dumps(value, ensure_ascii=False))
    assert json.loads(capsys.readouterr().out) == value


def test_the_streams_are_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdin, sys.stdout, sys.stderr
    with dependable_streams():
        assert sys.stdout is not before[1]
    assert (sys.stdin, sys.stdout, sys.stderr) == before
