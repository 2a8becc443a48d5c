"""How a command ends: after signals, and with standard streams that are closed or full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from compress import cli
from compress.errors import ExportError

PROGRAM = f"{sys.executable} -m compress"

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Makes a function what the subcommand `distill` does."""

    def install(action: Callable[[], None]) -> None:
        module = types.ModuleType("compress.commands.distill")
        module.command = click.command("distill")(action)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "compress.commands.distill", module)

    return install


def swallowing(number: int) -> Callable[[], None]:
    """Makes of a signal what torch's exporter makes of one that comes while it imports."""

    def action() -> None:
        try:
            signal.raise_signal(number)
        except BaseException as error:
            raise ExportError("wrn-10-1 cannot be exported to ONNX.") from error

    return action


def dropping(number: int) -> Callable[[], None]:
    """Drops the exception of a signal, as a callback from C does, and goes on to the end."""

    def action() -> None:
        try:
            signal.raise_signal(number)
        except BaseException:  # noqa: BLE001
            click.echo("the end")

    return action


@pytest.mark.parametrize("action", [swallowing, dropping])
@pytest.mark.parametrize(
    ("number", "exit_code", "word"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_what_ends_after_a_signal_ends_as_that_signal(
    fake: Callable[[Callable[[], None]], None],
    capsys: pytest.CaptureFixture[str],
    action: Callable[[int], Callable[[], None]],
    number: int,
    exit_code: int,
    word: str,
) -> None:
    before = signal.getsignal(number)
    fake(action(number))
    assert cli.main(["distill"]) == exit_code
    said = capsys.readouterr().err
    assert said == f"{word}; run the same command again to go on\n"
    assert signal.getsignal(number) == before


def test_an_error_without_a_signal_stays_one(
    fake: Callable[[Callable[[], None]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def action() -> None:
        raise ExportError("cannot be exported")

    fake(action)
    assert cli.main(["distill"]) == 1
    assert "cannot be exported" in capsys.readouterr().err


def _shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )


@needs_full
def test_messages_that_find_no_room_do_not_end_a_command() -> None:
    code = (
        "from compress.commands.options import tell\n"
        "from compress.streams import dependable_streams\n"
        "with dependable_streams():\n"
        "    tell('x' * 100_000)\n"
        "    print('the end')\n"
    )
    done = _shell(f'{sys.executable} -c "{code}" 2>/dev/full')
    assert (done.returncode, done.stdout) == (0, "the end\n")


@needs_full
def test_an_error_that_finds_no_room_keeps_its_exit_code() -> None:
    assert _shell(f"{PROGRAM} nonsense 2>/dev/full").returncode == 2


@needs_full
@pytest.mark.parametrize("command", ["--version", "recipes --json"])
def test_an_answer_that_finds_no_room_is_an_error(command: str) -> None:
    done = _shell(f"{PROGRAM} {command} >/dev/full")
    assert done.returncode == 2
    assert done.stderr == "error: cannot write to standard output: No space left on device.\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("command", "exit_code"), [("recipes", 0), ("nonsense", 2)])
def test_closed_streams_change_no_exit_code(closed: str, command: str, exit_code: int) -> None:
    assert _shell(f"{PROGRAM} {command} {closed}").returncode == exit_code


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    code = (
        "from compress.streams import dependable_streams\n"
        "with dependable_streams():\n"
        f"    print(open({str(tmp_path / 'opened')!r}, 'w').fileno() > 2)\n"
    )
    found = tmp_path / "found"
    done = _shell(f'{sys.executable} -W ignore -c "{code}" 2>&- <&- >{found}')
    assert (done.returncode, found.read_text()) == (0, "True\n")
