from __future__ import annotations

import hashlib
from pathlib import Path

import torch

import compress.data
from compress.data.sources import FASHION_CLASSES, read_embedded


def test_the_embedded_subset() -> None:
    raw = read_embedded()
    assert raw.train_images.shape == (8000, 1, 32, 32)
    assert raw.test_images.shape == (2000, 1, 32, 32)
    assert raw.train_targets.bincount().tolist() == [800] * 10
    assert raw.test_targets.bincount().tolist() == [200] * 10
    assert raw.train_images[:][:, :, :2].max() == 0
    assert raw.task.classes == FASHION_CLASSES
    assert raw.flip
    # As the README beside the file says it.
    digest = hashlib.sha256()
    for images, labels in (
        (raw.train_images[:], raw.train_targets),
        (raw.test_images[:], raw.test_targets),
    ):
        digest.update(images[:, 0, 2:-2, 2:-2].contiguous().numpy().tobytes())
        digest.update(labels.to(torch.uint8).numpy().tobytes())
    readme = Path(compress.data.__file__).parent / "embedded" / "README.md"
    assert digest.hexdigest() in readme.read_text(encoding="utf-8")
