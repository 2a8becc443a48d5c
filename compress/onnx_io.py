"""How images go into an ONNX file, and which of its outputs are the answers.

Files are made by many exporters. Some take bytes or float16, some have the channels last; some give
a label beside the probabilities, two heads, or logits [n, classes, 1, 1]. What can be read without
a guess is read here, in one way for every command; what cannot is refused by what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import ModelFileError, UnknownName
from compress.onnx_file import Value

FLOATS = ("float32", "float16", "float64", "bfloat16")
# What an output is called that is the network's answer, where several could be.
ANSWERS = ("logits", "probabilities")
OPTION = "--output-name"
# Channels of images, as the last dimension of an input says them.
CHANNELS = (1, 3)


@dataclass(frozen=True)
class ImageInput:
    """How a file takes images.

    Attributes:
        name: of the input.
        dtype: "float32", "float16", "float64" or "uint8".
        channels_last: whether it takes [n, h, w, c].
        batch: how many images it takes at once; None: any number.
        sizes: channels, height and width, as far as the file says them.
    """

    name: str
    dtype: str
    channels_last: bool
    batch: int | None
    sizes: tuple[int | str, int | str, int | str]

    @property
    def takes_bytes(self) -> bool:
        """Whether it takes pixels from 0 to 255, and normalises them itself."""
        return self.dtype == "uint8"

    def __str__(self) -> str:
        order = "[n, h, w, c]" if self.channels_last else "[n, c, h, w]"
        return f"'{self.name}' as {self.dtype} {order}"

    def of(self, images: NDArray[np.float32]) -> NDArray[Any]:
        """Images as the file takes them.

        Args:
            images: float32 [b, c, h, w], normalised; from 0 to 1 where the file takes bytes.
        """
        found: NDArray[Any] = images
        if self.channels_last:
            found = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        if self.takes_bytes:
            pixels: NDArray[np.uint8] = np.rint(np.clip(found, 0, 1) * 255).astype(np.uint8)
            return pixels
        found = found.astype(self.dtype, copy=False)
        return found


def image_form(value: Value, file: str) -> ImageInput:
    """How the one input of a file takes images.

    Raises:
        ModelFileError: no images go into it.
    """
    shape = value.shape or ()
    if value.dtype not in ("float32", "float16", "float64", "uint8") or len(shape) != 4:
        raise ModelFileError(
            f"{file} takes {value}, but images have four dimensions (batch, channels, height, "
            "width) and are float32, float16, float64 or uint8. Export it with such an input."
        )
    batch, *sizes = shape
    channels_last = sizes[2] in CHANNELS and sizes[0] not in CHANNELS
    if channels_last:
        sizes = [sizes[2], sizes[0], sizes[1]]
    return ImageInput(
        value.name,
        value.dtype,
        channels_last,
        batch if isinstance(batch, int) else None,
        (sizes[0], sizes[1], sizes[2]),
    )


def answers_of(
    outputs: Sequence[Value], file: str, wanted: str | None = None, *, rows: int | None = None
) -> tuple[Value, str]:
    """The output that holds one row of logits or probabilities an image, and a note.

    That is the one that is asked for; else the only one that can be; else, of several, the one
    that is called logits, or probabilities where none is.

    Args:
        outputs: of the file, with the sizes that it says or that a run has shown.
        file: its name, for messages.
        wanted: what the user calls it.
        rows: how many images the sizes are of; None where they are what the file says.

    Returns:
        the output, and a sentence on what was left out; empty where there was nothing to choose.

    Raises:
        UnknownName: there is no output of the name that is wanted.
        ModelFileError: none is one row of numbers an image, or several are.
    """
    if wanted is not None:
        named = {output.name: output for output in outputs}
        if wanted not in named:
            raise UnknownName("output", wanted, named)
        if reason := _no_answer(named[wanted], rows):
            raise ModelFileError(f"The output {named[wanted]} of {file} {reason}")
        return named[wanted], ""
    fitting = [output for output in outputs if not _no_answer(output, rows)]
    if not fitting:
        told = "; ".join(f"{output} {_no_answer(output, rows)}" for output in outputs)
        raise ModelFileError(
            f"{file} has no output with one row of logits or probabilities an image: {told}"
        )
    chosen = fitting[0]
    if len(fitting) > 1:
        called = [output for name in ANSWERS for output in fitting if output.name.lower() == name]
        if not called:
            listed = ", ".join(map(str, fitting))
            raise ModelFileError(
                f"{file} has {len(fitting)} outputs that could be the logits: {listed}. Choose "
                f"one with {OPTION}."
            )
        chosen = called[0]
    others = ", ".join(str(output) for output in outputs if output is not chosen)
    return chosen, f"The output {chosen} of {file} is used, not {others}." if others else ""


def rows_of(answers: NDArray[Any], count: int, value: Value, file: str) -> NDArray[Any]:
    """Answers to so many images as [count, classes]; dimensions of 1 behind the first are dropped.

    A network whose last layer squeezes every dimension of 1 answers one image without its row.

    Raises:
        ModelFileError: there are not so many rows, or not one an image.
    """
    if count == 1 and answers.ndim == 1 and answers.size > 1:
        answers = answers[None]
    wide = [size for size in answers.shape[1:] if size != 1]
    if answers.ndim < 2 or len(answers) != count or len(wide) > 1:
        raise ModelFileError(
            f"{file} answers {count} {'image' if count == 1 else 'images'} with '{value.name}' of "
            f"shape {'x'.join(map(str, answers.shape)) or 'no dimension'}, but a classifier gives "
            "one row of logits per image."
        )
    return answers.reshape(count, -1)


def _no_answer(output: Value, rows: int | None) -> str:
    """Why an output cannot be the answers, the end of a sentence; empty where it can be."""
    if output.dtype in ("sequence", "map"):
        return (
            "is not a tensor (perhaps a ZipMap). Export it as a tensor: with skl2onnx, use "
            "zipmap=False."
        )
    if output.dtype not in FLOATS:
        return (
            f"is {output.dtype}: perhaps labels, but not logits. Export the logits or the "
            "probabilities as an output."
        )
    if output.shape is None:
        return ""
    if len(output.shape) < 2:
        return "has no row per image. Export the logits [n, classes] as an output."
    if rows is not None and output.shape[0] != rows:
        return (
            f"has {output.shape[0]} rows for {rows} images. Export it with one row per image, "
            "without reducing over the batch."
        )
    wide = [size for size in output.shape[1:] if size != 1]
    if len(wide) > 1:
        return "is a map and not a row of logits. Export the logits [n, classes] as an output."
    return ""
