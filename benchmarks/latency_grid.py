"""Times every candidate of `compress select`, and looks whether latency grows with depth and width.

    python benchmarks/latency_grid.py --threads 2 --batch 1 --output benchmarks/results/GRID.csv

The search of `compress select` leaves out what a timed candidate dominates: the same family, no
shallower, no narrower. That is sound if a dominating candidate is never faster by more than the
margin of compress/tradeoff/search.py. This program measures by how much it ever is.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

from compress.export.to_onnx import onnx_for_timing
from compress.profiling.machine import fingerprint
from compress.profiling.timing import time_model
from compress.results import Estimate
from compress.spec import ModelSpec
from compress.tradeoff.candidates import dominates, grid
from compress.tradeoff.measure import untrained
from compress.units import format_time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--limit", type=int, help="only so many candidates, for a trial")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    machine = fingerprint()
    candidates = [c.spec for c in grid(num_classes=10, input_shape=(3, 32, 32))][: options.limit]
    found: dict[str, Estimate] = {}
    lines = [
        f"# {time.strftime('%Y-%m-%d')}, {machine.cpu}, {machine.cpus} CPUs, "
        f"{' '.join(machine.isa)}, onnxruntime {machine.engines['onnxruntime']}",
        f"# threads {options.threads}, batch {options.batch}, fp32, 3x32x32, 10 classes",
        "candidate,latency_ms,low_ms,high_ms,rounds,size_bytes",
    ]
    with tempfile.TemporaryDirectory() as folder:
        sizes = {}
        for spec in candidates:
            sizes[spec.name] = onnx_for_timing(
                untrained(spec), Path(folder) / f"{spec.name}.onnx", spec=spec
            )
        for spec in candidates:
            timing = time_model(
                Path(folder) / f"{spec.name}.onnx",
                batch=options.batch,
                threads=options.threads,
                max_s=12,
            )
            latency = found[spec.name] = timing.latency
            lines.append(
                f"{spec.name},{latency.value * 1e3:.4f},{latency.low * 1e3:.4f},"
                f"{latency.high * 1e3:.4f},{timing.rounds},{sizes[spec.name]}"
            )
            print(lines[-1], flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    report(candidates, found)


def report(candidates: list[ModelSpec], found: dict[str, Estimate]) -> None:
    pairs = [
        (found[larger.name].value / found[smaller.name].value, smaller, larger)
        for smaller, larger in itertools.permutations(candidates, 2)
        if dominates(larger, smaller)
    ]
    inversions = sorted((pair for pair in pairs if pair[0] < 1), key=lambda pair: pair[0])
    print(f"{len(pairs)} pairs in which one dominates the other, {len(inversions)} inverted:")
    for ratio, smaller, larger in inversions:
        print(
            f"  {larger.name} {format_time(found[larger.name].value)} is {1 - ratio:.1%} faster "
            f"than {smaller.name} {format_time(found[smaller.name].value)}"
        )
    sure = [found[larger.name].high / found[smaller.name].low for _, smaller, larger in pairs]
    print(f"smallest upper end of a larger one over lower end of a smaller one: {min(sure):.3f}")


if __name__ == "__main__":
    main()
