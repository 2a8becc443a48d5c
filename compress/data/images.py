"""Images that lie where they are worked on, or elsewhere: in a file, or beside a GPU."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

# Batches that are read before they are asked for.
AHEAD = 2
# Where all images of a data set are gone through, so many at once, and no more bytes.
PART = 4096
PART_BYTES = 2**26

Item = TypeVar("Item")


class StreamedImages:
    """Images that are fetched when they are asked for.

    Args:
        source: uint8 [m, c, h, w] on the CPU; it may be mapped from a file.
        rows: which of them these are, int64 [n]; None for all.
        device: where what is fetched goes.
    """

    def __init__(
        self, source: Tensor, rows: Tensor | None = None, device: torch.device | None = None
    ) -> None:
        self._source = source
        self._rows = rows
        self.device = device or torch.device("cpu")

    @property
    def shape(self) -> torch.Size:
        """[n, c, h, w]."""
        return torch.Size((len(self), *self._source.shape[1:]))

    def __len__(self) -> int:
        return len(self._source if self._rows is None else self._rows)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Images at an index (int64 [b], on the CPU) or a range, uint8 [b, c, h, w]."""
        rows = index if self._rows is None else self._rows[index]
        images = self._source[rows]
        if isinstance(rows, slice):
            images = images.clone()  # a range of a mapped file is not read before it is used
        if self.device.type == "cuda":
            images = images.pin_memory()
        return images.to(self.device, non_blocking=True)

    def split(self, size: int) -> Iterator[Tensor]:
        """All of them in order, so many at once."""
        return ahead(self[start : start + size] for start in range(0, len(self), size))

    def take(self, index: Tensor) -> StreamedImages:
        """Those at an index, int64 [k]; nothing is fetched."""
        index = index.cpu()
        rows = index if self._rows is None else self._rows[index]
        return StreamedImages(self._source, rows, self.device)

    def to(self, device: torch.device) -> StreamedImages:
        """The same for another device."""
        return StreamedImages(self._source, self._rows, device)


Images = Tensor | StreamedImages


def part_length(images: Images) -> int:
    """How many images are gone through at once where all are: ``PART``, or fewer of large ones."""
    return max(1, min(PART, PART_BYTES // max(1, math.prod(images.shape[1:]))))


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, the next ones made in a thread while one is worked on."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[Item | object]] = deque()
        for _ in range(AHEAD):
            waiting.append(pool.submit(next, items, end))
        while True:
            item = waiting.popleft().result()
            if item is end:
                return
            waiting.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]
