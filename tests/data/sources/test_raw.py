from __future__ import annotations

import torch

from compress.data.sources.raw import measure_normalization


def test_a_channel_of_one_colour_can_be_normalised() -> None:
    found = measure_normalization(torch.full((2, 1, 8, 8), 51, dtype=torch.uint8))
    assert found.mean == (0.2,)
    assert found.std == (round(1 / 255, 6),)
