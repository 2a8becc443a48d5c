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
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from compress.errors import ModelFileError, UsageError
from compress.profiling.protocol import Draw
from compress.profiling.runtime import Input, InputSpec, Runtime, Subject
from compress.spec import Normalization
from compress.units import format_bytes

# A larger batch is refused: nobody serves one, and a file may claim any size.
MAX_INPUT_BYTES = 2_000_000_000

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
        """The hash of the images as a model is called with them."""
        said = f"{self.pixels.shape} {self.normalization.to_dict()}"
        return hashlib.sha256(said.encode() + self.pixels.tobytes()).hexdigest()

    def as_input(self, index: Sequence[int] | NDArray[np.intp], dtype: str) -> Input:
        """The images at ``index`` as a model takes them [len(index), c, h, w]."""
        pixels = self.pixels[np.asarray(index)]
        found: Input = pixels
        if dtype == "uint8":
            return found
        if dtype == "int8":
            found = (pixels.astype(np.int16) - 128).astype(np.int8)
            return found
        mean, std = (
            np.array(values, np.float32).reshape(1, -1, 1, 1)
            for values in (self.normalization.mean, self.normalization.std)
        )
        found = ((pixels.astype(np.float32) / 255 - mean) / std).astype(dtype)
        return found


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
    channels, *sides = sample.pixels.shape[1:]
    channels_last = sizes[1:] == (*sides, channels) != (channels, *sides)
    if not channels_last and sizes[1:] != (channels, *sides):
        raise UsageError(
            f"{subject.name} takes images of {_by(sizes[1:])}, but those of {sample.name} are "
            f"{_by(sample.pixels.shape[1:])}. Give the data that it was made for."
        )
    dtype = spec.dtype if spec.dtype in (*FLOATS, "uint8", "int8") else str(noise.dtype)
    several = max(2, min(BATCHES, ROUND_BYTES // max(1, noise.nbytes)))
    count = len(sample.pixels)

    def draw(round_: int) -> tuple[Input, ...]:
        generator = np.random.default_rng([seed, round_])
        wanted = several * sizes[0]
        index = generator.choice(count, wanted, replace=wanted > count)
        batches = (sample.as_input(part, dtype) for part in np.split(index, several))
        return tuple(
            np.ascontiguousarray(each.transpose(0, 2, 3, 1)) if channels_last else each
            for each in batches
        )

    return draw


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def images_kept(shape: Sequence[int], most: int, most_bytes: int) -> int:
    """How many images of a shape [c, h, w] a sample has: so many, or as many bytes."""
    return max(1, min(most, most_bytes // max(1, math.prod(shape))))


def make_input(
    runtime: Runtime,
    subject: Subject,
    *,
    batch: int,
    shape: tuple[int, ...] | None = None,
    seed: int = 0,
) -> Input:
    """Seeded images for a model: standard normal, or all byte values for an integer input.

    Args:
        runtime: says what the model wants.
        subject: the model.
        batch: images a call, where the model leaves the first dimension open.
        shape: what the other dimensions are, where the model leaves them open.
        seed: of the values.

    Raises:
        UsageError: an open dimension has no value, or a fixed one has another than asked for.
        ModelFileError: the input is of a type that images do not have.
    """
    spec = runtime.input_of(subject)
    sizes = resolve_shape(spec, subject.name, batch=batch, shape=shape)
    return random_input(replace(spec, shape=sizes), subject.name, seed=seed)


def random_input(spec: InputSpec, name: str, *, seed: int) -> Input:
    """Seeded values for an input all of whose sizes are known.

    Raises:
        UsageError: the images would take more than ``MAX_INPUT_BYTES``.
        ModelFileError: the input is of a type that images do not have.
    """
    sizes = [size for size in spec.shape if isinstance(size, int)]
    if 4 * math.prod(sizes) > MAX_INPUT_BYTES:
        raise UsageError(
            f"{name} takes '{spec.name}' of {'x'.join(map(str, sizes))}; that is "
            f"{format_bytes(4 * math.prod(sizes))} per call, but at most "
            f"{format_bytes(MAX_INPUT_BYTES)} is allowed. Give a smaller --batch, or a --shape if "
            "the file does not fix it."
        )
    generator = np.random.default_rng(seed)
    if spec.dtype in ("float32", "float16", "float64"):
        return generator.standard_normal(sizes, dtype=np.float32).astype(spec.dtype)
    if spec.dtype in ("uint8", "int8"):
        bounds = np.iinfo(spec.dtype)
        return generator.integers(bounds.min, bounds.max, sizes, spec.dtype, endpoint=True)
    raise ModelFileError(
        f"{name} takes '{spec.name}' as {spec.dtype}, but images are float32, float16, float64, "
        "uint8 or int8. This is not an image model."
    )


def resolve_shape(
    spec: InputSpec, name: str, *, batch: int, shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The sizes to call a model with: batch first, then ``shape`` where that is given.

    Raises:
        UsageError: an open dimension has no value, or a fixed one has another than asked for.
    """
    given: list[int | None] = [batch, *(shape or [None] * (len(spec.shape) - 1))]
    shown = "x".join(str(size) for size in spec.shape)
    if len(given) != len(spec.shape):
        raise UsageError(
            f"{name} takes '{spec.name}' of {len(spec.shape)} dimensions ({shown}); --shape gives "
            f"{len(given) - 1} beside the batch, it must give {len(spec.shape) - 1}."
        )
    sizes: list[int] = []
    for place, (wanted, size) in enumerate(zip(given, spec.shape, strict=True)):
        option = f"--batch {batch}" if place == 0 else f"--shape {','.join(map(str, shape or ()))}"
        if isinstance(size, str):
            if wanted is None:
                raise UsageError(
                    f"The input '{spec.name}' of {name} is {shown}: its dimension "
                    f"'{size}' is open and has no value. Give it with --shape "
                    f"{','.join(['C', 'H', 'W'][: len(spec.shape) - 1])}."
                )
            sizes.append(wanted)
        elif wanted not in (None, size):
            raise UsageError(
                f"The input '{spec.name}' of {name} is fixed at {shown}; {option} does not fit "
                f"its dimension {place}, which is {size}."
            )
        else:
            sizes.append(size)
    return tuple(sizes)
