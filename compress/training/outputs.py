"""Where a teacher's logits and feature maps of a batch come from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from compress.data.normalization import normalize
from compress.errors import UsageError
from compress.files import atomic_path, write_text
from compress.models.registry import Network
from compress.recipes.recipe import FEATURES, LOGITS
from compress.spec import Normalization
from compress.training.evaluation import EVALUATION_BATCH, logits_of, predictor

# The file that says that a view's files are all there.
KEPT_WHOLE = "whole"


@dataclass(frozen=True)
class Outputs:
    """What teachers say of a batch.

    Attributes:
        logits: float32 [n, C] of each teacher; none where they are not wanted.
        features: the first teacher's last convolutional feature map, float32 [n, c, h, w]; None
            where it is not wanted.
    """

    logits: tuple[Tensor, ...] = ()
    features: Tensor | None = None


class TeacherOutputs(Protocol):
    """Gives the outputs of a batch.

    Attributes:
        feature_shape: of the feature maps, without the batch; None where there are none.
    """

    feature_shape: tuple[int, int, int] | None

    def __call__(self, index: Tensor, view: int, pixels: Tensor) -> Outputs:
        """Of the images at ``index`` [n], of which ``pixels`` uint8 [n, c, h, w] is that view."""
        ...


@dataclass(frozen=True)
class Teaching:
    """A network that teaches, in evaluation mode, and what its images go through."""

    network: Network
    normalization: Normalization


class ComputedOutputs:
    """The outputs of one or more teachers.

    Feature maps are always of the crop that the student sees: a map says where things are.

    Args:
        teachers: one or more.
        wanted: LOGITS, FEATURES or both.
        logits: one of ``TEACHER_LOGITS``: "stored", once, of the training image as it is; "exact",
            of the crop; "dropout", of the crop with the teachers' dropout on.
        images: the training images, uint8 [n, c, h, w], on the device of the teachers.
        dropout: probability that the teachers drop a unit with, where ``logits`` is "dropout".

    Raises:
        UsageError: dropout is wanted and a teacher has none.
    """

    def __init__(
        self,
        teachers: Sequence[Teaching],
        *,
        wanted: frozenset[str],
        logits: str,
        images: Tensor,
        dropout: float = 0.3,
    ) -> None:
        self._teachers = teachers
        self._logits_of_crops = LOGITS in wanted and logits != "stored"
        self._features = FEATURES in wanted
        self._dropout = dropout if self._logits_of_crops and logits == "dropout" else None
        if self._dropout is not None:
            for teacher in teachers:
                if not _dropouts(teacher.network):
                    raise UsageError(
                        f"The teacher {teacher.network.spec.name} has no dropout to turn on. Take "
                        "--teacher-logits exact."
                    )
        self._stored: tuple[Tensor, ...] = ()
        if LOGITS in wanted and logits == "stored":
            self._stored = tuple(_stored(teacher, images) for teacher in teachers)
        self.feature_shape = None
        if self._features:
            self.feature_shape = feature_shape(teachers[0].network)

    @property
    def repeatable(self) -> bool:
        """Whether the same crops always have the same outputs; dropout is drawn anew."""
        return self._dropout is None

    def identity(self) -> bytes:
        """A digest of everything but the crops that outputs of crops depend on."""
        digest = hashlib.sha256(f"{self._features} {self._logits_of_crops}".encode())
        for teacher in self._teachers:
            spec = teacher.network.spec.to_dict()
            digest.update(f"{spec} {teacher.normalization}".encode())
            for name, tensor in teacher.network.state_dict().items():
                digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return digest.digest()

    def stored(self, index: Tensor) -> tuple[Tensor, ...]:
        """The logits of the images as they are; none where those of crops are wanted."""
        return tuple(kept[index] for kept in self._stored)

    def __call__(self, index: Tensor, view: int, pixels: Tensor) -> Outputs:
        """See ``TeacherOutputs``."""
        logits = list(self.stored(index))
        features = None
        for number, teacher in enumerate(self._teachers):
            if number == 0 and self._features:
                features = _features(teacher, pixels)
                if self._logits_of_crops and self._dropout is None:
                    with torch.no_grad():
                        logits.append(teacher.network.classify(features))
                    continue
            if self._logits_of_crops:
                with _dropout_on(teacher.network, self._dropout), torch.no_grad():
                    logits.append(teacher.network(_inputs(teacher, pixels)))
        return Outputs(tuple(logits), features)


class KeptOutputs:
    """Another source's outputs of whole views, computed once, kept in files and shared.

    Runs that see the same views of the same images (the same seed of ``TrainingOptions``) find
    what another one computed. A file's name is a digest of the teachers' weights and of the very
    pixels of the view, so it cannot be stale. Maps are kept as float16 where that holds them;
    every run gets the kept values, also the one that computed them.

    Args:
        source: computes; it must be repeatable.
        crops: (index, view) -> uint8 [n, c, h, w], such as an ``Augmenter``.
        count: of the images of a view.
        folder: of the files; it is made.

    Raises:
        ValueError: the source is not repeatable.
    """

    def __init__(
        self,
        source: ComputedOutputs,
        crops: Callable[[Tensor, int], Tensor],
        count: int,
        folder: Path,
    ) -> None:
        if not source.repeatable:
            raise ValueError("Outputs that are drawn anew each time cannot be kept.")
        self._source = source
        self._crops = crops
        self._count = count
        self._folder = folder
        self._identity = source.identity()
        self._view = -1
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        self.feature_shape = source.feature_shape

    def __call__(self, index: Tensor, view: int, pixels: Tensor) -> Outputs:
        """See ``TeacherOutputs``."""
        if view != self._view:
            self._arrays = self._open(view)
            self._view = view
        places = index.cpu().numpy()
        found = {
            kind: torch.from_numpy(array[places].astype(np.float32)).to(index.device)
            for kind, array in self._arrays.items()
        }
        logits = [found[kind] for kind in sorted(found) if kind != FEATURES]
        return Outputs((*self._source.stored(index), *logits), found.get(FEATURES))

    def _open(self, view: int) -> dict[str, npt.NDArray[Any]]:
        """The arrays of a view, by kind; computes those that no file holds."""
        parts = torch.arange(self._count).split(EVALUATION_BATCH)
        digest = hashlib.sha256(self._identity)
        for part in parts:
            digest.update(self._crops(part, view).cpu().numpy().tobytes())
        folder = self._folder / digest.hexdigest()[:32]
        if not (folder / KEPT_WHOLE).exists():
            if not self._compute(folder, view, parts, np.float16):
                self._compute(folder, view, parts, np.float32)
            # Written last: a folder without it was interrupted.
            write_text(folder / KEPT_WHOLE, "")
        return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}

    def _compute(
        self, folder: Path, view: int, parts: Sequence[Tensor], maps: type[np.floating[Any]]
    ) -> bool:
        """Writes a view's arrays, maps of the type ``maps``; False where it cannot hold them."""
        arrays: dict[str, np.memmap[Any, Any]] = {}
        with ExitStack() as files:
            for part in parts:
                outputs = self._source(part, view, self._crops(part, view))
                kinds = {} if outputs.features is None else {FEATURES: outputs.features}
                if not self._source.stored(part):
                    kinds |= {f"{LOGITS}{k:03}": t for k, t in enumerate(outputs.logits)}
                for kind, values in kinds.items():
                    dtype = maps if kind == FEATURES else np.float32
                    if float(values.abs().max()) > float(np.finfo(dtype).max):
                        return False
                    if kind not in arrays:
                        path = files.enter_context(atomic_path(folder / f"{kind}.npy"))
                        shape = (self._count, *values.shape[1:])
                        arrays[kind] = np.lib.format.open_memmap(path, "w+", dtype, shape)
                    arrays[kind][part.numpy()] = values.cpu().numpy()
            for array in arrays.values():
                array.flush()
        return True


def feature_shape(network: Network) -> tuple[int, int, int]:
    """Channels, height and width of the feature map of an image of ``spec.input_shape``."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    with torch.no_grad():
        maps = network.features(torch.zeros(1, *network.spec.input_shape, device=device))
    network.train(was_training)
    return (maps.shape[1], maps.shape[2], maps.shape[3])


def _stored(teacher: Teaching, images: Tensor) -> Tensor:
    return logits_of(predictor(teacher.network), images, teacher.normalization).to(images.device)


def _inputs(teacher: Teaching, pixels: Tensor) -> Tensor:
    images = normalize(pixels, teacher.normalization)
    return images.contiguous(memory_format=torch.channels_last)


def _features(teacher: Teaching, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return teacher.network.features(_inputs(teacher, pixels))


def _dropouts(network: nn.Module) -> list[nn.Dropout]:
    return [module for module in network.modules() if isinstance(module, nn.Dropout)]


@contextmanager
def _dropout_on(network: nn.Module, probability: float | None) -> Iterator[None]:
    """Dropout as in training, everything else as in evaluation; nothing where it is None."""
    if probability is None:
        yield
        return
    modules = _dropouts(network)
    before = [module.p for module in modules]
    for module in modules:
        module.p = probability
        module.train()
    try:
        yield
    finally:
        for module, p in zip(modules, before, strict=True):
            module.p = p
            module.eval()
