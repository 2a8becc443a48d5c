from __future__ import annotations

import json
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from compress import errors
from compress.errors import ModelFileError, NothingMeasured, UsageError
from compress.profiling.fresh import (
    FreshTiming,
    Loading,
    LoadingRequest,
    TimingRequest,
    _decode,
    load_in_fresh_process,
    time_in_fresh_process,
)
from compress.profiling.runtime import Subject
from compress.profiling.timing import ModelTiming
from compress.results import Estimate
from tests.profiling import tiny


def loading_of(path: Path, runtime: str = "onnxruntime") -> LoadingRequest:
    return LoadingRequest(Subject(path.name, path=path), runtime)


def test_two_files_are_timed_in_a_fresh_process(tmp_path: Path) -> None:
    small = tiny.products(tmp_path / "small.onnx", layers=2)
    large = tiny.products(tmp_path / "large.onnx", layers=60, size=192)
    against = Subject("large", path=large)
    found = time_in_fresh_process(
        TimingRequest(loading_of(small), against, budget_s=10.0, speedup=1.5)
    )
    assert found.loading.load_s > 0
    assert found.loading.first_s > 0
    assert found.model.all_calls_s is not None
    assert found.model.latency.high < 10.0
    assert found.against is not None
    assert found.speedup is not None
    assert found.speedup.low > 1.5
    assert found.loading.memory_bytes is None or found.loading.memory_bytes >= 0


def test_memory_is_that_of_the_model_and_not_of_the_parent(tmp_path: Path) -> None:
    ballast = np.ones(60_000_000)  # 480 MB that a new process would seem to have had
    path = tiny.products(tmp_path / "m.onnx", layers=4, size=1448)  # 33.5 MB of weights
    found = load_in_fresh_process(loading_of(path))
    if found.memory_bytes is None:
        pytest.skip("the system does not tell")
    assert 25e6 < found.memory_bytes < 250e6
    assert ballast.sum() == len(ballast)


def test_errors_come_back_as_they_were(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"There is no file .*absent\.onnx"):
        time_in_fresh_process(TimingRequest(loading_of(tmp_path / "absent.onnx")))
    path = tiny.convolution(tmp_path / "m.onnx", input_shape=("n", 3, "h", "w"))
    with pytest.raises(UsageError, match="'h' is open"):
        time_in_fresh_process(TimingRequest(loading_of(path)))
    with pytest.raises(UsageError, match="no runtime 'fast'"):
        time_in_fresh_process(TimingRequest(loading_of(path, "fast")))


def test_a_network_is_loaded_there_and_what_it_prints_stays_off_the_answer() -> None:
    subject = Subject("loud", module=partial(_loud, 3), imports=("torch",), input_shape=(3, 4, 4))
    found = load_in_fresh_process(LoadingRequest(subject, runtime="torch"))
    assert found.load_s > 0


def test_a_process_that_dies_is_told() -> None:
    subject = Subject("deadly", module=partial(os._exit, 9), input_shape=(3, 4, 4))
    with pytest.raises(NothingMeasured, match="code 9"):
        load_in_fresh_process(LoadingRequest(subject, runtime="torch"))


def test_an_answer_survives_its_journey() -> None:
    timing = ModelTiming(
        Estimate(1.0, 0.5, 2.0), Estimate(0.9, 0.8, 1.1), 1.2, 6, 150, ("a warning",)
    )
    alone = FreshTiming(Loading(0.1, 0.2, None), timing)
    both = FreshTiming(Loading(0.1, 0.2, 3), timing, timing, Estimate(2.0, 1.0, 3.0))
    for found in (alone, both):
        assert _decode(FreshTiming, json.loads(json.dumps(asdict(found)))) == found


def test_every_error_can_be_built_from_its_message() -> None:
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.CompressError):
            if kind in (errors.UnknownName, errors.EndedElsewhere):
                continue  # the first is sent as a UsageError, the other ends its process
            assert str(kind("what")) == "what", name


def _loud(channels: int) -> nn.Module:
    print("a library that prints")
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 16, 2))
