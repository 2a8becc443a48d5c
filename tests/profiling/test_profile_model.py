from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path

import pytest
from torch import nn

from compress.errors import UsageError
from compress.profiling import Settings, Subject, fingerprint, profile
from compress.profiling.profile_model import _claim
from compress.results import Estimate, RuntimeProfile
from tests.profiling import tiny

QUICK = Settings(threads=1, batches=(1, 2))


def test_a_file_beside_another(tmp_path: Path) -> None:
    model = Subject("small", path=tiny.products(tmp_path / "s.onnx", layers=2))
    other = Subject("large", path=tiny.products(tmp_path / "l.onnx", layers=40, size=192))
    said: list[str] = []
    report = profile(model, against=other, settings=QUICK, progress=said.append)
    assert report.speedup is not None
    assert report.speedup.low > 1.0
    assert report.against is not None
    run = report.model.runs[0]
    assert (run.runtime, run.precision, run.threads, run.batch) == ("onnxruntime", "fp32", 1, 1)
    assert [each.batch for each in run.throughput] == [1, 2]
    assert run.p90 is not None
    assert report.model.costs.macs == 2 * 96 * 96
    assert report.model.size_bytes == (tmp_path / "s.onnx").stat().st_size
    assert any("fresh process" in line for line in said)

    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["schema_version"] == 1
    assert set(values["speedup"]) == {"value", "low", "high"}
    latency = values["latency_ms"]
    assert latency["low"] <= latency["median"] <= latency["high"]
    assert latency["median"] == pytest.approx(run.latency.value * 1e3)
    assert {"p90", "p99"} <= set(latency)
    for key in ("load_ms", "first_ms", "memory_bytes", "params", "macs", "size_bytes", "warnings"):
        assert key in values
    assert values["against"]["params"] == 40 * 192 * 192
    assert values["machine"]["digest"]


def test_torch_eager_stands_beside_and_is_never_claimed_against(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    both = Subject(
        "network",
        path=tiny.products(tmp_path / "m.onnx", layers=1),
        module=partial(copy.deepcopy, network),
        input_shape=(3, 2, 2),
        params=26,
        size_bytes=123,
    )
    report = profile(both, settings=QUICK)
    assert [run.runtime for run in report.model.runs] == ["onnxruntime", "torch"]
    assert report.model.costs.params == 26
    assert "26 parameters" in report.model.notes[0]
    assert report.model.runs[1].memory_bytes is None  # nothing that a fresh process could load

    eager = Settings(runtimes=("torch",), threads=1, batches=(1,))
    report = profile(both, against=both, settings=eager)
    assert report.speedup is None
    assert "No speed-up is claimed" in report.warnings[0]
    assert report.model.costs.macs == 24
    assert report.model.size_bytes == 123


def test_a_fixed_batch_is_the_default(tmp_path: Path) -> None:
    path = tiny.convolution(tmp_path / "m.onnx", input_shape=(4, 3, 8, 8))
    report = profile(Subject("fixed", path=path), settings=Settings(threads=1))
    assert [each.batch for each in report.model.runs[0].throughput] == [4]
    with pytest.raises(UsageError, match="--batch 1 does not fit"):
        profile(Subject("fixed", path=path), settings=QUICK)


def test_more_threads_than_cpus_are_told(tmp_path: Path) -> None:
    path = tiny.convolution(tmp_path / "m.onnx")
    threads = fingerprint().cpus + 1
    report = profile(Subject("m", path=path), settings=Settings(threads=threads, batches=(1,)))
    assert any(f"{threads} threads share" in warning for warning in report.warnings)


def test_a_model_that_no_runtime_can_run_is_an_error() -> None:
    with pytest.raises(UsageError, match="cannot run nothing"):
        profile(Subject("nothing"))


def test_different_precisions_are_no_speedup() -> None:
    def run(precision: str) -> RuntimeProfile:
        return RuntimeProfile(
            runtime="onnxruntime",
            precision=precision,
            threads=1,
            batch=1,
            options={},
            load_s=1.0,
            first_s=1.0,
            latency=Estimate(1.0, 1.0, 1.0),
            p90=None,
            p99=None,
            throughput=(),
            memory_bytes=None,
            rounds=6,
            calls=150,
            preempted=None,
            outliers=0,
        )

    ratio = Estimate(4.0, 3.9, 4.1)
    assert _claim(ratio, run("fp32"), run("fp32")) == (ratio, [])
    claimed, warnings = _claim(ratio, run("int8"), run("fp32"))
    assert claimed is None
    assert "int8" in warnings[0]
    assert "4 (3.9 to 4.1)" in warnings[0]
