"""Random flip, pad and crop for whole batches.

A view of an image is a pure function of (seed, view number, position in the data set): the same
three always give the same crop, whatever the batch it is drawn in.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from compress.data.seeds import generator


class Augmenter:
    """Crops (and mirrors) batches out of a padded copy of the images.

    Args:
        images: uint8 [n, c, h, w]; zeros are padded around them, as the papers' code does.
        seed: of the crops.
        flip: whether to mirror half of them.
        pad: pixels added on every side before cropping back to h x w.
    """

    def __init__(self, images: Tensor, *, seed: int, flip: bool, pad: int = 4) -> None:
        height, width = images.shape[2:]
        padded = functional.pad(images, (pad, pad, pad, pad))
        # A view of all crops, [n, c, 2 pad + 1, 2 pad + 1, h, w]; it takes no memory.
        self._crops = padded.unfold(2, height, 1).unfold(3, width, 1)
        self._seed = seed
        self._flip = flip
        self._pad = pad
        self._view: int | None = None
        self._rows = self._columns = self._mirrored = torch.empty(0)

    def __call__(self, index: Tensor, view: int) -> Tensor:
        """View number ``view`` of the images at ``index`` (int64 [b]), uint8 [b, c, h, w]."""
        if view != self._view:
            self._draw(view)
        crops: Tensor = self._crops[index, :, self._rows[index], self._columns[index]]
        if not self._flip:
            return crops
        mirrored = self._mirrored[index][:, None, None, None]
        return torch.where(mirrored, crops.flip(3), crops)

    def _draw(self, view: int) -> None:
        count = len(self._crops)
        device = self._crops.device
        rng = generator(self._seed, "view", view)
        offsets = torch.randint(0, 2 * self._pad + 1, (2, count), generator=rng)
        self._rows, self._columns = offsets.to(device)
        self._mirrored = (torch.rand(count, generator=rng) < 0.5).to(device)
        self._view = view
