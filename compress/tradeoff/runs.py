"""What the user's own runs have shown, kept for the next choice on the same data.

One JSON object a line in ``runs.jsonl`` of ``cache_folder()``.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from compress.errors import InputError, UsageError
from compress.files import cache_folder, regular_file
from compress.schema import decode_or_none, parse_json
from compress.schema.rules import Check, Epochs, Number, Seed, Share, known
from compress.spec import PRECISIONS, ModelSpec

FILE = "runs.jsonl"
# Some hundred thousand runs.
MAX_BYTES = 64 << 20


def _no_network(name: str) -> str:
    try:
        ModelSpec.parse(name)
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


def record_run(run: OwnRun, *, folder: Path | None = None) -> None:
    """Adds a run to what is known; the same run again adds nothing.

    Raises:
        UsageError: the error is no share, or the folder cannot be written to.
    """
    if not (math.isfinite(run.error) and 0 <= run.error <= 1):
        raise UsageError(f"The error of a run is {run.error}, it must be a share between 0 and 1.")
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
            f"Cannot write {folder / FILE}: {error.strerror or error}. "
            "Set COMPRESS_CACHE to a folder that can be written to."
        ) from error


def load_runs(dataset_sha256: str, *, folder: Path | None = None) -> tuple[OwnRun, ...]:
    """The runs on one data set; lines that say nothing of a known network are left out."""
    try:
        with regular_file((folder or cache_folder()) / FILE).open("rb") as file:
            content = file.read(MAX_BYTES)
    except (InputError, OSError):
        return ()
    found = map(_read_line, content.splitlines())
    return tuple(run for run in found if run and run.dataset_sha256 == dataset_sha256)


def _read_line(line: bytes) -> OwnRun | None:
    """The run of one line; None where another program or version, or an accident, wrote it."""
    try:
        return decode_or_none(OwnRun, parse_json(line, FILE))
    except InputError:
        return None
