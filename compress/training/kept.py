"""A teacher's outputs for whole views: computed once, kept in files, shared between runs.

FOLDER/KEY/values.npy    one output for one view of all images, float16 where that holds it
FOLDER/KEY/facts.json    which output it is, and the digest of the values; written last

While it is computed, values.npy grows under another name (see ``compress.training.growing``).

KEY is a digest of the teacher's weights and normalisation, of everything that the view's pixels
depend on (images, augmentation, seed), and of what the last bits depend on: the device, a CPU's
threads, a GPU's TF32 and --deterministic. Every run gets the kept values, also the one that
computed them. They are used where the digest is right and the teacher answers some
images with the same values again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from compress.data.augment import Augmenter
from compress.data.dataset import Dataset
from compress.data.memory import fits
from compress.errors import InputError, TeacherError, UsageError
from compress.files import clear_up, read_json, sha256_of, try_lock, write_json
from compress.recipes.recipe import Shape
from compress.schema import decode
from compress.schema.rules import Sha256
from compress.training.evaluation import EVALUATION_BATCH
from compress.training.growing import GrowingArray
from compress.training.options import TrainingOptions
from compress.training.outputs import (
    ComputedOutputs,
    Key,
    OutputsByTeacher,
    ShardedOutputs,
    TeacherOutputs,
    by_teacher,
    flat,
)
from compress.training.passes import rounding
from compress.training.stopping import check_interrupt
from compress.training.teacher import Teacher
from compress.training.team import SINGLE_PROCESS, Team
from compress.units import format_bytes, format_duration

VALUES, FACTS = "values.npy", "facts.json"
# Kept outputs are computed again for so many images before they are believed, and may differ by
# this share of their deviation: another device or another number of threads rounds otherwise.
CHECKED_IMAGES = 16
CHECK_TOLERANCE = 0.05
# Another process that computes the same view is asked again after so long.
WAIT_S = 0.5
# A computation that takes longer is announced with its duration.
LONG_S = 20.0
# What is computed is saved, and a message says how far it is, at most so often.
SAVE_EVERY_S = 60.0
TRIAL_PARTS = 2
# Outputs that are all alike deviate by nothing.
EPSILON = 1e-6

Values = Tensor | npt.NDArray[Any]


class _TooLarge(Exception):
    """Outputs that the type of their file cannot hold."""


class KeptOutputs:
    """The outputs of another source, of whole views.

    They lie in the device's memory where there is room, else in files that are mapped into memory.
    What other runs can use is in the files in any case, where the disk has room.

    Args:
        source: computes; it must be repeatable.
        crops: gives the views.
        views: their numbers.
        folder: of the files.
        device: that trains.
        say: is told how much room the outputs take, and what is computed.
        for_others: whether this training sees each view only once, and keeps it for other runs.
        team: the processes of the training; they go on together when all have a view.

    Raises:
        ValueError: the source is not repeatable.
        UsageError: neither memory nor disk has room for so much.
        TeacherError: the teacher answers with numbers that are not finite.
    """

    def __init__(
        self,
        source: ComputedOutputs,
        crops: Augmenter,
        *,
        views: Sequence[int],
        folder: Path,
        device: torch.device,
        say: Callable[[str], None],
        for_others: bool = False,
        team: Team = SINGLE_PROCESS,
    ) -> None:
        if not source.repeatable:
            raise ValueError("Random outputs cannot be kept.")
        self._source = source
        self._crops = crops
        self._views = views
        self._folder = folder
        self._device = device
        self._say = say
        self._for_others = for_others
        self._team = team
        self._in_memory = self._on_disk = False
        self._identities = source.identities()
        self._kept: dict[int, dict[Key, Values]] = {}
        self.shapes: Mapping[str, Shape] = source.shapes

    def __call__(self, index: Tensor, view: int, pixels: Tensor) -> OutputsByTeacher:
        """See ``TeacherOutputs``."""
        if view not in self._kept:
            if not self._kept:
                self._settle()
            elif self._for_others:
                self._kept.clear()
            self._kept[view] = self._view(view)
            # One may have computed what others read at once, on another machine say.
            self._team.barrier()
        there = index.to(self._device, non_blocking=True)
        places = index.numpy()
        found = {}
        for key, values in self._kept[view].items():
            if isinstance(values, Tensor):
                found[key] = values[there].float()
            else:
                rows = torch.from_numpy(values[places].astype(np.float32))
                if self._device.type == "cuda":
                    rows = rows.pin_memory()
                found[key] = rows.to(self._device, non_blocking=True)
        return by_teacher(found)

    # --- Where there is room ---------------------------------------------------------------------

    def _settle(self) -> None:
        """Decides where the views are kept, and says so before anything is computed."""
        view_bytes = self._source.bytes_an_image * len(self._crops)
        size_bytes = len(self._views) * view_bytes
        views = "" if len(self._views) == 1 else f" in {len(self._views)} views each"
        what = f"The teacher's outputs of {len(self._crops):,} images{views}"
        self._in_memory = fits(view_bytes if self._for_others else size_bytes, self._device)
        new = [v for v in self._views if not all(_is_there(f) for f in self._folders(v).values())]
        self._on_disk = _has_room(self._folder, len(new) * view_bytes)
        if self._on_disk:
            where = "in memory, and for other runs" if self._in_memory else "mapped into memory"
            self._say(f"{what} take {format_bytes(size_bytes)}, {where} in {self._folder}.")
        elif self._in_memory:
            self._say(
                f"{what} take {format_bytes(size_bytes)}, in memory only: {self._folder} has no "
                "space for them or is not writable."
            )
        else:
            raise UsageError(
                f"{what} take {format_bytes(size_bytes)}, but neither memory nor {self._folder} "
                "has space for them (or it is not writable). Use fewer --views (with 0 the "
                "teacher runs in every step and nothing is kept), or another --outputs-dir."
            )

    # --- One view --------------------------------------------------------------------------------

    def _view(self, view: int) -> dict[Key, Values]:
        """The values of a view; those that are not kept yet, or not well, are computed."""
        if not self._on_disk:
            return self._in_memory_alone(view)
        folders = self._folders(view)
        with ExitStack() as locks:
            # In one order, so that no two processes wait for each other.
            for folder in sorted(folders.values()):
                locks.enter_context(self._alone(folder))
            missing = {key: folders[key] for key in self._missing(folders, view)}
            if missing:
                self._write(missing, view)
        return {key: self._read(folder / VALUES) for key, folder in folders.items()}

    def _folders(self, view: int) -> dict[Key, Path]:
        """Where the values of a view are."""
        of_view = f"{self._crops.identity(view)} {self._device.type} {rounding(self._device)}"
        return {
            key: self._folder / hashlib.sha256(f"{identity} {of_view}".encode()).hexdigest()[:32]
            for key, identity in self._identities.items()
        }

    def _read(self, path: Path) -> Values:
        if self._in_memory:
            return torch.from_numpy(np.load(path)).to(self._device)
        mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r")
        return mapped

    @contextmanager
    def _alone(self, folder: Path) -> Iterator[None]:
        """Waits until no other process is at a folder."""
        told = False
        while True:
            with try_lock(folder) as mine:
                if mine:
                    clear_up(folder)
                    yield
                    return
            if not told:
                self._say("Another process computes the teacher's outputs; waiting for it.")
            told = True
            check_interrupt()
            time.sleep(WAIT_S)

    def _missing(self, folders: Mapping[Key, Path], view: int) -> list[Key]:
        """The outputs that are not kept, or cannot be believed."""
        there = [key for key, folder in folders.items() if _is_there(folder)]
        if not there:
            return list(folders)
        count = len(self._crops)
        sample = torch.linspace(0, count - 1, min(CHECKED_IMAGES, count)).long()
        now = flat(self._source(sample, view, self._crops(sample, view)))
        bad = [key for key in there if not _is_good(folders[key], count, sample, now[key].cpu())]
        for key in bad:
            self._say(
                f"{folders[key] / VALUES} is damaged or does not match the teacher; it is computed "
                "again."
            )
        return [key for key in folders if key not in there or key in bad]

    def _write(self, folders: Mapping[Key, Path], view: int) -> None:
        """Computes a view and writes some outputs of it."""
        digests: dict[Key, str] = {}
        types: dict[Key, Any] = dict.fromkeys(folders, np.float16)
        while not digests:
            with suppress(_TooLarge):
                digests = self._write_as(types, folders, view)
        for key, folder in folders.items():
            facts = {
                "teacher": key[0],
                "output": key[1],
                "view": view,
                "images": len(self._crops),
                "networks": [teacher.spec.name for teacher in self._source.teachers],
                "sha256": digests[key],
            }
            write_json(folder / FACTS, facts)

    def _write_as(
        self, types: dict[Key, Any], folders: Mapping[Key, Path], view: int
    ) -> dict[Key, str]:
        """The same with these types, from where a process before this one was; the digests.

        Raises:
            _TooLarge: values are too large for their type, which is another now; nothing is kept.
        """
        count = len(self._crops)
        with ExitStack() as stack:
            arrays = {
                key: stack.enter_context(GrowingArray(folder / VALUES, count, types[key]))
                for key, folder in folders.items()
            }
            # Whole parts, because the last bits depend on which images are computed together.
            first = min(array.rows for array in arrays.values()) // EVALUATION_BATCH
            for array in arrays.values():
                array.begin(first * EVALUATION_BATCH)
            saved_s = time.monotonic()
            for found in self._parts(view, first):
                if any(_overflows(found[key], array.dtype) for key, array in arrays.items()):
                    for key, array in arrays.items():
                        types[key] = _holding(found[key], array.dtype)
                        array.discard()
                    raise _TooLarge
                for key, array in arrays.items():
                    array.append(found[key])
                if time.monotonic() - saved_s >= SAVE_EVERY_S:
                    for array in arrays.values():
                        array.save()
                    saved_s = time.monotonic()
            return {key: array.finish() for key, array in arrays.items()}

    def _in_memory_alone(self, view: int) -> dict[Key, Values]:
        parts: dict[Key, list[npt.NDArray[Any]]] = {}
        for found in self._parts(view):
            for key, values in found.items():
                fits_half = not _overflows(values, np.float16)
                parts.setdefault(key, []).append(values.astype(np.float16) if fits_half else values)
        return {
            key: torch.from_numpy(np.concatenate(each)).to(self._device)
            for key, each in parts.items()
        }

    def _parts(self, view: int, first: int = 0) -> Iterator[dict[Key, npt.NDArray[np.float32]]]:
        """The outputs of all images of a view in order, from behind the ``first`` parts.

        Raises:
            TeacherError: one is not finite.
        """
        count = len(self._crops)
        parts = torch.arange(count).split(EVALUATION_BATCH)
        images = "the images as they are" if view == 0 else f"view {view}"
        there = f", of which {first * EVALUATION_BATCH:,} are done" if first else ""
        self._say(f"Computing the teacher's outputs for {images}, {count:,} in all{there}.")
        began_s = told_s = time.monotonic()
        for number, part in enumerate(parts[first:]):
            now_s = time.monotonic()
            left_s = (now_s - began_s) / max(number, 1) * (len(parts) - first - number)
            if number == TRIAL_PARTS and left_s > LONG_S:
                self._say(f"That takes about {format_duration(left_s)}.")
                told_s = now_s
            elif now_s - told_s >= SAVE_EVERY_S:
                self._say(f"{int(part[0]):,} of {count:,}, {format_duration(left_s)} left.")
                told_s = now_s
            check_interrupt()
            outputs = flat(self._source(part, view, self._crops(part, view)))
            found = {key: values.cpu().numpy() for key, values in outputs.items()}
            for key, values in found.items():
                bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
                if bad.any():
                    image = int(part[bad.argmax()])
                    raise TeacherError(
                        f"The teacher's {key[1]} for training image {image} are not finite. Its "
                        "weights overflow there. Use another teacher."
                    )
            yield found


def outputs_of(
    teachers: Sequence[Teacher],
    wanted: frozenset[str],
    data: Dataset,
    options: TrainingOptions,
    *,
    folder: Path,
    say: Callable[[str], None],
    keep_bytes: float = 0.0,
    team: Team = SINGLE_PROCESS,
) -> TeacherOutputs | None:
    """Where a training gets its teachers' outputs from: computed, kept, or both.

    Args:
        teachers: one or more.
        wanted: names of outputs; none for a recipe without a teacher.
        data: on the device that trains.
        options: of the training; ``views`` decides.
        folder: of what is kept.
        say: is told what is kept and computed.
        keep_bytes: up to so much is kept also of views that this training sees only once, for
            others that see the same.
        team: the processes of the training. What is computed in every step they share; what is
            kept the first of them to come computes, and the others read it.

    Returns:
        None where nothing is wanted.

    Raises:
        UsageError: as ``KeptOutputs`` and ``ComputedOutputs``.
    """
    if not wanted:
        return None
    device = data.train.images.device
    crops = Augmenter(
        data.train.images,
        seed=options.seed,
        flip=data.flip,
        pad=options.crop_padding,
        sha256=data.train_sha256,
    )

    def kept(
        source: ComputedOutputs, views: Sequence[int], *, for_others: bool = False
    ) -> KeptOutputs:
        return KeptOutputs(
            source,
            crops,
            views=views,
            folder=folder,
            device=device,
            say=say,
            for_others=for_others,
            team=team,
        )

    plain = None
    answers = wanted - set(teachers[0].taps)
    if answers and options.views == 1:
        plain = kept(ComputedOutputs(teachers, wanted=answers), (0,))
        wanted = wanted - answers
        if not wanted:
            return PlainAnswers(plain, None)
    computed = ComputedOutputs(teachers, wanted=wanted, dropout=options.teacher_dropout)
    of_crops: TeacherOutputs = computed
    size_bytes = options.epochs * computed.bytes_an_image * len(data.train)
    if options.reused_views is not None:
        of_crops = kept(computed, range(1, options.reused_views + 1))
    elif computed.repeatable and size_bytes <= keep_bytes:
        of_crops = kept(computed, range(1, options.epochs + 1), for_others=True)
    elif team.several and computed.repeatable:
        # Dropout is drawn for the whole batch, so every process computes it whole.
        of_crops = ShardedOutputs(computed, team)
    return of_crops if plain is None else PlainAnswers(plain, of_crops)


class PlainAnswers:
    """Answers to the images as they are, and feature maps, which say where things are, of crops.

    Args:
        answers: gives the answers, of view 0.
        maps: gives the feature maps; None where they are not wanted.
    """

    def __init__(self, answers: TeacherOutputs, maps: TeacherOutputs | None) -> None:
        self._answers = answers
        self._maps = maps
        self.shapes: Mapping[str, Shape] = {**answers.shapes, **(maps.shapes if maps else {})}

    def __call__(self, index: Tensor, view: int, pixels: Tensor) -> OutputsByTeacher:
        """See ``TeacherOutputs``."""
        first, *others = self._answers(index, 0, pixels)
        if self._maps is not None:
            first = first | self._maps(index, view, pixels)[0]
        return (first, *others)


def _is_there(folder: Path) -> bool:
    """Whether a folder has values, good or not; the facts are written last."""
    return (folder / FACTS).exists()


def _overflows(values: npt.NDArray[Any], dtype: npt.DTypeLike) -> bool:
    return bool(np.abs(values).max() > np.finfo(np.dtype(dtype)).max)


def _holding(values: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.DTypeLike:
    """A type, or float32 where that does not hold the values."""
    return np.float32 if _overflows(values, dtype) else dtype


def _has_room(folder: Path, size_bytes: float) -> bool:
    """Whether a folder can be written to and its disk has room, with a twentieth to spare."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= 1.05 * size_bytes
    except OSError:
        return False


@dataclass(frozen=True)
class _Facts:
    """What has to be known of kept values."""

    sha256: Sha256


def _is_good(folder: Path, count: int, sample: Tensor, now: Tensor) -> bool:
    """Whether kept values are whole, and of a sample what the teacher gives ``now``."""
    try:
        facts = decode(_Facts, read_json(folder / FACTS), FACTS, beside=("*",))
        if facts.sha256 != sha256_of(folder / VALUES):
            return False
        values = np.load(folder / VALUES, mmap_mode="r")
    except (InputError, ValueError, OSError):
        return False
    if values.shape != (count, *now.shape[1:]) or values.dtype.kind != "f":
        return False
    then = torch.from_numpy(values[sample.numpy()].astype(np.float32))
    return float((then - now).abs().max()) <= CHECK_TOLERANCE * float(now.std()) + EPSILON
