from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest

from compress.errors import UsageError
from compress.profiling.inputs import ROUND_BYTES, Sample, images_kept, inputs_of, make_input
from compress.profiling.runtime import InputSpec, Runtime, Subject
from compress.spec import Normalization

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 3, 4, 5), dtype=np.uint8)
SAMPLE = Sample(PIXELS, Normalization((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), "small")
SUBJECT = Subject("model.onnx")


@dataclass
class Stated:
    """A runtime that knows of one input alone."""

    shape: tuple[int | str, ...] = ("batch", 3, 4, 5)
    dtype: str = "float32"

    def input_of(self, _subject: Subject) -> InputSpec:
        return InputSpec("images", self.shape, self.dtype)


def drawn(
    round_: int, *, runtime: Stated | None = None, sample: Sample | None = SAMPLE, batch: int = 2
) -> list[np.ndarray]:
    there = cast(Runtime, runtime or Stated())
    return list(inputs_of(there, SUBJECT, batch=batch, seed=3, sample=sample)(round_))


def test_several_images_are_drawn_and_others_in_the_next_round() -> None:
    first, second = drawn(0), drawn(1)
    assert [each.shape for each in first] == [(2, 3, 4, 5)] * 10
    assert first[0].dtype == np.float32
    assert len({each.tobytes() for each in first}) == 10
    assert not np.array_equal(first[0], second[0])
    assert all(np.array_equal(*pair) for pair in zip(first, drawn(0), strict=True))


def test_models_are_called_with_the_same_images_each_as_it_takes_them() -> None:
    pixels = drawn(0, runtime=Stated(dtype="uint8"))
    shifted = drawn(0, runtime=Stated(dtype="int8"))
    halves = drawn(0, runtime=Stated(dtype="float16"))
    mean, std = (
        np.array(each).reshape(1, 3, 1, 1)
        for each in (SAMPLE.normalization.mean, SAMPLE.normalization.std)
    )
    for place, image in enumerate(drawn(0)):
        np.testing.assert_allclose(image, (pixels[place] / 255 - mean) / std, atol=1e-6)
        assert np.array_equal(pixels[place].astype(int) - 128, shifted[place])
        assert halves[place].dtype == np.float16
    assert {tuple(each.ravel()) for image in pixels for each in image} <= {
        tuple(each.ravel()) for each in PIXELS
    }


def test_fewer_images_than_are_wanted_are_drawn_again() -> None:
    assert [each.shape[0] for each in drawn(0, batch=32)] == [32] * 10


def test_large_batches_are_fewer() -> None:
    large = Sample(np.zeros((1, 3, 512, 512), np.uint8), SAMPLE.normalization)
    found = drawn(0, runtime=Stated(("batch", 3, 512, 512)), sample=large, batch=8)
    assert len(found) == 2
    assert sum(each.nbytes for each in found) < ROUND_BYTES


def test_without_images_there_is_noise() -> None:
    (noise,) = drawn(0, sample=None)
    assert np.array_equal(noise, drawn(1, sample=None)[0])
    there = cast(Runtime, Stated())
    assert np.array_equal(noise, make_input(there, SUBJECT, batch=2, seed=3))


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(UsageError, match=r"takes images of 3x5x4, but those of small are 3x4x5"):
        drawn(0, runtime=Stated(("batch", 3, 5, 4)))


def test_a_sample_has_an_end() -> None:
    assert images_kept((3, 32, 32), 1000, 64_000_000) == 1000
    assert images_kept((3, 1000, 1000), 1000, 64_000_000) == 21
    assert images_kept((3, 10_000, 10_000), 1000, 64_000_000) == 1
