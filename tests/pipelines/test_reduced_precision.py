"""compress.pipelines.reduced_precision: as many images as it takes, refusals that say which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.data.dataset import Dataset, load_dataset
from compress.errors import Inconclusive, PrecisionLost
from compress.exporting.fidelity import Proof
from compress.gate.precision import PrecisionRule
from compress.pipelines.reduced_precision import LossLimit, ProofImages, reduce_precision
from compress.results import Artifact, Fidelity
from compress.tasks.classification import Paired

ARTIFACT = Artifact(Path("f.onnx"), "onnx", "0" * 64, 10, None)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("default", limit_train=100)


def proof(count: int) -> Proof:
    return Proof(np.zeros((count, 1, 2, 2), dtype=np.float32), torch.zeros(count))


class Converter:
    """Loses so many of the images of each proof that it is given."""

    def __init__(self, *lost: int) -> None:
        self.lost: Iterator[int] = iter(lost)
        self.asked: list[int] = []

    def __call__(self, *, proof: Proof) -> tuple[Artifact, Fidelity]:
        count, lost = len(proof.images), next(self.lost)
        self.asked.append(count)
        pair = Paired(count, lost, 0, count - lost)
        if proof.judge is not None and (reason := proof.judge(pair)):
            raise PrecisionLost(reason)
        found = Fidelity(count, 1 - lost / count, 0.1, 0.1, pair=pair.to_dict())
        return ARTIFACT, found


def reduced(data: Dataset, convert: Converter, images: ProofImages, **more: Any) -> Fidelity:
    limit = LossLimit(PrecisionRule(0.01), data)
    return reduce_precision(convert, images, limit, "int8", **{"say": lambda _: None} | more)[1]


def test_all_images_are_taken_only_where_the_first_do_not_decide(data: Dataset) -> None:
    some = ProofImages(proof(1000), proof(4000))
    passes, loses = Converter(0), Converter(100)
    assert reduced(data, passes, some).images == reduced(data, loses, some).images == 1000
    said: list[str] = []
    unclear = Converter(8, 0)
    assert reduced(data, unclear, some, say=said.append).images == 4000
    assert unclear.asked == [1000, 4000]
    assert said == ["1,000 images do not decide what int8 loses; going on to all 4,000."]


def test_a_file_that_may_not_lose_too_much_is_refused_or_undecided(data: Dataset) -> None:
    some = ProofImages(proof(1000), proof(4000))
    assert reduced(data, Converter(8, 0), some, refuse="m.onnx").images == 4000
    with pytest.raises(PrecisionLost, match="a drop of 1 is allowed"):
        reduced(data, Converter(100), some, refuse="m.onnx")
    with pytest.raises(PrecisionLost):
        reduced(data, Converter(8, 400), some, refuse="m.onnx")
    told = "Whether m.onnx loses too much in int8 is not decided: "
    with pytest.raises(Inconclusive, match=told):
        reduced(data, Converter(8, 38), some, refuse="m.onnx")
    with pytest.raises(Inconclusive, match=told):
        reduced(data, Converter(8), replace(some, whole=None), refuse="m.onnx")
