"""benchmarks/make_embedded.py: the subset is balanced, repeatable, and says where it is from."""

import numpy as np
import pytest
import torch

from benchmarks.make_embedded import TARGET, choose, subset
from compress.data.sources import DEBIAN_FASHION, FASHION_CLASSES, RawData, read_idx
from compress.spec import Normalization
from compress.tasks.classification import Classification


def small_full_set() -> RawData:
    """10,000 training and 3,000 test images whose first two pixels are their number."""

    def images(count: int) -> torch.Tensor:
        made = torch.zeros(count, 1, 32, 32, dtype=torch.uint8)
        made[:, 0, 2, 2] = torch.arange(count) // 256
        made[:, 0, 2, 3] = torch.arange(count) % 256
        return made

    return RawData(
        name="small",
        train_images=images(10_000),
        train_targets=torch.arange(10_000) % 10,
        test_images=images(3_000),
        test_targets=torch.arange(3_000) % 10,
        task=Classification(FASHION_CLASSES),
        normalization=Normalization((0.5,), (0.5,)),
        flip=True,
        source="this test",
    )


def test_the_subset_is_balanced_and_knows_its_images() -> None:
    arrays = subset(small_full_set())
    assert np.bincount(arrays["y_train"]).tolist() == [800] * 10
    assert np.bincount(arrays["y_test"]).tolist() == [200] * 10
    for split in ("train", "test"):
        pixels = arrays[f"x_{split}"].astype(np.int64)
        assert pixels.shape[1:] == (28, 28)
        index = pixels[:, 0, 0] * 256 + pixels[:, 0, 1]
        assert np.array_equal(index, arrays[f"index_{split}"])
        assert np.array_equal(arrays[f"y_{split}"], index % 10)


def test_the_subset_is_the_same_every_time() -> None:
    first, second = subset(small_full_set()), subset(small_full_set())
    assert all(np.array_equal(first[key], second[key]) for key in first)


def test_a_count_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ValueError, match="evenly"):
        choose(np.arange(100) % 10, 25, np.random.default_rng(0))


def test_what_is_embedded_says_where_each_image_is_from() -> None:
    with np.load(TARGET, allow_pickle=False) as arrays:
        for split, full in (("train", 60_000), ("test", 10_000)):
            index = arrays[f"index_{split}"]
            assert np.all(np.diff(index) > 0)
            assert index[0] >= 0
            assert index[-1] < full


@pytest.mark.skipif(not DEBIAN_FASHION.is_dir(), reason="no dataset-fashion-mnist here")
def test_what_is_embedded_is_what_the_program_makes() -> None:
    made = subset(read_idx(DEBIAN_FASHION))
    with np.load(TARGET, allow_pickle=False) as arrays:
        assert set(arrays.files) == set(made)
        assert all(np.array_equal(arrays[key], made[key]) for key in made)
