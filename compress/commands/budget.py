"""The options that say what a student may cost. Imports click alone, so that --help stays fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from compress.commands.options import Decorator, chain, parse_percent

if TYPE_CHECKING:
    from pathlib import Path

    from compress.spec import Budget


def budget_options() -> Decorator:
    """What a student may cost and how that is measured; ``read_budget`` reads them."""
    return chain(
        click.option("--budget-ms", type=float, help="Latency budget: milliseconds per call."),
        click.option(
            "--headroom",
            metavar="PERCENT",
            help="Part of --budget-ms left free when the student is chosen, because a machine is "
            "not always equally fast. [default: 20% on a virtual machine, else 3%]",
        ),
        click.option(
            "--budget-mb", type=float, help="Size budget: megabytes (10^6 bytes) of the file."
        ),
        click.option(
            "--speedup", type=float, help="How many times faster than the teacher, measured here."
        ),
        click.option("--batch", type=int, default=1, show_default=True, help="Images per call."),
        click.option(
            "--percentile",
            type=float,
            default=50.0,
            show_default=True,
            help="Percentile of the latency that the budget applies to.",
        ),
        click.option(
            "--threads",
            type=int,
            help="Threads that serve the model. [default: the cores that this process may use]",
        ),
        click.option(
            "--runtime",
            default="onnxruntime",
            show_default=True,
            help="Runtime that serves the model: onnxruntime, openvino, onnxruntime-cuda, "
            "onnxruntime-tensorrt, tensorrt or tensorrt-rtx; fastest takes the installed one that "
            "runs a mid-sized candidate fastest.",
        ),
        click.option(
            "--precision",
            default="fp32",
            show_default=True,
            help="Precision of the file: fp32, fp16, bf16 or int8; auto chooses it together with "
            "the network. A reduced precision that is not faster here is not used.",
        ),
    )


def read_budget(options: dict[str, Any], tradeoff: Path | None = None) -> Budget:
    """The budget that ``budget_options`` describe; it may be without a limit.

    Raises:
        UsageError: a limit, the batch, the percentile, the threads, the runtime or the precision
            are impossible.
    """
    from compress.errors import UnknownName, UsageError
    from compress.profiling.machine import default_headroom, default_threads
    from compress.profiling.registry import RUNTIMES
    from compress.spec import AUTO, FASTEST, PRECISIONS, Budget, Target
    from compress.tradeoff.storage import read_table

    runtime, precision = options["runtime"], options["precision"]
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
    time_ms, size_mb, threads = (options[key] for key in ("budget_ms", "budget_mb", "threads"))
    headroom = 0.0
    if options["headroom"] is not None:
        if time_ms is None:
            raise UsageError("--headroom is a part of --budget-ms; give --budget-ms, too.")
        headroom = parse_percent(options["headroom"], "--headroom")
    elif time_ms is not None:
        # What is left free is what the machine needs that serves, which a table is of.
        there = None if tradeoff is None else read_table(tradeoff).machine.get("virtual")
        headroom = default_headroom(there)
    return Budget(
        latency_s=None if time_ms is None else time_ms / 1e3,
        size_bytes=None if size_mb is None else size_mb * 1e6,
        speedup=options["speedup"],
        batch=options["batch"],
        percentile=options["percentile"],
        headroom=headroom,
        target=Target(
            runtime=runtime,
            device="cpu" if runtime == FASTEST else RUNTIMES[runtime].device,
            precision=precision,
            threads=default_threads() if threads is None else threads,
        ),
    )
