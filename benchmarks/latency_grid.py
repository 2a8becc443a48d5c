"""Times every candidate of `compress select`, and looks whether latency grows with depth and width.

    python benchmarks/latency_grid.py --threads 2 --batch 1 --output benchmarks/results/GRID.csv

The search of `compress select` leaves out what a timed candidate dominates: the same family, no
shallower, no narrower. That is sound if a dominating candidate is never faster by more than the
margin of compress/tradeoff/search.py. This program measures by how much it ever is.

Candidates are timed one after the other, so the machine may have changed between two of them.
Pairs that come out the wrong way round are therefore timed again in the same rounds, which tells
a property of the kernels from one of the day. Candidates that the output has already are not timed
again, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

from compress.exporting.to_onnx import onnx_for_timing
from compress.profiling.machine import fingerprint
from compress.profiling.timing import time_model, time_models
from compress.results import Estimate
from compress.spec import ModelSpec
from compress.tradeoff.candidates import dominates, grid
from compress.tradeoff.measure import untrained

COLUMNS = "candidate,latency_ms,low_ms,high_ms,rounds,size_bytes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--limit", type=int, help="only so many candidates, for a trial")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds after each candidate")
    parser.add_argument("--note", default="", help="a line for the head of the file")
    parser.add_argument("--folder", type=Path, help="keep the exported files there")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    specs = [c.spec for c in grid(num_classes=10, input_shape=(3, 32, 32))][: options.limit]
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = sweep(specs, folder, options)
        checks = compare(specs, found, folder, options)
    lines = [line for line in options.output.read_text("utf-8").splitlines() if line[:4] != "# > "]
    lines += [f"# > {check}" for check in checks]
    options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def sweep(specs: list[ModelSpec], folder: Path, options: argparse.Namespace) -> dict[str, Estimate]:
    """Times what the output does not have yet, one after the other, and adds it there."""
    output: Path = options.output
    if not output.exists():
        machine = fingerprint()
        output.parent.mkdir(parents=True, exist_ok=True)
        head = [
            f"# {time.strftime('%Y-%m-%d')}, {machine.cpu}, {machine.cpus} CPUs, "
            f"{' '.join(machine.isa)}, onnxruntime {machine.engines['onnxruntime']}",
            f"# threads {options.threads}, batch {options.batch}, fp32, 3x32x32, 10 classes",
            *([f"# {options.note}"] if options.note else []),
            COLUMNS,
        ]
        output.write_text("\n".join(head) + "\n", encoding="utf-8")
    found = read(output)
    for spec in specs:
        if spec.name not in found:
            path = exported(spec, folder)
            timing = time_model(path, batch=options.batch, threads=options.threads, max_s=6)
            low, value, high = (
                end * 1e3 for end in (timing.latency.low, timing.latency.value, timing.latency.high)
            )
            line = f"{spec.name},{value:.4f},{low:.4f},{high:.4f},{timing.rounds}"
            with output.open("a", encoding="utf-8") as file:
                file.write(f"{line},{path.stat().st_size}\n")
            print(line, flush=True)
            time.sleep(options.pause)
    return read(output)


def compare(
    specs: list[ModelSpec], found: dict[str, Estimate], folder: Path, options: argparse.Namespace
) -> list[str]:
    """What came out the wrong way round, and what it is in the same rounds."""
    pairs = [
        (found[larger.name].value / found[smaller.name].value, smaller, larger)
        for smaller, larger in itertools.permutations(specs, 2)
        if dominates(larger, smaller)
    ]
    inverted = sorted((pair for pair in pairs if pair[0] < 1), key=lambda pair: pair[0])
    lines = [
        f"{len(pairs)} pairs of a smaller and a larger candidate; {len(inverted)} the wrong way "
        f"round when timed one after the other"
    ]
    for ratio, smaller, larger in inverted:
        timing = time_models(
            {spec.name: exported(spec, folder) for spec in (larger, smaller)},
            batch=options.batch,
            threads=options.threads,
            max_s=10,
        )
        together = timing.ratio(larger.name, smaller.name)
        lines.append(
            f"{larger.name} / {smaller.name}: {ratio:.3f}; in the same rounds {together.value:.3f} "
            f"({together.low:.3f} to {together.high:.3f})"
        )
        time.sleep(options.pause)
    print("\n".join(lines))
    return lines


def exported(spec: ModelSpec, folder: Path) -> Path:
    path = folder / f"{spec.name}.onnx"
    if not path.exists():
        onnx_for_timing(untrained(spec), path, spec=spec)
    return path


def read(path: Path) -> dict[str, Estimate]:
    rows = [
        line.split(",")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line[:1] != "#" and line != COLUMNS
    ]
    return {
        name: Estimate(float(value) / 1e3, float(low) / 1e3, float(high) / 1e3)
        for name, value, low, high, *_ in rows
    }


if __name__ == "__main__":
    main()
