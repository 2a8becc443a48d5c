"""The arguments of a training, for type checkers: they are fields of ``TrainingOptions``."""

from __future__ import annotations

from typing import TypedDict


class TrainingKeywords(TypedDict, total=False):
    """The fields of ``TrainingOptions`` that are arguments of ``compress.train``.

    What is not given is that of ``DEFAULTS``.
    """

    epochs: int
    batch_size: int
    lr: float
    schedule: str
    momentum: float
    weight_decay: float
    dropout: float
    crop_padding: int
    autocast: str
    label_smoothing: float
    ema: float
    memory_format: str
    compile: str
    fused: str
    tf32: bool
    deterministic: bool
    seed: int


class TeachingKeywords(TrainingKeywords, total=False):
    """Those of ``compress.distill``: how the teachers are asked, besides."""

    views: int
    teacher_dropout: float
