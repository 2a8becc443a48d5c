"""The command group: subcommands loaded when they run, errors turned into messages and exit codes.

Nothing here, and nothing at the top of a module in ``compress.commands``, imports torch, numpy or
onnxruntime, so that ``--help`` answers at once.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from compress.environment import cache_folder
from compress.errors import (
    EXIT_CODES,
    CompressError,
    EndedElsewhere,
    ExitCode,
    UnknownName,
    UsageError,
)
from compress.signals import RecordedStops, Terminated
from compress.streams import NO_ROOM, STDOUT, dependable_streams, discard
from compress.version import __version__

# Subcommand -> its line in `compress --help`. Each is the object `command` of the module
# compress.commands.NAME.
COMMANDS = {
    "distill": "Turn a teacher and a budget into a student.onnx that keeps the budget.",
    "select": "Time candidates here and choose the best that keeps a budget.",
    "profile": "Measure what a model costs on this machine, with uncertainty.",
    "check": "Compare a model with a baseline, for continuous integration.",
    "baseline": "Write or show the baseline of check.",
    "evaluate": "Score a checkpoint or an ONNX file on a data set.",
    "export": "Turn a checkpoint or an ONNX file into a verified ONNX file or engine.",
    "train": "Train a network from labels alone.",
    "reproduce": "Reproduce a table of a paper beside its own figures.",
    "recipes": "List the methods of distill with their papers and options.",
    "runs": "List and remove the results of earlier runs, which choices use.",
    "help": "Print the help of a command.",
    "version": "Print the version.",
}

# Those that go on where they were when they are run again.
GO_ON = ("distill", "train", "reproduce")

DEBUG_VARIABLE = "COMPRESS_DEBUG"


def load_command(name: str) -> click.Command:
    """The click command of a subcommand in ``COMMANDS``."""
    # torch would keep what it compiles in the temporary folder, where nobody removes it.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "torchinductor"))
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
    epilog=f"Exit codes: {'; '.join(f'{code:d} {told}' for code, told in EXIT_CODES.items())}.",
)
@click.version_option(__version__, "-V", "--version", prog_name="compress")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file of defaults: one table per subcommand, with its options as keys.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
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
    stops = RecordedStops()
    with dependable_streams(), stops:
        context: list[click.Context] = []
        try:
            code = _run(given, context, debug)
        except (KeyboardInterrupt, click.Abort, Terminated):
            code = ExitCode.INTERRUPTED
        except BaseException:
            if stops.received is None:
                raise
            code = ExitCode.BUG
        # Libraries turn the exception of a signal into errors of their own, or drop it. What ends
        # a command after one is the signal, whatever else is said.
        if stops.received == signal.SIGTERM:
            return _stopped("terminated", context, ExitCode.TERMINATED)
        if stops.received == signal.SIGINT or code == ExitCode.INTERRUPTED:
            return _stopped("interrupted", context, ExitCode.INTERRUPTED)
        if isinstance(code, _Fault):
            return _report(code, debug)
        return code


@dataclass(frozen=True)
class _Fault:
    """An error that a command ended with, and its exit code; told unless a signal caused it."""

    message: str
    exit_code: int
    error: BaseException


def _run(given: Sequence[str], entered: list[click.Context], debug: bool) -> int | _Fault:
    """Runs a command; what it ended with.

    Args:
        given: the command line.
        entered: gets the context, once the command line was understood.
        debug: whether tracebacks are shown.
    """
    try:
        with group.make_context("compress", list(given)) as context:
            entered.append(context)
            group.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return _flush() or stop.exit_code
    except click.exceptions.Abort:
        raise
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        discard(STDOUT)
        return ExitCode.BROKEN_PIPE
    except EndedElsewhere as end:
        return end.exit_code
    except CompressError as error:
        return _Fault(str(error), error.exit_code, error)
    except OSError as error:
        return _unwritable(error)
    except Exception as error:  # noqa: BLE001 - the last resort; it is told, and never exit 0
        hint = "" if debug else " Run `compress --debug ...` for the traceback and report it."
        message = f"this is a bug in compress: {type(error).__name__}: {error}.{hint}"
        return _Fault(message, ExitCode.BUG, error)
    return 0


def _unwritable(error: OSError) -> _Fault:
    """A full disk, a folder without permission: the user's to mend, and named in the message."""
    if error.filename is None and error.errno in NO_ROOM:
        discard(STDOUT)  # or its flush at exit would fail once more
        said = f"cannot write to standard output: {error.strerror}."
        return _Fault(said, ExitCode.USAGE, error)
    where = f"{error.filename}: " if error.filename else ""
    return _Fault(f"{where}{error.strerror or error}", ExitCode.USAGE, error)


def _flush() -> int | _Fault:
    """Writes what stdout still holds; 0 where that went well."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard(STDOUT)
        return ExitCode.BROKEN_PIPE
    except OSError as error:
        return _unwritable(error)
    return 0


def _stopped(how: str, entered: Sequence[click.Context], exit_code: int) -> int:
    goes_on = bool(entered) and entered[0].invoked_subcommand in GO_ON
    if _speaks():
        click.echo(f"{how}{'; run the same command again to go on' if goes_on else ''}", err=True)
    return exit_code


def _speaks() -> bool:
    """Whether this is the first of the processes that a launcher started, or alone."""
    return os.environ.get("RANK", "0") == "0"


def _report(fault: _Fault, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(fault.error)
    who = "" if _speaks() else f"process {os.environ['RANK']}: "
    click.echo(f"{who}{click.style('error:', fg='red')} {fault.message}", err=True)
    return fault.exit_code


# --- --config ------------------------------------------------------------------------------------


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """Defaults of the subcommands' options: {subcommand: {parameter: value}}.

    Every table is checked, also those of subcommands that do not run now.

    Raises:
        UsageError: the file is not TOML, or has tables, keys or values that no option takes; all
            of them are named.
    """
    from compress.files import read_toml  # here, because --help must not wait for it

    tables = read_toml(path, error=UsageError)
    faults: list[str] = []
    defaults: dict[str, dict[str, Any]] = {}
    for table, values in tables.items():
        if table not in COMMANDS:
            faults.append(f"[{table}] is not a subcommand{_nearest(table, COMMANDS)}")
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
                    f"[{table}.{key}] is not a subcommand{_nearest(key, list(command.commands))}"
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
        if fault := _fault(option, value):
            faults.append(f"[{table}] {key} {fault}")
            continue
        try:
            option.type_cast_value(context, value)
        except click.BadParameter as error:
            faults.append(f"[{table}] {key} is {value!r}: {error.message.rstrip('.')}")
            continue
        yield option.name, value


def _fault(option: click.Option, value: Any) -> str:
    """What is wrong with the value that a key is given, or nothing: its type, its size."""
    from compress.api.numbers import fault_of  # here, because --help must not wait for it

    kind: Any = str
    if option.is_flag or isinstance(option.type, click.types.BoolParamType):
        kind = bool
    elif isinstance(option.type, click.types.IntParamType):
        kind = int
    elif isinstance(option.type, click.types.FloatParamType):
        kind = float
    several = option.multiple or option.nargs != 1
    return fault_of(option.name or "", value, list[kind] if several else kind)


def _nearest(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    import difflib  # here, because --help needs it never

    near = difflib.get_close_matches(name.lower().replace("_", "-"), list(known), n=1, cutoff=0.5)
    if near:
        return f" (did you mean {near[0]}?)"
    return f" (there are {', '.join(known)})"
