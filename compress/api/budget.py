"""What a student may cost, in the units of the options."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from compress.spec import Budget


def budget_of(
    *,
    budget_ms: float | None,
    headroom: float | None,
    budget_mb: float | None,
    speedup: float | None,
    batch: int,
    percentile: float,
    threads: int | None,
    runtime: str,
    precision: str,
    tradeoff: Path | None,
) -> Budget:
    """The budget that the arguments of ``compress.distill`` describe; it may be without a limit.

    Raises:
        UsageError: a limit, the batch, the percentile, the threads, the runtime or the precision
            are impossible.
    """
    from compress.errors import UnknownName, UsageError
    from compress.profiling.machine import default_headroom, default_threads
    from compress.profiling.registry import RUNTIMES
    from compress.spec import AUTO, FASTEST, PRECISIONS, Budget, Target
    from compress.tradeoff.storage import read_table

    if precision not in (*PRECISIONS, AUTO):
        raise UnknownName("precision", precision, (*PRECISIONS, AUTO))
    if runtime != FASTEST and runtime not in RUNTIMES:
        raise UnknownName("runtime", runtime, (*RUNTIMES, FASTEST))
    if runtime != FASTEST and RUNTIMES[runtime].takes != "onnx":
        serve = [name for name, entry in RUNTIMES.items() if entry.takes == "onnx"]
        raise UsageError(
            f"--runtime is {runtime}, which cannot run the student's ONNX file. Use one of "
            f"{', '.join(serve)} or {FASTEST}."
        )
    if headroom is None:
        # What is left free is what the machine needs that serves, which a table is of.
        there = None if tradeoff is None else read_table(tradeoff).machine.get("virtual")
        share = 0.0 if budget_ms is None else default_headroom(there)
    elif budget_ms is None:
        raise UsageError("--headroom is a part of --budget-ms; give --budget-ms, too.")
    else:
        share = headroom / 100
    return Budget(
        latency_s=None if budget_ms is None else budget_ms / 1e3,
        size_bytes=None if budget_mb is None else budget_mb * 1e6,
        speedup=speedup,
        batch=batch,
        percentile=percentile,
        headroom=share,
        target=Target(
            runtime=runtime,
            device="cpu" if runtime == FASTEST else RUNTIMES[runtime].device,
            precision=precision,
            threads=default_threads() if threads is None else threads,
        ),
    )
