"""Whether `compress profile` and other tools tell the same of the same file in the same run.

    python benchmarks/agreement.py student.onnx teacher.onnx --output results/agreement.md

In rounds, in random order within a round, each tool measures each file: this package; ONNX
Runtime's own numbers (a loop as onnxruntime_perf_test has it, and the event "model_run" of its
profiler); OpenVINO's benchmark_app; torch.utils.benchmark, calling ONNX Runtime on the file and the
network that the file was made from. Printed are medians, and how far each is from what this package
says of the same engine: median over rounds of the ratio, bootstrapped over rounds.

Files have to be made by `compress export`, `distill` or `select`: torch's network is built from
what they say of themselves, with weights of its own, which the time does not depend on.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.benchmark import Timer

from compress.export.artifact import read_artifact
from compress.files import write_text
from compress.profiling import protocol
from compress.profiling.estimates import MINIMUM_ROUNDS, ratio_of_rounds
from compress.profiling.layers import OnnxRuntimeProfiler
from compress.profiling.machine import fingerprint
from compress.profiling.onnxruntime_cpu import OnnxSession
from compress.profiling.runtimes import Subject, make_input, runtime_named
from compress.tradeoff.measure import untrained

AGREE = 0.05
OURS = "compress"


@dataclass(frozen=True)
class Tool:
    """One way to measure.

    Attributes:
        engine: that runs the model; tools of one engine are compared.
        name: of the tool.
        measure: seconds of a call, a median.
        note: what it measures otherwise than this package does.
    """

    engine: str
    name: str
    measure: Callable[[], float]
    note: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each tool in a round")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.rounds < MINIMUM_ROUNDS:
        sys.exit(f"At least {MINIMUM_ROUNDS} rounds give an interval.")
    machine = fingerprint()
    engines = ", ".join(f"{name} {version}" for name, version in machine.engines.items())
    lines = [
        "# The same files by other tools",
        "",
        f"{time.strftime('%Y-%m-%d')}, {machine.cpu}, {machine.cpus} of {machine.machine_cpus} "
        f"CPUs, {' '.join(machine.isa)}; {engines}; batch {options.batch}, {options.threads} "
        f"thread{'s' if options.threads > 1 else ''}; {options.rounds} rounds, "
        f"{options.seconds:g} s of each tool a round.",
        "",
        "Difference: time by the tool / time by `compress profile` - 1, median over rounds with "
        "its 95% interval.",
        "",
        "| file | engine | tool | median, ms | difference | within 5% | note |",
        "|---|---|---|---:|---:|---|---|",
    ]
    for path in options.files:
        with tempfile.TemporaryDirectory(prefix="compress-agreement-") as folder:
            lines += compare(path, tools_for(path, options, Path(folder)), options.rounds)
    command = " ".join([path.name for path in options.files])
    lines += [
        "",
        f"Command: `python benchmarks/agreement.py {command} --threads {options.threads} --rounds "
        f"{options.rounds}`",
    ]
    print("\n".join(lines))
    if options.output is not None:
        write_text(options.output, "\n".join(lines) + "\n")


def compare(path: Path, tools: list[Tool], rounds: int) -> list[str]:
    """A row of the table for each tool."""
    order = random.Random(0)
    found: dict[int, list[float]] = {place: [] for place in range(len(tools))}
    for each in range(rounds):
        print(f"{path.name}: round {each + 1} of {rounds}", file=sys.stderr, flush=True)
        for place in order.sample(range(len(tools)), len(tools)):
            found[place].append(tools[place].measure())
    ours = {tool.engine: found[place] for place, tool in enumerate(tools) if tool.name == OURS}
    rows = []
    for place, tool in enumerate(tools):
        ratio = ratio_of_rounds(np.array(found[place]), np.array(ours[tool.engine]))
        difference, agrees = "", ""
        if tool.name != OURS and ratio is not None:
            difference = f"{ratio.value - 1:+.1%} ({ratio.low - 1:+.1%} to {ratio.high - 1:+.1%})"
            agrees = "yes" if abs(ratio.value - 1) <= AGREE else "no"
        median = 1e3 * float(np.median(found[place]))
        rows.append(
            f"| {path.name} | {tool.engine} | {tool.name} | {median:.3f} | {difference} | {agrees} "
            f"| {tool.note} |"
        )
    return rows


def tools_for(path: Path, options: argparse.Namespace, folder: Path) -> list[Tool]:
    """All that can measure the file."""
    threads, batch, seconds = options.threads, options.batch, options.seconds
    subject = Subject(path.name, path=path)
    images = make_input(runtime_named("onnxruntime"), subject, batch=batch)
    spec = read_artifact(path).spec
    if spec is None:
        sys.exit(f"{path} does not say which network it is.")
    torch.set_num_threads(threads)
    network = untrained(spec).eval()
    as_torch = Subject(path.name, module=lambda: network, input_shape=spec.input_shape)

    def ours(runtime: str, what: Subject) -> Callable[[], float]:
        engine = runtime_named(runtime)

        def measure() -> float:
            timing = protocol.measure(
                {OURS: lambda: engine.load(what, threads=threads, images=images)},
                {OURS: images},
                min_rounds=1,
                max_rounds=1,
                calls_wanted=100,
                threads=threads,
            )
            return timing.median(OURS)

        return measure

    return [
        Tool("onnxruntime", OURS, ours("onnxruntime", subject)),
        Tool(
            "onnxruntime",
            "loop of onnxruntime_perf_test",
            lambda: perf_test(path, images, threads, seconds),
            "one session, every call in a row",
        ),
        Tool(
            "onnxruntime",
            "ONNX Runtime's profiler, model_run",
            lambda: profiler(path, images, threads, folder),
            "inside a call, with the profiler on, which slows it",
        ),
        Tool(
            "onnxruntime",
            "torch.utils.benchmark",
            lambda: torch_timer_of_session(path, images, threads, seconds),
            "calls are timed in blocks, disturbed ones in them",
        ),
        Tool("openvino", OURS, ours("openvino", subject)),
        Tool(
            "openvino",
            "benchmark_app",
            lambda: benchmark_app(path, images, threads, seconds, folder),
            "inference alone, without what a call from Python costs; told in 0.01 ms",
        ),
        Tool("torch", OURS, ours("torch", as_torch)),
        Tool(
            "torch",
            "torch.utils.benchmark",
            lambda: torch_timer_of_network(network, images, threads, seconds),
            "calls are timed in blocks; tensors in and out, not arrays",
        ),
    ]


def perf_test(path: Path, images: Any, threads: int, seconds: float) -> float:
    """As onnxruntime_perf_test does: one call first, then calls by the clock until time is up."""
    session = OnnxSession(path, threads=threads)
    session.infer(images)
    calls_s: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter_ns()
        session.infer(images)
        calls_s.append((time.perf_counter_ns() - start) / 1e9)
    session.close()
    return float(np.median(calls_s))


def profiler(path: Path, images: Any, threads: int, folder: Path) -> float:
    recorded = OnnxRuntimeProfiler(folder).record(path, threads, images, 50)
    return float(np.median([call.time_s for call in recorded.calls]))


def torch_timer_of_session(path: Path, images: Any, threads: int, seconds: float) -> float:
    session = OnnxSession(path, threads=threads)
    timer = Timer(
        "session.infer(images)",
        globals={"session": session, "images": images},
        num_threads=threads,
    )
    found = float(timer.blocked_autorange(min_run_time=seconds).median)
    session.close()
    return found


def torch_timer_of_network(
    network: torch.nn.Module, images: Any, threads: int, seconds: float
) -> float:
    with torch.inference_mode():
        timer = Timer(
            "network(images)",
            globals={"network": network, "images": torch.from_numpy(images)},
            num_threads=threads,
        )
        return float(timer.blocked_autorange(min_run_time=seconds).median)


def benchmark_app(path: Path, images: Any, threads: int, seconds: float, folder: Path) -> float:
    """OpenVINO's own program, told what this package tells OpenVINO."""
    subprocess.run(
        [
            *(sys.executable, "-c", "from openvino.tools.benchmark.main import main; main()"),
            *("-m", str(path), "-d", "CPU", "-api", "sync", "-hint", "none"),
            *("-nstreams", "1", "-nthreads", str(threads), "-pin", "NO"),
            *("-infer_precision", "f32", "-shape", str(list(images.shape))),
            *("-t", str(max(1, round(seconds))), "-json_stats"),
            *("-report_type", "no_counters", "-report_folder", str(folder)),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        # In continuous integration it sends no telemetry.
        env=os.environ | {"CI": "true"},
    )
    report = json.loads((folder / "benchmark_report.json").read_text(encoding="utf-8"))
    return float(report["execution_results"]["latency (ms)"]) / 1e3


if __name__ == "__main__":
    main()
