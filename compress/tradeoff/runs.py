"""What the user's own runs have shown, kept for the next choice on the same data.

One JSON object a line in ``runs.jsonl`` of ``cache_folder()``; ``compress runs`` lists and removes
them. A run counts for a choice where the coming training is like it (``counts_for``): a trial of
one epoch says nothing of what an architecture is worth after two hundred.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from compress.environment import cache_folder
from compress.errors import InputError, UsageError
from compress.files import regular_file, write_text
from compress.models.registry import spec_of
from compress.schema import decode_or_none, parse_json
from compress.schema.rules import Check, Epochs, Number, Seed, Share, known
from compress.spec import PRECISIONS

FILE = "runs.jsonl"
# Some hundred thousand runs.
MAX_BYTES = 64 << 20
# A run counts for trainings of at least so much of its epochs, and of at most so many times them.
EPOCHS_FACTOR = 2
# As many training images, but for how many of them were held out for validation.
IMAGES_SLACK = 0.1


def _no_network(name: str) -> str:
    try:
        spec_of(name)
    except UsageError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class OwnRun:
    """The outcome of one training.

    Attributes:
        dataset_sha256: of the data it was trained on.
        name: the student's architecture, "wrn-10-4".
        recipe, epochs, train_images: how it was trained; runs that differ in these are never set
            off against each other.
        error: share of validation images it gets wrong, 0 to 1.
        images: how many validation images that share is of.
        seed: of the run.
        precision: of the file that was scored.
        schedule: of the learning rate; empty where it is not known.
        data: the data set's name.
        when: the run ended, in UTC.
        folder: of the run.
    """

    dataset_sha256: str
    name: Annotated[str, Check(_no_network)]
    recipe: str
    epochs: Epochs
    train_images: Number
    error: Share
    images: Number
    seed: Seed
    precision: Annotated[str, known(*PRECISIONS)] = "fp32"
    schedule: str = ""
    # What is told of a run, and makes no other one of it.
    data: str = field(default="", compare=False)
    when: str = field(default="", compare=False)
    folder: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """Eight characters that name the training, the same in every precision of its file."""
        told = asdict(self)
        for name in ("error", "images", "precision", "data", "when", "folder"):
            del told[name]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Plan:
    """The training that a student is chosen for; what is None is not compared.

    Attributes:
        recipe: what it is going to be trained with.
        epochs: for how long.
        schedule: of the learning rate.
        train_images: on how many images.
    """

    recipe: str = "supervised"
    epochs: int | None = None
    schedule: str | None = None
    train_images: int | None = None


def counts_for(run: OwnRun, plan: Plan) -> bool:
    """Whether a run on the same data is like a coming one, so that a choice may rest on it."""
    if plan.epochs is not None and not (
        run.epochs <= EPOCHS_FACTOR * plan.epochs and plan.epochs <= EPOCHS_FACTOR * run.epochs
    ):
        return False
    if plan.schedule is not None and run.schedule not in ("", plan.schedule):
        return False
    return plan.train_images is None or (
        abs(run.train_images - plan.train_images) <= IMAGES_SLACK * plan.train_images
    )


def record_run(run: OwnRun, *, folder: Path | None = None) -> None:
    """Adds a run to what is known; the same run again adds nothing.

    Raises:
        UsageError: the error is no share, or the folder cannot be written to.
    """
    if not (math.isfinite(run.error) and 0 <= run.error <= 1):
        raise UsageError(f"The error of a run is {run.error}, but must be between 0 and 1.")
    folder = folder or cache_folder()
    if run in load_runs(run.dataset_sha256, folder=folder):
        return
    line = json.dumps(asdict(run), sort_keys=True) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # One short write to a file opened for appending: two runs that end together both get in.
        with (folder / FILE).open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise UsageError(
            f"Cannot write {folder / FILE}: {error.strerror or error}. Set COMPRESS_CACHE to a "
            "writable folder."
        ) from error


def remove_runs(chosen: Callable[[OwnRun], bool], *, folder: Path | None = None) -> int:
    """Forgets runs; lines that are none stay as they are.

    Args:
        chosen: says which.
        folder: of the file.

    Returns:
        how many trainings that were.

    Raises:
        UsageError: the folder cannot be written to.
    """
    path = (folder or cache_folder()) / FILE
    gone = {run.key for run in load_runs(folder=folder) if chosen(run)}
    if gone:
        lines = path.read_bytes().splitlines()
        kept = [line for line in lines if not ((run := _read_line(line)) and run.key in gone)]
        write_text(path, "".join(f"{line.decode(errors='replace')}\n" for line in kept))
    return len(gone)


def load_runs(
    dataset_sha256: str | None = None, *, folder: Path | None = None
) -> tuple[OwnRun, ...]:
    """The runs on one data set, or all; lines that say nothing of a known network are left out."""
    try:
        with regular_file((folder or cache_folder()) / FILE).open("rb") as file:
            content = file.read(MAX_BYTES)
    except (InputError, OSError):
        return ()
    found = map(_read_line, content.splitlines())
    return tuple(run for run in found if run and dataset_sha256 in (None, run.dataset_sha256))


def _read_line(line: bytes) -> OwnRun | None:
    """The run of one line; None where another program or version, or an accident, wrote it."""
    try:
        return decode_or_none(OwnRun, parse_json(line, FILE))
    except InputError:
        return None
