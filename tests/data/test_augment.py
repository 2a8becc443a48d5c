from __future__ import annotations

import pytest
import torch

from compress.data.augment import Augmenter
from compress.data.seeds import derive_seed

IMAGES = torch.arange(5 * 2 * 6 * 6, dtype=torch.int64).remainder(251).to(torch.uint8) + 1
IMAGES = IMAGES.reshape(5, 2, 6, 6)


def test_every_view_is_a_crop_of_the_padded_image_or_its_mirror() -> None:
    index = torch.arange(5).repeat(40)
    crops = Augmenter(IMAGES, seed=1, flip=True, pad=2)(index, view=3)
    assert crops.dtype == torch.uint8
    padded = torch.nn.functional.pad(IMAGES, (2, 2, 2, 2))
    possible = {}
    for image in range(5):
        allowed = set()
        for row in range(5):
            for column in range(5):
                crop = padded[image, :, row : row + 6, column : column + 6]
                allowed.add(crop.numpy().tobytes())
                allowed.add(crop.flip(2).contiguous().numpy().tobytes())
        possible[image] = allowed
    for image, crop in zip(index.tolist(), crops, strict=True):
        assert crop.contiguous().numpy().tobytes() in possible[image]


def test_a_view_depends_on_seed_image_and_number_alone() -> None:
    whole = Augmenter(IMAGES, seed=1, flip=True)
    everything = whole(torch.arange(5), view=7)
    again = Augmenter(IMAGES, seed=1, flip=True)
    again(torch.tensor([2]), view=1)
    assert torch.equal(again(torch.tensor([4, 0]), view=7), everything[[4, 0]])
    assert not torch.equal(whole(torch.arange(5), view=8), everything)
    assert not torch.equal(Augmenter(IMAGES, seed=2, flip=True)(torch.arange(5), 7), everything)


def test_crops_and_mirrors_are_drawn_evenly() -> None:
    marked = torch.zeros(20_000, 1, 9, 9, dtype=torch.uint8)
    marked[:, :, 4, 3] = 1
    crops = Augmenter(marked, seed=0, flip=True)(torch.arange(20_000), view=1)
    places = crops.flatten(1).float().mean(dim=0).reshape(9, 9)
    # Of the 9 column offsets 8 keep the mark, in columns 0 to 7, or 1 to 8 when mirrored. Every
    # row offset keeps it.
    columns = places.sum(dim=0)
    expected = torch.tensor([1.0, *[2.0] * 7, 1.0]) / 18
    assert torch.allclose(columns, expected, atol=0.01)
    assert torch.allclose(places.sum(dim=1), torch.full((9,), 8 / 81), atol=0.01)
    without = Augmenter(marked, seed=0, flip=False)(torch.arange(20_000), view=1)
    mean_column = float((without.flatten(2).argmax(dim=2) % 9).double().mean())
    assert 3.0 < mean_column < 4.0
    assert not torch.equal(without, crops)


def test_streams_of_one_seed_are_apart() -> None:
    assert derive_seed(0, "view", 1) != derive_seed(0, "view", 2) != derive_seed(1, "view", 2)
    assert 0 <= derive_seed(5, "x") < 2**63


def test_view_0_is_the_image_as_it_is() -> None:
    crops = Augmenter(IMAGES, seed=1, flip=True)
    index = torch.tensor([3, 1])
    crops(index, view=1)
    assert torch.equal(crops(index, view=0), IMAGES[index])


def test_identities_tell_apart_what_gives_other_pixels() -> None:
    def made(sha256: str = "1", seed: int = 1, flip: bool = True, pad: int = 4) -> Augmenter:
        return Augmenter(IMAGES, seed=seed, flip=flip, pad=pad, sha256=sha256)

    others = [made("2"), made(seed=2), made(flip=False), made(pad=3)]
    views = [each.identity(1) for each in (made(), *others)] + [made().identity(2)]
    assert len(set(views)) == len(views)
    assert made().identity(1) == made().identity(1)
    plain = [made(seed=2), made(flip=False), made(pad=3)]
    assert {each.identity(0) for each in plain} == {made().identity(0)}
    assert made("2").identity(0) != made().identity(0)
    with pytest.raises(ValueError, match="needs the images' sha256"):
        made("").identity(0)
