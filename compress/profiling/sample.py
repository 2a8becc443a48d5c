"""Images that models are timed on, where there are any.

Not every call of a network takes the same time: one that answers easy images early, or branches on
what it sees, does other work on noise than on pictures. So models are called with images of the
data that they are for, several in each round and others in the next, the same ones for all models
of a round. Where there are no images they are called with seeded noise.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compress.errors import UsageError
from compress.profiling.protocol import Draw, Input
from compress.profiling.runtimes import Runtime, Subject, make_input, resolve_shape
from compress.spec import Normalization

# Different batches a round. The warm-up compares the medians of ten calls, and bursts keep five.
BATCHES = 10
# All batches of a round together, for one model.
ROUND_BYTES = 64_000_000
FLOATS = ("float32", "float16", "float64")


@dataclass(frozen=True)
class Sample:
    """Images of a data set.

    Attributes:
        pixels: uint8 [n, c, h, w], one image or more.
        normalization: what they go through before the model sees them.
        name: of the data set.
    """

    pixels: NDArray[np.uint8] = field(repr=False, compare=False)
    normalization: Normalization
    name: str = "the data"

    @property
    def sha256(self) -> str:
        """Of the images as a model is called with them."""
        said = f"{self.pixels.shape} {self.normalization.to_dict()}"
        return hashlib.sha256(said.encode() + self.pixels.tobytes()).hexdigest()

    def as_input(self, index: Sequence[int] | NDArray[np.intp], dtype: str) -> Input:
        """The images at ``index`` as a model takes them [len(index), c, h, w]."""
        pixels: Input = self.pixels[np.asarray(index)]
        if dtype == "uint8":
            return pixels
        if dtype == "int8":
            shifted: Input = (pixels.astype(np.int16) - 128).astype(np.int8)
            return shifted
        mean, std = (
            np.array(values, np.float32).reshape(1, -1, 1, 1)
            for values in (self.normalization.mean, self.normalization.std)
        )
        normalised: Input = ((pixels.astype(np.float32) / 255 - mean) / std).astype(dtype)
        return normalised


def inputs_of(
    runtime: Runtime,
    subject: Subject,
    *,
    batch: int,
    shape: tuple[int, ...] | None = None,
    seed: int = 0,
    sample: Sample | None = None,
) -> Draw:
    """What a model is called with in each round: images of the sample, else seeded noise.

    The same seed draws the same images for every model.

    Args:
        runtime: says what the model wants.
        subject: the model.
        batch: images a call, where the model leaves the first dimension open.
        shape: what the other dimensions are, where the model leaves them open.
        seed: of what is drawn.
        sample: images; None: noise, the same batch in every call.

    Raises:
        UsageError: an open dimension has no value, a fixed one has another than asked for, or the
            images are of another shape.
        ModelFileError: the input is of a type that images do not have.
    """
    noise = make_input(runtime, subject, batch=batch, shape=shape, seed=seed)
    if sample is None:
        return lambda _round: (noise,)
    spec = runtime.input_of(subject)
    sizes = resolve_shape(spec, subject.name, batch=batch, shape=shape)
    if sizes[1:] != sample.pixels.shape[1:]:
        raise UsageError(
            f"{subject.name} takes images of {_by(sizes[1:])}, those of {sample.name} are "
            f"{_by(sample.pixels.shape[1:])}. Give the images that it is for."
        )
    dtype = spec.dtype if spec.dtype in (*FLOATS, "uint8", "int8") else str(noise.dtype)
    several = max(2, min(BATCHES, ROUND_BYTES // max(1, noise.nbytes)))
    count = len(sample.pixels)

    def draw(round_: int) -> tuple[Input, ...]:
        generator = np.random.default_rng([seed, round_])
        wanted = several * sizes[0]
        index = generator.choice(count, wanted, replace=wanted > count)
        return tuple(sample.as_input(part, dtype) for part in np.split(index, several))

    return draw


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def images_kept(shape: Sequence[int], most: int, most_bytes: int) -> int:
    """How many images of a shape [c, h, w] a sample has: so many, or as many bytes."""
    return max(1, min(most, most_bytes // max(1, math.prod(shape))))
