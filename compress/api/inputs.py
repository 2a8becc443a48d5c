"""What a call is given, looked at before anything is done with it, the cheap things first.

1. Files: each has to be there, a regular file, and one that can be opened (``check_files``).
2. Names and numbers.
3. What is quickly read: whether models are models, and whether ``data`` is anything that is known
   or there (``check_models``, ``check_data``; ``read_data`` calls both).
4. Data sets, which may have to be downloaded or decoded.
5. Trainings, which alone leave a run folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compress import defaults

if TYPE_CHECKING:
    from compress.data.dataset import Dataset
    from compress.spec import Normalization

FilePath = str | os.PathLike[str]
Say = Callable[[str], None]
# Channels, height and width.
Shape = tuple[int, int, int]


def silent(_: str) -> None:
    """The default of ``say``: nobody is told."""


def path_of(given: FilePath | None) -> Path | None:
    """A path, where one is given."""
    return None if given is None else Path(given)


def paths_of(given: FilePath | Sequence[FilePath] | None) -> tuple[Path, ...]:
    """One path, several or none."""
    if given is None:
        return ()
    if isinstance(given, str | os.PathLike):
        return (Path(given),)
    return tuple(map(Path, given))


def check_files(*paths: FilePath | None) -> None:
    """Refuses what is no file that can be opened, in the order given; nothing is read.

    Raises:
        InputError: there is none, it is something else, or it may not be read.
    """
    from compress.errors import InputError
    from compress.files import printable, regular_file

    for path in map(path_of, paths):
        if path is None:
            continue
        try:
            with regular_file(path).open("rb"):
                pass
        except OSError as error:
            raise InputError(
                f"Cannot read {printable(path)}: {error.strerror or error}."
            ) from error


def check_models(*paths: FilePath | None) -> None:
    """Refuses what is neither an ONNX file nor a checkpoint, whatever its name is.

    Raises:
        ModelFileError, CheckpointError: one is not, is damaged or would have to execute something.
    """
    from compress.exporting.artifact import read_artifact
    from compress.models.checkpoint import read_tensors
    from compress.onnx_file import is_onnx

    for path in map(path_of, paths):
        if path is not None:
            read: Callable[[Path], object] = read_artifact if is_onnx(path) else read_tensors
            read(path)


def check_data(*names: FilePath | None) -> None:
    """Refuses data sets that are neither known nor there; nothing is downloaded or decoded.

    Raises:
        DataError: there is no such data set, file or folder.
    """
    from compress.data.dataset import unknown_data
    from compress.data.sources import TORCHVISION_NAMES
    from compress.errors import DataError
    from compress.files import printable

    for name in names:
        if name is None or name in (defaults.DATA, *TORCHVISION_NAMES) or Path(name).is_dir():
            continue
        if not Path(name).exists():
            if Path(name).suffix.lower() == ".npz":
                raise DataError(f"There is no data file {printable(Path(name))}.")
            raise unknown_data(str(name))
        check_files(name)


def read_data(
    data: FilePath,
    *,
    data_dir: FilePath | None,
    image_size: int | None,
    seed: int,
    say: Say,
    models: Sequence[FilePath | None] = (),
    validation: int | None = None,
    limit_train: int | None = None,
    flip: bool | None = None,
) -> Dataset:
    """Reads a data set, once it and the models are known to be some.

    Args:
        data: see ``compress.distill``.
        data_dir: see ``compress.distill``.
        image_size: see ``compress.distill``.
        validation: see ``compress.distill``.
        limit_train: see ``compress.distill``.
        flip: see ``compress.distill``.
        seed: of the split.
        say: is told what takes long.
        models: the files that the data is for, which are looked at first.

    Raises:
        InputError: one of them cannot be used.
    """
    from compress.data.dataset import load_dataset

    check_data(data)
    check_models(*models)
    return load_dataset(
        str(data),
        root=path_of(data_dir),
        seed=seed,
        validation=validation,
        limit_train=limit_train,
        flip=flip,
        image_size=image_size,
        say=say,
    )


def tell_whether_saved(out: Path, say: Say) -> None:
    """What ``resume`` adds: tells where there is nothing to go on with."""
    if not any((out / name).exists() for name in ("last.ckpt", "previous.ckpt", "result.json")):
        say(f"Nothing is saved in {out} yet, so training starts at the beginning.")


def refuse_without_data(**values: object) -> None:
    """Refuses arguments that say something of the data where there is none.

    Args:
        values: of those arguments, by name; None where they are not given.

    Raises:
        UsageError: one is given.
    """
    from compress.errors import UsageError

    given = [f"--{name.replace('_', '-')}" for name, value in values.items() if value is not None]
    if given:
        verb = "needs" if len(given) == 1 else "need"
        raise UsageError(f"{' and '.join(given)} {verb} --data, which is not given.")


def normalization_of(given: str | None) -> Normalization | None:
    """A known name, or MEAN,MEAN,MEAN/STD,STD,STD.

    Raises:
        UsageError: it is neither.
    """
    from compress.data.normalization import resolve

    return resolve(given) if given else None
