"""OpenVINO directly, and through ONNX Runtime: which is faster and steadier here?

    python benchmarks/openvino_ways.py a.onnx b.onnx --output benchmarks/results/openvino_ways.md

The ways run each file in the same rounds: directly, compiled for the shape of the call or for any
batch, threads bound to cores or not; and through ONNX Runtime's provider (the package
onnxruntime-ep-openvino), where it offers a device on this processor. All of them in float32, one
stream, the same number of threads. ONNX Runtime alone stands beside them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from compress.files import write_text
from compress.profiling import openvino_cpu, protocol
from compress.profiling.machine import fingerprint
from compress.profiling.onnxruntime_cpu import OnnxSession
from compress.profiling.protocol import Input, Session
from compress.profiling.runtimes import Subject, make_input, runtime_named

CHOSEN = "directly, one shape"


class ThroughOnnxRuntime:
    """A session of ONNX Runtime whose provider is OpenVINO's."""

    def __init__(self, path: Path, device: Any, *, threads: int) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.add_provider_for_devices(
            [device], {"num_of_threads": str(threads), "num_streams": "1", "precision": "FP32"}
        )
        self._session = ort.InferenceSession(path, options)
        self._input = self._session.get_inputs()[0].name

    def infer(self, images: Input) -> Any:
        """The first output of a batch."""
        return self._session.run(None, {self._input: images})[0]

    def synchronize(self) -> None:
        """Nothing: a call on the CPU returns when it is done."""

    def close(self) -> None:
        """Frees the session."""
        del self._session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    device, why_not = provider_device()
    machine = fingerprint()
    versions = ", ".join(f"{name} {version}" for name, version in machine.engines.items())
    lines = [
        "# Ways to run a file by OpenVINO",
        "",
        f"{time.strftime('%Y-%m-%d')}, {machine.cpu}, {machine.cpus} of {machine.machine_cpus} "
        f"CPUs, {' '.join(machine.isa)}; {versions}; {options.threads} "
        f"thread{'s' if options.threads > 1 else ''}, float32, {options.rounds} rounds.",
        "",
        f"Ratio: time / time of '{CHOSEN}', the way in use. Spread: between the rounds' medians, "
        "the middle half as a share of the median.",
        "",
        "| file | batch | way | median, ms | ratio (95%) | spread |",
        "|---|---:|---|---:|---|---:|",
    ]
    for path in options.files:
        for batch in options.batch:
            lines += compare(path, batch, device, options)
    if why_not:
        lines += ["", why_not]
    print("\n".join(lines))
    if options.output is not None:
        write_text(options.output, "\n".join(lines) + "\n")


def compare(path: Path, batch: int, device: Any, options: argparse.Namespace) -> list[str]:
    """A row of the table for each way."""
    images = make_input(runtime_named("openvino"), Subject(path.name, path=path), batch=batch)
    threads = options.threads
    ways: dict[str, Callable[[], Session]] = {
        CHOSEN: partial(openvino_cpu.OpenVinoSession, path, threads=threads, images=images),
        "directly, any batch": partial(openvino_cpu.OpenVinoSession, path, threads=threads),
        "directly, one shape, threads bound": partial(
            openvino_cpu.OpenVinoSession, path, threads=threads, images=images, bound=True
        ),
        "ONNX Runtime alone": partial(OnnxSession, path, threads=threads),
    }
    if device is not None:
        ways["through ONNX Runtime"] = partial(ThroughOnnxRuntime, path, device, threads=threads)
    timing = protocol.measure(
        ways,
        dict.fromkeys(ways, images),
        min_rounds=options.rounds,
        max_rounds=options.rounds,
        threads=threads,
    )
    rows = []
    for way in ways:
        ratio, medians = timing.ratio(way, CHOSEN), timing.round_medians(way)
        low, high = np.quantile(medians, (0.25, 0.75))
        rows.append(
            f"| {path.name} | {batch} | {way} | {1e3 * timing.median(way):.3f} | "
            f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f}) | "
            f"{(high - low) / np.median(medians):.1%} |"
        )
    return rows


def provider_device() -> tuple[Any, str]:
    """The provider's CPU device; or None, and why there is none."""
    try:
        import onnxruntime_ep_openvino as provider
    except ImportError:
        return None, "The package onnxruntime-ep-openvino is not installed."
    ort.register_execution_provider_library("openvino", provider.get_library_path())
    devices = ort.get_ep_devices()
    for device in devices:
        said = device.ep_metadata
        if device.ep_name == provider.get_ep_name() and said.get("ov_device") == "CPU":
            return device, ""
    makers = ", ".join(dict.fromkeys(device.device.vendor for device in devices))
    return None, (
        f"Not timed: through ONNX Runtime. Its provider offers no device on processors of {makers} "
        "(https://github.com/microsoft/onnxruntime/pull/31981), OpenVINO itself runs on them."
    )


if __name__ == "__main__":
    main()
