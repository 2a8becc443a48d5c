"""What commands read, looked at before anything is done with it, the cheap things first.

1. Names and numbers: click reads them, and the command refuses those that cannot be.
2. Files: each has to be there, a regular file, and one that can be opened (``input_file``). This
   costs nothing, so it comes as soon as the command line is read.
3. What is quickly read: whether models are models, and whether --data is anything that is known
   or there (``check_models``, ``check_data``; ``load_data`` of ``compress.commands.options`` calls
   both).
4. Data sets, which may have to be downloaded or decoded.
5. Trainings, which alone leave a run folder.

Imports click alone, so that --help stays fast.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def input_file() -> dict[str, Any]:
    """What makes an argument or an option of click one that names a file to be read.

    It may name several. Where it names none, nothing is looked at.
    """
    return {"type": click.Path(path_type=Path), "callback": _look_at}


def _look_at(ctx: click.Context, _: click.Parameter, value: Any) -> Any:
    """Gives the value back, if every file that it names is there and can be opened."""
    if not ctx.resilient_parsing:
        check_files(*(value if isinstance(value, tuple | list) else [value]))
    return value


def check_files(*paths: Path | None) -> None:
    """Refuses what is no file that can be opened, in the order given; nothing is read.

    Raises:
        InputError: there is none, it is something else, or it may not be read.
    """
    from compress.errors import InputError
    from compress.files import printable, regular_file

    for path in paths:
        if path is None:
            continue
        try:
            with regular_file(path).open("rb"):
                pass
        except OSError as error:
            raise InputError(
                f"Cannot read {printable(path)}: {error.strerror or error}."
            ) from error


def check_models(*paths: Path | None) -> None:
    """Refuses what is neither an ONNX file nor a checkpoint, whatever its name is.

    Raises:
        ModelFileError, CheckpointError: one is not, is damaged or would have to execute something.
    """
    from compress.exporting.artifact import read_artifact
    from compress.models.checkpoint import read_tensors
    from compress.onnx_file import is_onnx

    for path in filter(None, paths):
        read: Callable[[Path], object] = read_artifact if is_onnx(path) else read_tensors
        read(path)


def check_data(*names: str | None) -> None:
    """Refuses data sets that are neither known nor there; nothing is downloaded or decoded.

    Raises:
        DataError: there is no such data set, file or folder.
    """
    from compress.data.dataset import EMBEDDED, unknown_data
    from compress.data.sources import TORCHVISION_NAMES
    from compress.errors import DataError
    from compress.files import printable

    for name in names:
        if name is None or name in (EMBEDDED, *TORCHVISION_NAMES) or Path(name).is_dir():
            continue
        if not Path(name).exists():
            if Path(name).suffix.lower() == ".npz":
                raise DataError(f"There is no data file {printable(name)}.")
            raise unknown_data(name)
        check_files(Path(name))
