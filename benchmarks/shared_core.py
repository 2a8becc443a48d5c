"""How a ratio of two models' times is told on a core that other processes share.

    taskset -c 1 python -m benchmarks.shared_core teacher.onnx student.onnx

Times both in turns with nothing else on the core, then with one and two processes that keep it
busy, three times each, and prints the ratio by three rules for a round's median: of undisturbed
calls where half of the round's calls were, and else of all; the same where half or five were; and
the rule in use, which takes the CPU time where not even five were.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.neighbour import BUSY
from compress.exporting.artifact import read_artifact
from compress.profiling import estimates, protocol
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Subject
from compress.results import Estimate

ROUNDS, REPEATS = 24, 3


def main() -> None:
    slow, fast = map(Path, sys.argv[1:])
    runtime = runtime_named("onnxruntime")
    images = np.random.default_rng(0).standard_normal((1, *shape_of(slow)), dtype=np.float32)
    print(
        "| busy processes | preempted | half | half or five | half or five, else CPU time "
        "| slower model, ms | undisturbed enough: half, five |"
    )
    print("|---|---|---|---|---|---|---|")
    for busy in (0, 1, 2):
        for seed in range(REPEATS):
            others = [subprocess.Popen(BUSY) for _ in range(busy)]
            try:
                timing = protocol.measure(
                    {
                        path.stem: partial(runtime.load, Subject(path.name, path=path), threads=1)
                        for path in (slow, fast)
                    },
                    {path.stem: images for path in (slow, fast)},
                    min_rounds=ROUNDS,
                    max_rounds=ROUNDS,
                    seed=seed,
                )
            finally:
                for other in others:
                    other.kill()
                    other.wait()
            cells, enough = [], []
            for needed in (10**9, estimates.CLEAN_CALLS):
                rounds = {
                    name: [median(one[name], needed) for one in timing.rounds]
                    for name in timing.names
                }
                ratio = estimates.ratio_of_rounds(
                    *(np.array([value for value, _ in rounds[path.stem]]) for path in (slow, fast))
                )
                cells.append(shown(ratio))
                enough.append(f"{sum(clean for _, clean in rounds[slow.stem])} of {ROUNDS}")
            cells.append(shown(timing.ratio(slow.stem, fast.stem)))
            cells.append(shown(timing.latency(slow.stem), 1e3))
            share = timing.preempted_share(slow.stem) or 0.0
            print(f"| {busy} | {share:.0%} | {' | '.join(cells)} | {', '.join(enough)} |")


def shown(found: Estimate | None, scale: float = 1.0) -> str:
    if found is None:
        return ""
    return f"{found.value * scale:.2f} ({found.low * scale:.2f} to {found.high * scale:.2f})"


def median(calls: protocol.Calls, needed: int) -> tuple[float, bool]:
    """Of a round, by the rule that ``needed`` undisturbed calls are enough, and half always."""
    if calls.preempted is None:
        sys.exit("This system does not count preemptions.")
    clean = calls.wall_s[~calls.preempted]
    if len(clean) >= min(needed, len(calls.wall_s) / 2):
        return float(np.median(clean)), True
    return float(np.median(calls.wall_s)), False


def shape_of(path: Path) -> tuple[int, int, int]:
    """Channels, height and width that a file takes."""
    spec = read_artifact(path).spec
    if spec is None:
        sys.exit(f"{path} does not say what it takes.")
    return spec.input_shape


if __name__ == "__main__":
    main()
