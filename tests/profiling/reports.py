"""Reports as ``compress profile`` makes them, without measuring anything."""

from __future__ import annotations

from compress.results import (
    Costs,
    Estimate,
    Layer,
    Layers,
    Machine,
    Peak,
    Profile,
    ProfileReport,
    RuntimeProfile,
    Throughput,
)

MACHINE = Machine("Some CPU", ("avx2",), 2, 2, 4, False, "Linux x86_64", "3.12", {})


def run(runtime: str, median_s: float, **more: object) -> RuntimeProfile:
    """1% of uncertainty on either side, 100 calls."""
    values = {
        "runtime": runtime,
        "precision": "fp32",
        "threads": 2,
        "batch": 1,
        "options": {"spinning": "off"},
        "load_s": 0.1,
        "first_s": 0.01,
        "latency": Estimate(median_s, 0.99 * median_s, 1.01 * median_s),
        "p90": None,
        "p99": None,
        "throughput": (Throughput(1, 1 / median_s),),
        "memory_bytes": 4_000_000,
        "rounds": 6,
        "calls": 100,
        "preempted": 0.02,
        "outliers": 1,
        "input_shape": (1, 3, 32, 32),
        "macs_per_s": 1e7 / median_s,
        "peak": Peak(512, 5e10, Estimate(0.9, 0.88, 0.93)),
        "calls_s": tuple(median_s * (0.9 + 0.002 * call) for call in range(100)),
    }
    return RuntimeProfile(**(values | more))  # type: ignore[arg-type]


def model(name: str, *runs: RuntimeProfile) -> Profile:
    costs = Costs(params=1_000_000, macs=10_000_000, not_counted={"Relu": 3})
    return Profile(name, 4_100_000, costs, runs)


def report(*models: Profile, **more: object) -> ProfileReport:
    against = models[1] if len(models) > 1 else None
    values = {"model": models[0], "against": against, "speedup": None, "machine": MACHINE}
    return ProfileReport(**(values | more))  # type: ignore[arg-type]


LAYERS = Layers(
    runtime="onnxruntime",
    threads=1,
    batch=2,
    calls=50,
    layers=(
        Layer("relu_1_nchwc", "Conv", 0.0003, 6_000_000),
        Layer("mean", "ReduceMean", 0.0001),
        Layer("tiny", "Gemm", 0.0, 640),
    ),
    call_s=0.0005,
    slowdown=Estimate(1.4, 1.3, 1.5),
)
