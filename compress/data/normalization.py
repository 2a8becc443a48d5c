"""From bytes to the numbers that a network was trained on, and the ways people commonly do it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.data.images import Images
from compress.errors import DataError, UnknownName, UsageError
from compress.spec import Normalization

KNOWN: dict[str, Normalization] = {
    "cifar10": Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    # The mean of each image's own deviation: wrong, and in a great many training scripts.
    "cifar10-per-image-std": Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": Normalization((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "fashion-mnist": Normalization((0.2860,), (0.3530,)),
    "mnist": Normalization((0.1307,), (0.3081,)),
    "half-gray": Normalization((0.5,), (0.5,)),
    "none-gray": Normalization((0.0,), (1.0,)),
}
"""Means and deviations by name, of pixels scaled to [0, 1]; as many values as channels."""


def known_for(channels: int) -> dict[str, Normalization]:
    """The known normalisations of images with that many channels."""
    return {name: value for name, value in KNOWN.items() if len(value.mean) == channels}


def unnormalized(channels: int) -> Normalization:
    """Pixels from 0 to 1, nothing subtracted: for a network that normalises them itself."""
    return Normalization((0.0,) * channels, (1.0,) * channels)


def resolve(text: str) -> Normalization:
    """A known name, or 'm,m,m/s,s,s' -> the normalisation.

    Raises:
        UsageError: the text is neither.
    """
    name = text.strip().lower().replace("_", "-")
    if name in KNOWN:
        return KNOWN[name]
    if "/" not in text and "," not in text:
        raise UnknownName("normalisation", text, KNOWN)
    return Normalization.parse(text)


def name_of(normalization: Normalization) -> str | None:
    """The name under which it is known, or None."""
    return next((name for name, value in KNOWN.items() if value == normalization), None)


def describe(normalization: Normalization) -> str:
    """'imagenet (mean 0.485, 0.456, 0.406; std 0.229, 0.224, 0.225)'."""
    mean = ", ".join(f"{value:g}" for value in normalization.mean)
    std = ", ".join(f"{value:g}" for value in normalization.std)
    name = name_of(normalization)
    return f"{name} (mean {mean}; std {std})" if name else f"mean {mean}; std {std}"


def note_on_scale(normalization: Normalization | None) -> tuple[str, ...]:
    """Tells of a normalisation that was stated for pixels in 0..255; nothing of another."""
    if normalization is None or not normalization.of_bytes:
        return ()
    return (
        "The normalisation was given for pixels in 0..255. Divided by 255 it is "
        f"{describe(normalization)}.",
    )


def normalize(images_u8: Tensor, normalization: Normalization) -> Tensor:
    """(pixels / 255 - mean) / std of uint8 images [..., c, h, w], as float32.

    The operations and their order are torchvision's ToTensor and Normalize, so the numbers are
    the same to the last bit.

    Raises:
        DataError: the images have another number of channels.
        UsageError: the images are not bytes.
    """
    return Normalizer(normalization, images_u8.device)(images_u8)


class Normalizer:
    """``normalize`` for many batches, its constants on their device already."""

    def __init__(self, normalization: Normalization, device: torch.device) -> None:
        self._mean = torch.tensor(normalization.mean, device=device).view(-1, 1, 1)
        self._std = torch.tensor(normalization.std, device=device).view(-1, 1, 1)

    def __call__(self, images_u8: Tensor) -> Tensor:
        """See ``normalize``."""
        if images_u8.dtype != torch.uint8:
            raise UsageError(f"Images must be uint8 to be normalised; these are {images_u8.dtype}.")
        channels = images_u8.shape[-3]
        if channels != len(self._mean):
            raise DataError(
                f"The images have {channels} channel(s), but the normalisation has "
                f"{len(self._mean)}. Give one mean and one standard deviation per channel."
            )
        return torch.div(images_u8, 255).sub_(self._mean).div_(self._std)


class Normalized:
    """Images as a network takes them, of which a range is made when it is asked for.

    Args:
        images: uint8 [n, c, h, w]; memory need not have room for all of them.
        normalization: that they go through.
    """

    def __init__(self, images: Images, normalization: Normalization) -> None:
        self._images, self._normalization = images, normalization

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: slice) -> NDArray[np.float32]:
        """Float32 [b, c, h, w]."""
        found: NDArray[np.float32] = normalize(self._images[index], self._normalization).numpy()
        return found
