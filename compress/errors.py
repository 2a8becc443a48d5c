"""Every error that a user can cause, and the exit code that it ends with.

    CompressError                    1
    +-- UsageError                   2   an option, a name or a value that cannot be used
    |   +-- UnknownName              2   a name that is not in a registry; the nearest is offered
    |   +-- RunFolderError           2   a run folder that holds something else
    +-- InputError                   2   a file that cannot be used
    |   +-- CheckpointError          2   not a checkpoint, damaged, or of no known architecture
    |   |   +-- UnsafeFile           2   a file that would have to execute something to be read
    |   +-- DataError                2   a data set that is missing, damaged or inconsistent
    |   +-- ModelFileError           2   an ONNX file (or another artefact) that cannot be loaded
    +-- TeacherError                 2   a teacher that is no better than chance
    +-- NoStudentFits                1   no candidate keeps the budget; names the nearest
    +-- ExportError                  1   a model that the exporter cannot translate
    +-- ParityError                  1   an exported file that is not the model
    +-- PrecisionLost                1   a reduced precision that overflows or loses too much
    +-- BudgetMissed                 1   the shipped file does not keep the budget
    +-- StudentRefused               1   no better than chance, or too far behind its teacher
    +-- TrainingDiverged             1   a loss became infinite
    +-- ProcessLost                  1   another process of the training is gone
    +-- EndedElsewhere               1   the first process of several says why; ends with its code
    +-- Inconclusive                 3   measured, but not decided: an interval holds the limit
    +-- NothingMeasured              4   no measurement could be made

A message says what was wrong, the value found, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What the command line ends with; ``EXIT_CODES`` says what each means."""

    DONE = 0
    FAILS = 1
    USAGE = 2
    UNDECIDED = 3
    NOT_MEASURED = 4
    BUG = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


# The same for all commands: the help and the README print this table. 130, 141 and 143 are what a
# shell reports for SIGINT, SIGPIPE and SIGTERM; 70 is EX_SOFTWARE of sysexits.h.
EXIT_CODES = {
    ExitCode.DONE: "done, and everything that was required holds",
    ExitCode.FAILS: "a requirement does not hold: no network fits, the budget is missed, the file "
    "is not equal to the model, the student is no better than chance or loses more than is allowed",
    ExitCode.USAGE: "wrong usage, or a file that cannot be used",
    ExitCode.UNDECIDED: "measured, but undecided: a limit lies within an interval",
    ExitCode.NOT_MEASURED: "nothing could be measured",
    ExitCode.BUG: "a bug; `--debug` shows the traceback",
    ExitCode.INTERRUPTED: "stopped by SIGINT",
    ExitCode.BROKEN_PIPE: "what read the output is gone",
    ExitCode.TERMINATED: "stopped by SIGTERM",
}


def first_line(error: object) -> str:
    """What an exception says first; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class CompressError(Exception):
    """Base of the tree; ``exit_code`` is what the command line ends with."""

    exit_code: int = ExitCode.FAILS


class UsageError(CompressError):
    """An option, a name or a value that cannot be used."""

    exit_code = ExitCode.USAGE


class UnknownName(UsageError):
    """A name that is not in a registry.

    Args:
        kind: what the name should have been ("recipe", "model").
        name: what was given.
        known: the names that there are.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        import difflib  # here, because --help must not wait for it

        names = sorted(known)
        near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        super().__init__(f"There is no {kind} '{name}'.{hint} Known: {', '.join(names)}.")


class RunFolderError(UsageError):
    """A run folder that holds something else than what was asked for."""


class InputError(CompressError):
    """A file that cannot be used."""

    exit_code = ExitCode.USAGE


class CheckpointError(InputError):
    """Not a checkpoint, damaged, or of no known architecture."""


class UnsafeFile(CheckpointError):
    """A file that would have to execute something to be read."""


class DataError(InputError):
    """A data set that is missing, damaged or inconsistent."""


class ModelFileError(InputError):
    """An ONNX file (or another artefact) that cannot be loaded."""


class TeacherError(CompressError):
    """A teacher that is no better than chance on the data."""

    exit_code = ExitCode.USAGE


class NoStudentFits(CompressError):
    """No candidate keeps the budget; the message names the nearest."""


class ExportError(CompressError):
    """A model that the exporter cannot translate into the format asked for."""


class ParityError(CompressError):
    """An exported file that is not the same function as the model."""


class PrecisionLost(CompressError):
    """A file of reduced precision that overflows, or is less accurate than is allowed."""


class BudgetMissed(CompressError):
    """The file that was to ship does not keep the budget."""


class StudentRefused(CompressError):
    """A student that is no better than chance, or loses more accuracy than is allowed."""


class TrainingDiverged(CompressError):
    """A loss became infinite or not a number."""


class ProcessLost(CompressError):
    """Another process of the training has ended, or does not answer."""


class EndedElsewhere(CompressError):
    """The first process of several ended; it has said why, and this one adds nothing.

    Args:
        exit_code: that it ended with.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__("The first process has ended.")
        self.exit_code = exit_code


class Inconclusive(CompressError):
    """Measured, but not decided."""

    exit_code = ExitCode.UNDECIDED


class NothingMeasured(CompressError):
    """No measurement could be made."""

    exit_code = ExitCode.NOT_MEASURED
