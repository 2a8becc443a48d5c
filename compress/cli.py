"""The command group: subcommands loaded when they run, errors turned into messages and exit codes.

Nothing here, and nothing at the top of a module in ``compress.commands``, imports torch, numpy or
onnxruntime, so that ``--help`` answers at once.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from compress import __version__
from compress.errors import CompressError, EndedElsewhere, UnknownName, UsageError

# Subcommand -> its line in `compress --help`. Each is the object `command` of the module
# compress.commands.NAME.
COMMANDS = {
    "distill": "Teacher and budget in, a student.onnx that keeps the budget out.",
    "select": "Time candidates here and choose the best that keeps a budget.",
    "profile": "Measure what a model costs on this machine, with uncertainty.",
    "check": "Judge a candidate beside a baseline, for continuous integration.",
    "baseline": "Write or show the baseline that check compares with.",
    "evaluate": "Score a checkpoint or an ONNX file on a data set.",
    "export": "Turn a checkpoint into a verified ONNX file.",
    "train": "Train a network from labels alone.",
    "reproduce": "Make a table or figure of a paper again, beside its own figures.",
    "recipes": "List the methods that distill has, their papers and options.",
    "runs": "List and remove what own runs have shown, which choices rest on.",
    "help": "Print the help of a command.",
    "version": "Print the version.",
}

# Those that go on where they were when they are run again.
GO_ON = ("distill", "train", "reproduce")

# 130, 141 and 143 are what a shell reports for SIGINT, SIGPIPE and SIGTERM; 70 is EX_SOFTWARE of
# sysexits.h.
EXIT_USAGE = 2
EXIT_BUG = 70
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_TERMINATED = 143

DEBUG_VARIABLE = "COMPRESS_DEBUG"


def load_command(name: str) -> click.Command:
    """The click command of a subcommand in ``COMMANDS``."""
    command: click.Command = importlib.import_module(f"compress.commands.{name}").command
    return command


class LazyGroup(click.Group):
    """A group that knows its subcommands' names and imports only the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the subcommand; None where there is none of that name."""
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but an unknown name is answered with the nearest.

        Raises:
            UnknownName: there is no such subcommand.
        """
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UnknownName("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 it does not hold (budget missed, file not equal to the model); "
    "2 usage or unusable input; 3 inconclusive; 4 nothing was measured.",
)
@click.version_option(__version__, "-V", "--version", prog_name="compress")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file of defaults: a table a subcommand, its options as keys.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
@click.pass_context
def group(ctx: click.Context, config: Path | None, debug: bool) -> None:  # noqa: ARG001
    """Make a trained image classifier small and fast enough, and prove that it is."""
    if config is not None:
        ctx.default_map = read_config(config)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and gives its exit code; nothing is raised.

    Args:
        arguments: what follows the program's name; None means ``sys.argv``.
    """
    if "_COMPRESS_COMPLETE" in os.environ:
        group.main(prog_name="compress")  # prints a shell's completion and exits
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Read before parsing, so that errors of parsing obey it too.
    debug = "--debug" in given or os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")
    context: click.Context | None = None
    try:
        with _sigterm_raises(), group.make_context("compress", given) as context:
            group.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return _flush() or stop.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _stopped("interrupted", context, EXIT_INTERRUPTED)
    except _Terminated:
        return _stopped("terminated", context, EXIT_TERMINATED)
    except BrokenPipeError:
        return _give_up_output()
    except EndedElsewhere as end:
        return end.exit_code
    except CompressError as error:
        return _report(str(error), error.exit_code, debug)
    except OSError as error:
        # A full disk, a folder without permission: the user's to mend, and named in the message.
        where = f"{error.filename}: " if error.filename else ""
        return _report(f"{where}{error.strerror or error}", EXIT_USAGE, debug)
    except Exception as error:  # noqa: BLE001 - the last resort; it is told, and never exit 0
        hint = "" if debug else " Run `compress --debug ...` for the traceback and report it."
        message = f"this is a bug in compress: {type(error).__name__}: {error}.{hint}"
        return _report(message, EXIT_BUG, debug)
    return 0


class _Terminated(BaseException):
    """SIGTERM came; a counterpart of KeyboardInterrupt."""


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM unwinds like SIGINT, so that nothing is left half-written."""

    def terminate(*_: object) -> None:
        raise _Terminated

    # Handlers are the main thread's affair; one that somebody has installed stays.
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _stopped(how: str, context: click.Context | None, exit_code: int) -> int:
    goes_on = context is not None and context.invoked_subcommand in GO_ON
    if _speaks():
        click.echo(f"{how}{'; run the same command again to go on' if goes_on else ''}", err=True)
    return exit_code


def _speaks() -> bool:
    """Whether this is the first of the processes that a launcher started, or alone."""
    return os.environ.get("RANK", "0") == "0"


def _report(message: str, exit_code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    who = "" if _speaks() else f"process {os.environ['RANK']}: "
    click.echo(f"{who}{click.style('error:', fg='red')} {message}", err=True)
    return exit_code


def _flush() -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _give_up_output()
    return 0


def _give_up_output() -> int:
    """Points stdout nowhere, so that closing it at exit does not complain a second time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_BROKEN_PIPE


# --- --config ------------------------------------------------------------------------------------


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """Defaults of the subcommands' options: {subcommand: {parameter: value}}.

    Every table is checked, also those of subcommands that do not run now.

    Raises:
        UsageError: the file is not TOML, or has tables, keys or values that no option takes; all
            of them are named.
    """
    import tomllib

    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise UsageError(f"{path} is not a TOML file: {error}.") from error
    faults: list[str] = []
    defaults: dict[str, dict[str, Any]] = {}
    for table, values in tables.items():
        if table not in COMMANDS:
            faults.append(f"[{table}] is no subcommand{_nearest(table, COMMANDS)}")
        elif not isinstance(values, dict):
            faults.append(f"{table} is not a table; write [{table}] and its options below")
        else:
            command = load_command(table)
            defaults[table] = dict(_checked_options(command, table, values, faults))
    if faults:
        raise UsageError(f"{path} cannot be used: {'; '.join(faults)}.")
    return defaults


def _checked_options(
    command: click.Command, table: str, values: dict[str, Any], faults: list[str]
) -> Iterator[tuple[str, Any]]:
    """(parameter, value) of each key that is right; of the others ``faults`` gets the reason.

    The keys of a group are its subcommands, each a table of its own.
    """
    context = click.Context(command, info_name=table)
    if isinstance(command, click.Group):
        for key, inner in values.items():
            below = command.get_command(context, key)
            if below is None:
                faults.append(
                    f"[{table}.{key}] is no subcommand{_nearest(key, list(command.commands))}"
                )
            elif not isinstance(inner, dict):
                faults.append(f"{table}.{key} is not a table; write [{table}.{key}]")
            else:
                yield key, dict(_checked_options(below, f"{table}.{key}", inner, faults))
        return
    options = {
        flag.lstrip("-"): parameter
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for flag in parameter.opts
        if flag.startswith("--")
    }
    seen: set[str] = set()
    for key, value in values.items():
        option = options.get(key.replace("_", "-"))
        if option is None or option.name is None:
            faults.append(f"[{table}] has no option {key}{_nearest(key, options)}")
            continue
        if option.name in seen:
            faults.append(f"[{table}] gives {key} twice")
        seen.add(option.name)
        if option.multiple and not isinstance(value, list):
            value = [value]  # one of what can be repeated
        expected = _expected_type(option, value)
        if expected:
            faults.append(f"[{table}] {key} is {value!r}, it must be {expected}")
            continue
        try:
            option.type_cast_value(context, value)
        except click.BadParameter as error:
            faults.append(f"[{table}] {key} is {value!r}: {error.message.rstrip('.')}")
            continue
        yield option.name, value


def _expected_type(option: click.Option, value: Any) -> str:
    """What the value should have been, or nothing where its type is right."""
    if option.multiple or option.nargs != 1:
        if not isinstance(value, list):
            return "a list"
        return next(filter(None, (_expected_scalar(option, item) for item in value)), "")
    return _expected_scalar(option, value)


def _expected_scalar(option: click.Option, value: Any) -> str:
    if option.is_flag or isinstance(option.type, click.types.BoolParamType):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(option.type, click.types.IntParamType):
        return "" if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    if isinstance(option.type, click.types.FloatParamType):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return "" if number else "a number"
    return "" if isinstance(value, str) else "a string"


def _nearest(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    import difflib  # here, because --help needs it never

    near = difflib.get_close_matches(name.lower().replace("_", "-"), list(known), n=1, cutoff=0.5)
    if near:
        return f" (did you mean {near[0]}?)"
    return f" (there are {', '.join(known)})"
