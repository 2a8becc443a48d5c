"""compress.cli: subcommands, exit codes, messages, --config."""

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from compress import __version__, cli
from compress.errors import BudgetMissed, Inconclusive, NothingMeasured, UsageError

# Names that the fake subcommands' modules get.
FAKE = "distill"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Makes a function what the subcommand `distill` does; the group and main are the real ones."""

    def install(action: Callable[[], None]) -> None:
        @click.command(FAKE)
        @click.option("--budget-ms", type=float, default=1.0)
        @click.option("--epochs", type=click.IntRange(min=1), default=3)
        @click.option("--data")
        @click.option("--device", type=click.Choice(["auto", "cpu"]), default="auto")
        @click.option("--size", "sizes", type=int, multiple=True)
        @click.option("--flip/--no-flip", default=None)
        @click.argument("model", required=False)
        def command(
            budget_ms: float,
            epochs: int,
            data: str | None,
            device: str,
            sizes: tuple[int, ...],
            flip: bool | None,
            model: str | None,
        ) -> None:
            action()
            click.echo(f"{budget_ms} {epochs} {data} {device} {sizes} {flip} {model}")

        module = types.ModuleType(f"compress.commands.{FAKE}")
        module.command = command  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"compress.commands.{FAKE}", module)

    return install


def nothing() -> None:
    """A subcommand that does nothing."""


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def test_every_subcommand_is_there() -> None:
    for name, line in cli.COMMANDS.items():
        command = cli.load_command(name)
        assert isinstance(command, click.Command)
        assert line.endswith(".")
        assert command.help


def test_help_lists_the_subcommands_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    places = [out.index(f"\n  {name} ") for name in cli.COMMANDS]
    assert places == sorted(places)
    assert "Exit codes: 0" in out


@pytest.mark.parametrize("asked", ["--version", "-V", "version"])
def test_version(asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([asked]) == 0
    assert capsys.readouterr().out == f"compress, version {__version__}\n"


@pytest.mark.parametrize("words", [[], ["distill"], ["baseline", "update"]])
def test_help_is_a_command_too(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--help"]) == 0
    expected = capsys.readouterr().out
    assert cli.main(["help", *words]) == 0
    assert capsys.readouterr().out == expected


def test_help_of_nothing_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "distil"]) == 2
    assert "Did you mean 'distill'" in capsys.readouterr().err
    assert cli.main(["help", "distill", "more"]) == 2


def test_python_dash_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "compress", "distil"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Did you mean 'distill'?" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--nope"], ["select", "--nope"], ["nope"], ["--config", "none.toml", "select"]]
)
def test_wrong_use_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (BudgetMissed("too slow"), 1),
        (UsageError("too bad"), 2),
        (Inconclusive("too noisy"), 3),
        (NothingMeasured("too late"), 4),
        (click.exceptions.Exit(3), 3),
        (click.BadParameter("wrong"), 2),
        (FileNotFoundError(2, "No such file", "a.pt"), 2),
        (OSError(28, "No space left on device"), 2),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("division by zero"), 70),
        (MemoryError(), 70),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException,
    exit_code: int,
    fake: Callable[[Callable[[], None]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake(raising(error))
    assert cli.main([FAKE]) == exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err


def test_a_message_says_what_was_said(
    fake: Callable[[Callable[[], None]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fake(raising(UsageError("It is 5, it must be 6.")))
    cli.main([FAKE])
    assert capsys.readouterr().err == "error: It is 5, it must be 6.\n"
    fake(raising(OSError(28, "No space left on device", "runs/a")))
    cli.main([FAKE])
    assert capsys.readouterr().err == "error: runs/a: No space left on device\n"


def test_a_bug_is_called_one_and_shows_its_traceback_on_demand(
    fake: Callable[[Callable[[], None]], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake(raising(ZeroDivisionError("division by zero")))
    assert cli.main([FAKE]) == 70
    assert "a bug in compress: ZeroDivisionError: division by zero" in capsys.readouterr().err
    assert cli.main(["--debug", FAKE]) == 70
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("COMPRESS_DEBUG", "1")
    assert cli.main([FAKE]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_is_quiet() -> None:
    """As `compress --help | true`: stdout is closed before anything is written."""
    with subprocess.Popen(
        [sys.executable, "-m", "compress", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert errors == b""
    assert process.returncode == 141


# --- --config ------------------------------------------------------------------------------------


def write(folder: Path, text: str) -> str:
    path = folder / "compress.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_config_lies_between_defaults_and_the_command_line(
    tmp_path: Path,
    fake: Callable[[Callable[[], None]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake(nothing)
    config = write(
        tmp_path,
        '[distill]\nbudget-ms = 2\nepochs = 7\ndata = "cifar10"\nsize = [1, 2]\nflip = false\n',
    )
    assert cli.main(["--config", config, FAKE, "--epochs", "9"]) == 0
    assert capsys.readouterr().out == "2.0 9 cifar10 auto (1, 2) False None\n"
    assert cli.main([FAKE]) == 0
    assert capsys.readouterr().out == "1.0 3 None auto () None None\n"


def test_config_takes_one_of_what_can_be_repeated(
    tmp_path: Path,
    fake: Callable[[Callable[[], None]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake(nothing)
    assert cli.main(["--config", write(tmp_path, "[distill]\nsize = 3\n"), FAKE]) == 0
    assert "(3,)" in capsys.readouterr().out


def test_config_takes_underscores_too(
    tmp_path: Path,
    fake: Callable[[Callable[[], None]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake(nothing)
    assert cli.main(["--config", write(tmp_path, "[distill]\nbudget_ms = 0.5\n"), FAKE]) == 0
    assert capsys.readouterr().out.startswith("0.5 ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[distil]\n", "[distil] is not a subcommand (did you mean distill?)"),
        ("[xyz]\n", "[xyz] is not a subcommand (there are distill, "),
        ("epochs = 3\n", "[epochs] is not a subcommand"),
        ("distill = 3\n", "write [distill]"),
        ("[distill]\nepoch = 3\n", "[distill] has no option epoch (did you mean epochs?)"),
        ("[distill]\nmodel = 'a'\n", "has no option model"),
        ("[distill]\nhelp = true\n", "has no option help"),
        ("[distill]\nepochs = 3.5\n", "epochs is 3.5, it must be a whole number"),
        ("[distill]\nepochs = true\n", "epochs is True, it must be a whole number"),
        ("[distill]\nepochs = 0\n", "epochs is 0, it must be from 1 to 1000000"),
        ("[distill]\nbudget-ms = '2'\n", "budget-ms is '2', it must be a number"),
        ("[distill]\ndata = 3\n", "data is 3, it must be a string"),
        ("[distill]\ndata = {a = 1}\n", "it must be a string"),
        ("[distill]\nflip = 1\n", "flip is 1, it must be true or false"),
        ("[distill]\nsize = ['a']\n", "it must be a whole number"),
        ("[distill]\ndevice = 'tpu'\n", "device is 'tpu': 'tpu' is not one of"),
        ("[distill]\nbudget-ms = 2\nbudget_ms = 3\n", "gives budget_ms twice"),
        ("[distill]\nbudget-ms = nan\n", "[distill] budget-ms is nan, it must be a finite number"),
        ("[distill]\nbudget-ms = 1e999\n", "budget-ms is inf, it must be a finite number"),
        ("[distill]\nepochs = 1000000000000\n", "it must be from 1 to 1000000"),
        ("[distill]\nepochs = 99999999999999999999\n", "epochs is a number beyond 64 bits"),
        ("[distill]\nepochs = 0x" + "f" * 90_000 + "\n", "epochs is a number beyond 64 bits"),
        ("a = " + "[" * 100_000 + "\n", "is nested more than 64 deep"),
        ("a" + ".a" * 400_000 + " = 1\n", "a key has more than 64 parts"),
        ("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("[distill\n", "is not a TOML file"),
        ("[distill]\nepochs = 1\nepochs = 2\n", "is not a TOML file"),
    ],
)
def test_config_that_cannot_be_used(
    tmp_path: Path,
    text: str,
    words: str,
    fake: Callable[[Callable[[], None]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake(nothing)
    assert cli.main(["--config", write(tmp_path, text), FAKE]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err


def test_config_faults_are_told_at_once(
    tmp_path: Path,
    fake: Callable[[Callable[[], None]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake(nothing)
    config = write(tmp_path, "[distill]\nepoch = 3\nflip = 1\n[nothing]\n")
    assert cli.main(["--config", config, FAKE]) == 2
    message = capsys.readouterr().err
    for words in ("no option epoch", "flip is 1", "[nothing]"):
        assert words in message


def test_config_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    assert cli.main(["--config", str(tmp_path / "a.toml"), "select"]) == 2
    assert "is not a TOML file" in capsys.readouterr().err


def test_what_torch_compiles_is_kept_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    cli.load_command("recipes")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "torchinductor")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    cli.load_command("recipes")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "elsewhere"


@pytest.mark.parametrize(("kind", "words"), [("pipe", "a named pipe"), ("zero", "a character dev")])
def test_config_that_is_no_file(
    tmp_path: Path, kind: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "pipe" if kind == "pipe" else Path("/dev/zero")
    assert cli.main(["--config", str(path), "train"]) == 2
    assert words in capsys.readouterr().err
