"""The picture of a profile, where matplotlib is installed (the extra ``plots``).

Left: every call's latency, as a distribution. Right: what the latency buys, or costs: parameters
against time, with the interval of the median.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.errors import UsageError
from compress.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from compress.results import Profile, ProfileReport, RuntimeProfile

FORMATS = (".png", ".svg")
HOW_TO_GET = (
    'The picture needs matplotlib: python -m pip install "compress-distill[plots]"; the same '
    "command then draws it."
)
# Okabe and Ito's colours, which the colour-blind tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666", "#000000")
DPI = 150
# Calls beyond this quantile are told in the legend and not drawn: one call that was kept waiting
# would make a line of all others.
SHOWN = 0.99


def check(path: Path) -> None:
    """Refuses what could not be drawn, before anything is measured.

    Raises:
        UsageError: another format than PNG or SVG, or no matplotlib.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--plot is {path}; its name has to end with {' or '.join(FORMATS)}.")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(HOW_TO_GET)


def draw(report: ProfileReport, path: Path) -> None:
    """Draws latency distributions, and parameters against latency.

    Raises:
        UsageError: the folder cannot be written to.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    models = [one for one in (report.model, report.against) if one is not None]
    columns = [(one, run) for one in models for run in one.runs]
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (one, run), colour in zip(columns, _colours(len(columns)), strict=True):
        label = f"{one.name}, {run.runtime}"
        _distribution(left, run, colour, label)
        _point(right, one, run, colour, label)
    left.set_xlabel("latency of a call (ms)")
    left.set_ylabel("share of calls that took no longer")
    right.set_xlabel("median latency (ms), with its 95% interval")
    right.set_ylabel("parameters (millions)")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        if _spread([run for _, run in columns]) > 10:
            _logarithmic(axes)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(_title(report), fontsize=10, x=0.01, ha="left")
    kind = path.suffix.lower().removeprefix(".")
    # What is drawn when says nothing; without it the same report is the same file.
    metadata = {"Software": None} if kind == "png" else {"Date": None}
    with atomic_path(path) as temporary, rc_context({"svg.hashsalt": "compress"}):
        figure.savefig(temporary, dpi=DPI, format=kind, metadata=metadata)


def _colours(count: int) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(count)]


def _distribution(axes: Axes, run: RuntimeProfile, colour: str, label: str) -> None:
    """The share of calls that took no longer than x, and where the median lies."""
    ordered = np.sort(np.array(run.calls_s)) * 1e3
    drawn = ordered[: max(1, int(np.ceil(SHOWN * len(ordered))))]
    shares = np.arange(1, len(drawn) + 1) / len(ordered)
    left_out = len(ordered) - len(drawn)
    slowest = f"; {left_out} slower, up to {ordered[-1]:.3g} ms" if left_out else ""
    axes.step(
        drawn,
        shares,
        where="post",
        color=colour,
        linewidth=1.5,
        label=f"{label} (n = {len(ordered)}{slowest})",
    )
    axes.axvline(run.latency.value * 1e3, color=colour, linewidth=0.8, linestyle=":")


def _point(axes: Axes, one: Profile, run: RuntimeProfile, colour: str, label: str) -> None:
    latency = run.latency
    axes.errorbar(
        latency.value * 1e3,
        one.costs.params / 1e6,
        xerr=[[(latency.value - latency.low) * 1e3], [(latency.high - latency.value) * 1e3]],
        fmt="o",
        color=colour,
        capsize=3,
        label=label,
    )


def _logarithmic(axes: Axes) -> None:
    """Ticks at 1, 2, 5 and 10, written as such."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _spread(runs: list[RuntimeProfile]) -> float:
    medians = [run.latency.value for run in runs]
    return max(medians) / min(medians)


def _title(report: ProfileReport) -> str:
    first = report.model.runs[0]
    threads = f"{first.threads} thread{'s' if first.threads > 1 else ''}"
    speedup = report.speedup
    claim = (
        ""
        if speedup is None
        else f"; speed-up {speedup.value:.2f} ({speedup.low:.2f} to {speedup.high:.2f})"
    )
    return (
        f"{report.machine.cpu}, batch {first.batch}, {threads}{claim}. Dotted: the medians, of "
        "undisturbed calls."
    )
