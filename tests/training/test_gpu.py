"""What only a GPU can show: no waiting in a step, equal bits on demand, and its faster ways."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from compress.data.augment import Augmenter, crop
from compress.data.dataset import Dataset, to_device
from compress.data.normalization import Normalizer
from compress.models.registry import with_dropout
from compress.recipes.registry import RECIPES
from compress.training.listener import ProgressMeter
from compress.training.loop import Loop
from tests.training.toy import GRAY, OPTIONS, SPEC, same, stripes, train

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")
PLAIN = with_dropout(SPEC, 0.0)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return to_device(stripes(), CUDA)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
@pytest.mark.parametrize("views", [0, 1, 2])
def test_no_step_waits(
    data: Dataset, recipe: str, views: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, views=views, ema=0.9, label_smoothing=0.1, compile="off")
    add, seen = ProgressMeter.add, set()

    def strict(self: ProgressMeter, images: int, epoch: int, fraction: float) -> None:
        """Between two steps of an epoch, from the second on, nothing may wait."""
        torch.cuda.set_sync_debug_mode("error" if epoch in seen else "default")
        seen.add(epoch)
        add(self, images, epoch, fraction)

    check = Loop.check_scalars

    def lenient(self: Loop) -> None:
        torch.cuda.set_sync_debug_mode("default")
        check(self)

    monkeypatch.setattr(ProgressMeter, "add", strict)
    monkeypatch.setattr(Loop, "check_scalars", lenient)
    try:
        train(data, recipe, options=options)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(seen) >= 4


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_deterministic_training_is_bit_equal(data: Dataset, recipe: str) -> None:
    options = replace(OPTIONS, deterministic=True)
    assert same(train(data, recipe, options=options)[0], train(data, recipe, options=options)[0])


@pytest.mark.parametrize("recipe", ["kd", "logit-gan", "ktan"])
@pytest.mark.parametrize("compiled", ["on", "graphs"])
def test_compiled_steps_are_the_same_steps(data: Dataset, recipe: str, compiled: str) -> None:
    options = replace(OPTIONS, epochs=3, tf32=False, lr=0.01)
    losses = [
        [
            line["loss"]
            for line in train(data, recipe, options=replace(options, compile=how), spec=PLAIN)[
                1
            ].history
        ]
        for how in ("off", compiled)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_a_gpu_trains_as_the_cpu_does(data: Dataset) -> None:
    options = replace(OPTIONS, epochs=1, tf32=False, compile="off")
    here = train(stripes(), "kd", options=options, spec=PLAIN)[1].history[0]["loss"]
    there = train(data, "kd", options=options, spec=PLAIN)[1].history[0]["loss"]
    assert there == pytest.approx(here, rel=1e-3)


def test_compiled_crops_and_normalisation_have_the_same_bits(data: Dataset) -> None:
    index = torch.arange(64)
    plain, compiled = (
        Augmenter(data.train.images, seed=1, flip=True, cropping=each)
        for each in (crop, torch.compile(crop))
    )
    assert torch.equal(plain(index, 3), compiled(index, 3))
    normalize = Normalizer(GRAY, CUDA)
    pixels = plain(index, 3)
    assert torch.equal(torch.compile(normalize.__call__)(pixels), normalize(pixels))
