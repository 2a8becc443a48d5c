"""benchmarks/overhead.py: what counts as outside, and a training that is watched."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import pytest
import torch

from benchmarks.overhead import KEYS, OTHERS, OUTSIDE, STUDENTS, grouped, markdown, share_of, train


def line(**more: Any) -> dict[str, Any]:
    """8 s of the student's steps, 1 s of other passes, 1 s of the rest."""
    return {
        **dict.fromkeys(KEYS, 1),
        "images": 1000,
        "parts": {
            "forward": 3.0,
            "loss": 0.5,
            "backward": 4.0,
            "optimiser": 0.5,
            "teacher's passes": 0.75,
            "validation passes": 0.25,
            "data": 0.25,
            "teacher": 0.125,
            "checkpoints": 0.125,
            "rest": 0.25,
            "loading the teacher": 0.25,
        },
        **more,
    }


def test_the_three_kinds_are_the_whole() -> None:
    parts = line()["parts"]
    found = [share_of(parts, names) for names in (STUDENTS, OTHERS, OUTSIDE)]
    assert found == pytest.approx([0.8, 0.1, 0.1])


def test_the_page_has_a_row_for_each_kind_of_training() -> None:
    other = line(epochs=7)
    assert len(grouped([line(), other, line()])) == 2
    page = "\n".join(markdown([line(), other, line()]))
    assert "| 10.0 | 80.0% | 10.0% | 10.0 (10.0, 10.0) |" in page
    assert "7 epochs" in page
    assert markdown([])


def test_a_training_is_told_apart_to_its_end() -> None:
    asked = Namespace(
        data="default",
        limit_train=64,
        teacher=None,
        student="wrn-10-0.25",
        recipe="kd",
        epochs=1,
        batch_size=32,
        views=1,
    )
    found = train(asked, torch.device("cpu"))
    assert set(found["parts"]) == {*STUDENTS, *OTHERS, *OUTSIDE}
    assert found["images"] == 64
