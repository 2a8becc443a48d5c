from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from torch import nn

from compress.errors import ModelFileError, UsageError
from compress.profiling import (
    Settings,
    Subject,
    fingerprint,
    peak,
    profile,
    profile_model,
    registry,
)
from compress.profiling.runtime import Input, InputSpec, Session
from compress.results import Estimate, RuntimeProfile
from tests.profiling import tiny

QUICK = Settings(threads=1, batches=(1, 2))


def test_a_file_beside_another(tmp_path: Path) -> None:
    model = Subject("small", path=tiny.products(tmp_path / "s.onnx", layers=2))
    other = Subject("large", path=tiny.products(tmp_path / "l.onnx", layers=40, size=192))
    said: list[str] = []
    report = profile(model, against=other, settings=QUICK, say=said.append)
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


@pytest.mark.slow
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
    # Whatever the order that it is asked for in, what claims rest on comes first.
    report = profile(both, settings=replace(QUICK, runtimes=("torch", "onnxruntime")))
    assert [run.runtime for run in report.model.runs] == ["onnxruntime", "torch"]
    assert report.model.costs.params == 26
    assert "26 parameters" in report.model.notes[0]
    assert report.model.runs[1].memory_bytes is None  # nothing that a fresh process could load

    eager = Settings(runtimes=("torch",), threads=1, batches=(1,))
    report = profile(both, against=both, settings=eager)
    assert report.speedup is None
    assert "No speedup is reported" in report.warnings[0]
    assert report.model.costs.macs == 24
    assert report.model.size_bytes == 123


@pytest.mark.slow
def test_runtimes_of_one_model_share_rounds_and_the_fastest_is_named(tmp_path: Path) -> None:
    model = Subject("small", path=tiny.products(tmp_path / "s.onnx", layers=2))
    other = Subject("large", path=tiny.products(tmp_path / "l.onnx", layers=40, size=192))
    settings = Settings(runtimes=("onnxruntime", "openvino"), threads=1, batches=(1,), compare=True)
    report = profile(model, against=other, settings=settings)
    runs = {run.runtime: run for run in report.model.runs}
    assert list(runs) == ["onnxruntime", "openvino"]
    assert len({run.rounds for run in runs.values()}) == 1
    assert report.fastest is not None
    fastest = min(runs, key=lambda name: runs[name].latency.value)
    assert report.fastest.runtime == fastest
    assert set(report.fastest.ratios) == set(runs) - {fastest}
    assert list(report.speedups) == ["onnxruntime", "openvino"]
    assert report.speedup == report.speedups["onnxruntime"]
    assert all(ratio.low > 1 for ratio in report.speedups.values())
    for run in runs.values():
        assert run.input_shape == (1, 96)
        macs_per_s = run.macs_per_s or 0.0
        assert macs_per_s == pytest.approx(2 * 96 * 96 / run.latency.value)
        assert run.peak is not None
        assert run.peak.side == 512
        assert 0 < run.peak.share.low <= run.peak.share.value <= run.peak.share.high < 2
        assert run.peak.share.value == pytest.approx(macs_per_s / run.peak.macs_per_s, rel=0.5)
        assert len(run.calls_s) == run.calls
    assert runs["openvino"].options["inference_precision_hint"] == "f32"
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["fastest"]["runtime"] == fastest
    assert set(values["speedups"]) == set(runs)
    assert values["peak"]["product_side"] == 512
    assert "calls_s" not in values


@dataclass(frozen=True)
class Refusing:
    """Loads nothing."""

    name: str = "refusing"

    def missing(self) -> str:
        return ""

    def input_of(self, subject: Subject) -> InputSpec:
        return InputSpec("images", ("batch", 96))

    def precision(self, subject: Subject) -> str:
        return "fp32"

    def options(self, threads: int) -> dict[str, str]:
        return {}

    def load(self, subject: Subject, *, threads: int, images: Input | None = None) -> Session:
        raise ModelFileError(f"{subject.name} has an operation that nobody knows.")


def test_a_runtime_that_fails_is_left_out_of_a_comparison_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = registry.Entry(f"{__name__}:Refusing")
    for module in (registry, profile_model, peak):
        monkeypatch.setattr(module, "RUNTIMES", {**registry.RUNTIMES, "refusing": entry})
    model = Subject("m.onnx", path=tiny.products(tmp_path / "m.onnx", layers=1))
    both = Settings(runtimes=("refusing", "onnxruntime"), batches=(1,), compare=True)
    report = profile(model, settings=both)
    assert [run.runtime for run in report.model.runs] == ["onnxruntime"]
    assert report.warnings == ("refusing is skipped: m.onnx has an operation that nobody knows.",)
    assert report.fastest is None
    with pytest.raises(ModelFileError, match="nobody knows"):
        profile(model, settings=replace(both, compare=False))
    with pytest.raises(ModelFileError, match="nobody knows"):
        profile(model, settings=replace(both, runtimes=("refusing",)))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_answers_that_are_no_numbers_are_told_with_the_file_s_name(
    runtime: str, tmp_path: Path
) -> None:
    # Behind an activation OpenVINO makes zeros of NaN, as the processor's instruction does.
    matrix = {"matrix": np.full((3, 2), np.nan, dtype=np.float32)}
    node = onnx.helper.make_node("MatMul", ["images", "matrix"], ["logits"])
    path = tiny.save(tmp_path / "broken.onnx", [node], matrix, [("images", ("n", 3))])
    with pytest.raises(
        ModelFileError, match=r"broken\.onnx answers with values that are not finite"
    ):
        profile(
            Subject("broken.onnx", path=path), settings=Settings(runtimes=(runtime,), batches=(1,))
        )


@pytest.mark.parametrize(
    ("names", "threads", "shared", "waits"),
    [
        (["onnxruntime", "torch"], 2, True, True),
        (["onnxruntime", "torch"], 1, True, False),  # one thread has no workers
        (["onnxruntime"], 2, True, False),  # its workers do not spin there
        (["onnxruntime"], 2, False, True),
    ],
)
def test_it_waits_where_workers_spin(
    names: list[str], threads: int, shared: bool, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile_model, "shares_cores", lambda _: shared)
    assert (profile_model._quiet_s(names, threads) > 0) == waits


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
    assert profile_model._claim(ratio, run("fp32"), run("fp32")) == (ratio, [])
    claimed, warnings = profile_model._claim(ratio, run("int8"), run("fp32"))
    assert claimed is None
    assert "int8" in warnings[0]
    assert "4 (3.9 to 4.1)" in warnings[0]
