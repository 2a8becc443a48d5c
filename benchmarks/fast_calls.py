"""What a round of the gate's latency rule should be: the median of its calls, or a fast one.

    python -m benchmarks.fast_calls student.onnx --threads 1 --repeats 5

Times a model beside itself, with nothing else to do and with one and two processes that keep cores
busy, and prints for several figures of a round how much the ratio scatters from round to round
(1.4826 times the median absolute deviation), and what the rule would say of rounds drawn from these
where nothing changed and where a model is 5% slower.
"""

from __future__ import annotations

import argparse
import subprocess
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.neighbour import BUSY
from compress.gate.child import undisturbed
from compress.gate.latency import LatencyRule
from compress.gate.self_test import power_at
from compress.profiling import protocol
from compress.profiling.inputs import make_input
from compress.profiling.protocol import LOOKS, Timing
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Subject

FIGURES = {"median": 0.5, "lower quartile": 0.25, "lower decile": 0.1, "fastest": 0.0}
CALLS = (25, 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="of 48 rounds each")
    options = parser.parse_args()
    print("| busy processes | calls a round | figure | scatter | A/A: PASS | 5% slower: FAIL |")
    print("|---|---|---|---|---|---|")
    for busy in (0, 1, 2):
        for calls in CALLS:
            others = [subprocess.Popen(BUSY) for _ in range(busy)]
            try:
                timings = [
                    timed(options.model, options.threads, calls, seed)
                    for seed in range(options.repeats)
                ]
            finally:
                for other in others:
                    other.kill()
                    other.wait()
            for name, quantile in FIGURES.items():
                logs = np.concatenate([ratios(timing, quantile) for timing in timings])
                scatter = 1.4826 * float(np.median(np.abs(logs - np.median(logs))))
                pool = np.concatenate([logs, -logs])
                same, slower = (power_at(each, pool, LatencyRule(), 0) for each in (0.0, 0.05))
                print(
                    f"| {busy} | {calls} | {name} | {scatter:.1%} | {same.passes:.0%} | "
                    f"{slower.fails:.0%} |",
                    flush=True,
                )


def timed(model: Path, threads: int, calls: int, seed: int) -> Timing:
    """48 rounds of a model beside itself."""
    runtime, subject = runtime_named("onnxruntime"), Subject(model.name, path=model)
    images = make_input(runtime, subject, batch=1, seed=seed)
    return protocol.measure(
        dict.fromkeys(("one", "other"), partial(runtime.load, subject, threads=threads)),
        dict.fromkeys(("one", "other"), images),
        min_rounds=LOOKS[-1],
        max_rounds=LOOKS[-1],
        calls_wanted=calls * LOOKS[-1] // 2,
        threads=threads,
        seed=seed,
    )


def ratios(timing: Timing, quantile: float) -> np.ndarray:
    """Logarithm of the ratio of each round's figures [rounds]."""
    return np.array(
        [
            np.log(
                np.quantile(undisturbed(one["one"]), quantile)
                / np.quantile(undisturbed(one["other"]), quantile)
            )
            for one in timing.rounds
        ]
    )


if __name__ == "__main__":
    main()
