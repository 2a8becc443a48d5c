r"""What choosing the precision with the architecture is worth: auto against fp32, budget by budget.

    python -m benchmarks.precision_auto --budgets-ms 0.3,0.5,0.8,1.3,2 --trials runs/auto \
        --output benchmarks/results/precision_auto.md -- \
        --data cifar10.npz --teacher resnet56.th --epochs 20 --threads 1

For each budget `compress distill` runs twice, with `--precision auto` and with fp32; what follows
`--` is told to both. Each begins with nothing remembered but the teacher's outputs, so that no run
predicts for another. The program can be stopped and started, as its runs can.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.agreement import heading
from compress.files import read_json, write_text
from compress.spec import AUTO
from compress.units import format_bytes, format_percent

PRECISIONS = (AUTO, "fp32")
# What `compress` begins the line with that says why it failed.
ERROR = "error: "
# A run that is told to stop saves its state first.
STOP_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--budgets-ms", required=True, help="0.3,0.5,0.8,1.3,2")
    parser.add_argument("--trials", type=Path, required=True, help="a folder")
    parser.add_argument("--output", type=Path, required=True, help="a Markdown file")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("distill", nargs="*", help="further options of `compress distill`")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    options.trials.mkdir(parents=True, exist_ok=True)
    budgets = [float(text) for text in options.budgets_ms.split(",")]
    for budget_ms in budgets:
        for precision in PRECISIONS:
            run(options.trials, budget_ms, precision, options.distill, end)
    text = "\n".join(markdown(options.trials, budgets, options.distill))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(options.output, text)
    print(text)


def folder(trials: Path, budget_ms: float, precision: str) -> Path:
    """Of one run."""
    return trials / f"{budget_ms:g}ms-{precision}"


def log_of(out: Path) -> Path:
    """What a run said."""
    return out.with_name(f"{out.name}.log")


def run(trials: Path, budget_ms: float, precision: str, more: list[str], end: float) -> None:
    """Begins a run, or goes on with it, until ``end`` of the monotonic clock at most."""
    out = folder(trials, budget_ms, precision)
    left_s = end - time.monotonic()
    if (out / "result.json").exists() or left_s <= 0:
        return
    command = [sys.executable, "-m", "compress", "distill", *more, "--out", str(out)]
    command += ["--budget-ms", f"{budget_ms:g}", "--precision", precision]
    command += ["--outputs-dir", str(trials / "outputs")]
    print(" ".join(command), flush=True)
    with log_of(out).open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"COMPRESS_CACHE": str(out.with_name(f"{out.name}-cache"))},
        )
        try:
            process.wait(None if left_s == math.inf else left_s)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait(STOP_S)


def found(trials: Path, budget_ms: float, precision: str) -> dict[str, Any] | None:
    """What came of a run; None where it has not ended."""
    out = folder(trials, budget_ms, precision)
    if not (out / "result.json").exists():
        return None
    result, choice = (read_json(out / name) for name in ("result.json", "choice.json"))
    chosen = next(row for row in choice["candidates"] if row["status"] == "chosen")
    return {"predicted": 1 - chosen["predicted_error"], **result}


def said(trials: Path, budget_ms: float, precision: str) -> str:
    """Why a run has no result: its error, or that it has not ended."""
    log = log_of(folder(trials, budget_ms, precision))
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    errors = [line for line in lines if line.startswith(ERROR)]
    return errors[-1].removeprefix(ERROR) if errors else "not ended"


def markdown(trials: Path, budgets: list[float], more: list[str]) -> list[str]:
    """The page, of whatever there is."""
    page = [
        "# Precision chosen with the architecture, against fp32 only",
        "",
        heading(),
        "",
        f"`compress distill {' '.join(more)} --budget-ms B --precision P`; latencies and sizes are "
        "those of the file that ships, accuracies its own.",
        "",
        "| budget, ms | asked | student | predicted | validation | test | ms | size | budget |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    gains, about = [], []
    for budget_ms in budgets:
        reached: dict[str, float] = {}
        for precision in PRECISIONS:
            each = found(trials, budget_ms, precision)
            if each is None:
                why = said(trials, budget_ms, precision)
                page.append(f"| {budget_ms:g} | {precision} | {why} |  |  |  |  |  |  |")
                continue
            student, accuracy = each["student"], each["student"]["accuracy"]
            reached[precision] = accuracy["test"]
            page.append(
                f"| {budget_ms:g} | {precision} | {student['name']}, {student['precision']} | "
                f"{format_percent(each['predicted'])} | {format_percent(accuracy['validation'])} | "
                f"{format_percent(accuracy['test'])} | {milliseconds(student['latency_ms'])} | "
                f"{format_bytes(student['size_bytes'])} | {each['budget']['outcome']} |"
            )
            about += losses(budget_ms, each)
        if len(reached) == len(PRECISIONS):
            gains.append(100 * (reached[AUTO] - reached["fp32"]))
    page.append("")
    if gains:
        told = ", ".join(f"{gain:+.2f}" for gain in gains)
        page += [f"Points of test accuracy that auto gained at the same budget: {told}.", ""]
    return [*page, *about]


def losses(budget_ms: float, result: dict[str, Any]) -> list[str]:
    """What the precision that ships lost on validation images, and what fine-tuning did."""
    shipped = result.get("precisions", {}).get(result["student"]["precision"])
    if shipped is None:
        return []
    lines = [f"- {budget_ms:g} ms, against the same student in fp32: {shipped['why']}."]
    tuning = shipped.get("fine_tuning")
    if tuning is not None:
        taken = "taken" if tuning["taken"] else "not taken"
        after = "it diverged" if tuning["after"] is None else tuning["after"]["why"]
        lines.append(
            f"  Fine-tuned for {tuning['epochs']} epochs, {taken}: before, "
            f"{tuning['before']['why']}; after, {after}."
        )
    return lines


def milliseconds(latency: dict[str, float] | None) -> str:
    """'1.21 (1.19 to 1.24)'."""
    if latency is None:
        return ""
    return f"{latency['median']:.3f} ({latency['low']:.3f} to {latency['high']:.3f})"


if __name__ == "__main__":
    main()
