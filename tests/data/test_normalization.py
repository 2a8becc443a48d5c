"""Normalisation equals torchvision's, and names are found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision import transforms

from compress.data.images import StreamedImages
from compress.data.normalization import (
    KNOWN,
    Normalized,
    describe,
    known_for,
    name_of,
    normalize,
    note_on_scale,
    resolve,
)
from compress.errors import DataError, UsageError
from compress.spec import Normalization


def test_equals_torchvision_to_the_last_bit() -> None:
    images = torch.randint(
        0, 256, (7, 3, 9, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    for normalization in known_for(3).values():
        recipe = transforms.Compose(
            [
                transforms.ToTensor(),
                transforms.Normalize(list(normalization.mean), list(normalization.std)),
            ]
        )
        theirs = torch.stack([recipe(image.permute(1, 2, 0).numpy()) for image in images])
        assert torch.equal(normalize(images, normalization), theirs)


def test_hand_worked_value() -> None:
    image = torch.tensor([[[51]]], dtype=torch.uint8)  # 51 / 255 = 0.2
    assert normalize(image, Normalization((0.1,), (0.5,))).item() == pytest.approx(0.2)


def test_a_normalisation_of_bytes_gives_the_same_numbers_and_is_told() -> None:
    of_bytes = resolve("123.675,116.28,103.53/58.395,57.12,57.375")
    images = torch.arange(48, dtype=torch.uint8).view(1, 3, 4, 4)
    assert torch.equal(normalize(images, of_bytes), normalize(images, KNOWN["imagenet"]))
    assert note_on_scale(of_bytes) == (
        "The normalisation was given for pixels in 0..255. Divided by 255 it is "
        f"{describe(KNOWN['imagenet'])}.",
    )
    assert note_on_scale(KNOWN["imagenet"]) == note_on_scale(None) == ()


def test_names_and_numbers_resolve() -> None:
    assert resolve("ImageNet") == KNOWN["imagenet"]
    assert resolve("0.5,0.25,0.1/1,2,3") == Normalization((0.5, 0.25, 0.1), (1.0, 2.0, 3.0))
    assert name_of(Normalization((0.5,), (0.5,))) == "half-gray"
    assert describe(KNOWN["mnist"]) == "mnist (mean 0.1307; std 0.3081)"
    with pytest.raises(UsageError, match="Did you mean 'imagenet'"):
        resolve("imagnet")
    with pytest.raises(UsageError, match="is not a normalisation"):
        resolve("1,2,x/3,4,5")


def test_wrong_channels_and_types_are_refused() -> None:
    with pytest.raises(DataError, match=r"1 channel\(s\), but the normalisation has 3"):
        normalize(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), KNOWN["cifar10"])
    with pytest.raises(UsageError, match="uint8"):
        normalize(torch.zeros(2, 3, 4, 4), KNOWN["cifar10"])


def test_parts_are_normalised_when_they_are_asked_for() -> None:
    pixels = torch.randint(0, 256, (7, 3, 4, 4), dtype=torch.uint8)
    expected = normalize(pixels, KNOWN["cifar10"]).numpy()
    for images in (pixels, StreamedImages(pixels)):
        lazy = Normalized(images, KNOWN["cifar10"])
        assert len(lazy) == 7
        np.testing.assert_array_equal(lazy[2:5], expected[2:5])
        np.testing.assert_array_equal(lazy[:], expected)
