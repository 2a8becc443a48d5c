"""What it costs to name a session's outputs within the call that is timed.

    python -m benchmarks.named_outputs model.onnx

Each way is called in blocks that take turns in random order; printed are medians over the blocks of
a call's CPU time on one thread, and of its difference to the call that names nothing.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from compress.profiling.inputs import make_input
from compress.profiling.registry import available, runtime_named
from compress.profiling.runtime import Subject

CALLS, BLOCKS = 50, 301
RUNTIMES = ("onnxruntime", "openvino")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path, help="an ONNX file of a few operations")
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    options = parser.parse_args()
    for name in filter(available, RUNTIMES):
        for way, (call_us, more_us) in measure(name, options.model, options.blocks).items():
            print(f"{name}, {way}: {call_us:.2f} us a call, {more_us:+.2f} us")


def measure(runtime: str, path: Path, blocks: int) -> dict[str, tuple[float, float]]:
    """Way -> microseconds of a call, and how many more than one that names nothing takes."""
    subject, engine = Subject(path.name, path=path), runtime_named(runtime)
    images = make_input(engine, subject, batch=1)
    session = engine.load(subject, threads=1, images=images)

    def named() -> None:
        session.infer(images)
        session.outputs()

    ways: Mapping[str, Callable[[], None]] = {
        "named afterwards": lambda: session.infer(images),
        "named within the call": named,
    }
    for way in ways.values():
        block_us(way)
    rows = []
    for _ in range(blocks):
        order = random.sample(list(ways), len(ways))
        found = {way: block_us(ways[way]) for way in order}
        rows.append([found[way] for way in ways])
    session.close()
    table = np.array(rows)
    return {
        way: (float(np.median(column)), float(np.median(column - table[:, 0])))
        for way, column in zip(ways, table.T, strict=True)
    }


def block_us(call: Callable[[], None]) -> float:
    """Microseconds of CPU time that a call of a block takes."""
    begun = time.thread_time_ns()
    for _ in range(CALLS):
        call()
    return (time.thread_time_ns() - begun) / CALLS / 1e3


if __name__ == "__main__":
    main()
