"""Random flip, pad and crop for whole batches.

A view of an image is a pure function of (seed, view number, position in the data set): the same
three always give the same crop, whatever the batch it is drawn in. View 0 is the image as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from compress.data.images import Images, StreamedImages
from compress.data.seeds import generator

# Changes with what a view of the same number looks like.
AUGMENTATION = "flip, zeros around, crop; 1"

Crop = Callable[[Tensor, Tensor, Tensor, "Tensor | None", int], Tensor]


class Augmenter:
    """Crops (and mirrors) batches of images.

    Args:
        images: uint8 [n, c, h, w].
        seed: of the crops.
        flip: whether to mirror half of them.
        pad: zeros added on every side before cropping back to h x w, as the papers' code does.
        cropping: ``crop``, or the same compiled.
        sha256: that identifies the images, where ``identity`` is asked for.
    """

    def __init__(
        self,
        images: Images,
        *,
        seed: int,
        flip: bool,
        pad: int = 4,
        cropping: Crop | None = None,
        sha256: str = "",
    ) -> None:
        self._images = images
        self._seed = seed
        self._flip = flip
        self._pad = pad
        self._crop = cropping or crop
        self._view: int | None = None
        self._rows = self._columns = self._mirrored = torch.empty(0)
        self._sha256 = sha256

    def __len__(self) -> int:
        return len(self._images)

    def __call__(self, index: Tensor, view: int) -> Tensor:
        """View number ``view`` of some images, uint8 [b, c, h, w] on their device.

        Args:
            index: int64 [b], on the CPU.
            view: 0 or more.
        """
        there = index.to(self._images.device, non_blocking=True)
        images = self._images[index if self.streams else there]
        if view == 0:
            return images
        if view != self._view:
            self._draw(view)
        mirrored = self._mirrored[there] if self._flip else None
        return self._crop(images, self._rows[there], self._columns[there], mirrored, self._pad)

    @property
    def streams(self) -> bool:
        """Whether images are fetched from elsewhere, which is better done ahead."""
        return isinstance(self._images, StreamedImages)

    def identity(self, view: int) -> str:
        """A digest of everything that the pixels of a view depend on.

        Raises:
            ValueError: nothing identifies the images.
        """
        if not self._sha256:
            raise ValueError("An augmenter that is to identify its views needs the images' sha256.")
        if view == 0:
            return self._sha256
        text = f"{self._sha256} {AUGMENTATION} {self._seed} {self._flip} {self._pad} {view}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _draw(self, view: int) -> None:
        count = len(self._images)
        device = self._images.device
        rng = generator(self._seed, "view", view)
        offsets = torch.randint(0, 2 * self._pad + 1, (2, count), generator=rng)
        self._rows, self._columns = offsets.to(device)
        self._mirrored = (torch.rand(count, generator=rng) < 0.5).to(device)
        self._view = view


def crop(
    images: Tensor, rows: Tensor, columns: Tensor, mirrored: Tensor | None, pad: int
) -> Tensor:
    """Pads images [b, c, h, w] by zeros, crops them to their size again, and mirrors some.

    Args:
        images: of any type.
        rows: int64 [b], where each crop begins, 0 to 2 pad.
        columns: the same across.
        mirrored: bool [b]; None for none.
        pad: pixels on every side.
    """
    height, width = images.shape[2:]
    padded = functional.pad(images, (pad, pad, pad, pad))
    # A view of all crops, [b, c, 2 pad + 1, 2 pad + 1, h, w]; it takes no memory.
    possible = padded.unfold(2, height, 1).unfold(3, width, 1)
    crops: Tensor = possible[torch.arange(len(images), device=images.device), :, rows, columns]
    if mirrored is None:
        return crops
    return torch.where(mirrored[:, None, None, None], crops.flip(3), crops)
