"""On a GPU: pytest -m gpu tests/profiling/test_cuda.py"""

from __future__ import annotations

import copy
import importlib.util
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compress.engines.package import Package
from compress.errors import UsageError
from compress.profiling import Settings, Subject, machine, profile
from compress.profiling.inputs import make_input
from compress.profiling.registry import RUNTIMES, runtime_named, why_not
from compress.profiling.runtime import DeviceSession
from tests.profiling import tiny

ON_A_GPU = [name for name, entry in RUNTIMES.items() if entry.device == "cuda"]


def test_without_a_gpu_each_says_so_and_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from compress.profiling import cuda

    monkeypatch.setattr(cuda, "nvidia_smi", lambda *_: [])
    for name in ON_A_GPU:
        said = why_not(name)
        absent = importlib.util.find_spec(RUNTIMES[name].module) is None
        fault = "is not installed" if absent else "needs an NVIDIA GPU"
        assert f"The runtime {name} {fault}" in said
        assert "python -m pip install" in said


def test_the_build_of_onnxruntime_without_cuda_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    from compress.profiling import cuda

    monkeypatch.setattr(cuda, "nvidia_smi", lambda *_: ["Some GPU"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "needs a GPU, but torch" in why_not("onnxruntime-cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "pip install onnxruntime-gpu" in why_not("onnxruntime-cuda")
    assert why_not("torch-cuda") == ""


def test_tensorrt_without_its_libraries_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from compress.profiling import cuda, tensorrt_gpu

    def broken(package: Package) -> None:
        raise UsageError(f"{package.name} is installed, but its libraries cannot be loaded")

    monkeypatch.setattr(cuda, "nvidia_smi", lambda *_: ["Some GPU"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(tensorrt_gpu, "import_package", broken)
    assert "libraries cannot be loaded" in tensorrt_gpu.TensorRt("tensorrt-rtx").missing()


def test_what_nvidia_smi_says_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "nvidia_smi", lambda *_: ["1980, 2619, 41, 120.5, 0x0"])
    assert machine.gpu_state() == {
        "sm_clock_mhz": "1980",
        "memory_clock_mhz": "2619",
        "temperature_c": "41",
        "power_w": "120.5",
        "throttle_reasons": "0x0",
    }
    monkeypatch.setattr(machine, "nvidia_smi", lambda *_: [])
    assert machine.gpu_state() == {}


def test_an_nvidia_smi_that_is_not_there_says_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.nvidia_smi("-L") == []
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho no driver; exit 9\n")
    script.chmod(0o755)
    assert machine.nvidia_smi("-L") == []


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """The same network for torch and as a file."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten()).eval()
    return Subject(
        "m",
        path=tiny.convolution(tmp_path / "m.onnx"),
        module=partial(copy.deepcopy, network),
        input_shape=(3, 8, 8),
        size_bytes=1,
    )


@pytest.mark.gpu
@pytest.mark.parametrize("name", ON_A_GPU)
def test_a_gpu_computes_the_same_and_tells_its_time(name: str, subject: Subject) -> None:
    if why_not(name):
        pytest.skip(why_not(name))
    on_cpu = runtime_named("torch" if RUNTIMES[name].takes == "torch" else "onnxruntime")
    runtime = runtime_named(name)
    for batch in (2, 5):
        images = make_input(runtime, subject, batch=batch, seed=batch)
        session = runtime.load(subject, threads=1, images=images)
        for seed in (batch, 7):
            images = make_input(runtime, subject, batch=batch, seed=seed)
            found = tiny.answer(session, images)
            expected = tiny.answer(on_cpu.load(subject, threads=1), images)
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        assert isinstance(session, DeviceSession)
        times = session.device_times()
        assert 0 < times.copies_s < times.total_s < 1
        session.close()


@pytest.mark.gpu
def test_a_profile_on_a_gpu_tells_copies_and_clocks(subject: Subject) -> None:
    names = tuple(name for name in ON_A_GPU if not why_not(name))
    settings = Settings(runtimes=names, threads=1, batches=(1,), compare=True)
    report = profile(subject, settings=settings)
    for run in report.model.runs:
        assert run.copies_s is not None
        assert 0 < run.copies_s < run.latency.value
        assert "sm_clock_mhz" in run.device
