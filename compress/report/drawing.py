"""Pictures of a document as files, where matplotlib is installed (the extra ``plots``)."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.errors import UsageError
from compress.files import atomic_path
from compress.report.document import Axis, Chart, Mark, Picture, Rule, Series
from compress.report.values import plain
from compress.results import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
HOW_TO_GET = (
    'Pictures need matplotlib: python -m pip install "compress-distill[plots]"; the same command '
    "then draws them."
)
# Okabe and Ito's colours, which the colour-blind tell apart, without black and yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
INK = "#222222"
# Marker and line by the style of a series.
MARKERS, LINES = ("o", "s", "^", "v"), ("-", "--", "-.", ":")
DPI = 150
# Characters of a caption and of a legend in an inch.
CAPTION, LEGEND = 17, 13


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def check(path: Path) -> None:
    """Refuses what could not be drawn, before anything is measured.

    Raises:
        UsageError: another format than PNG or SVG, or no matplotlib.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--plot is {path}; its name has to end with {' or '.join(FORMATS)}.")
    if not available():
        raise UsageError(HOW_TO_GET)


def draw(picture: Picture, path: Path) -> Path:
    """Writes a picture as PNG or SVG; the same picture is the same file.

    Raises:
        UsageError: the folder cannot be written to.
    """
    from matplotlib import rc_context

    figure = figure_of(picture)
    kind = path.suffix.lower().removeprefix(".")
    # What has drawn it and when are left out.
    metadata = {"Software": None} if kind == "png" else {"Date": None}
    with atomic_path(path) as temporary, rc_context({"svg.hashsalt": "compress"}):
        figure.savefig(temporary, dpi=DPI, format=kind, metadata=metadata)
    return path


def figure_of(picture: Picture) -> Figure:
    """The charts, one legend above them, and the caption below."""
    from matplotlib.figure import Figure

    charts = picture.charts
    places = [len(chart.y.names) + 1 for chart in charts]
    one = 7.5 if len(charts) == 1 else 11.0
    width, height = (8.5, 1.9 + 0.32 * sum(places)) if picture.stacked else (one, 4.8)
    figure = Figure(figsize=(width, height), layout="constrained")
    alike_x, alike_y = (
        len(axes) == 1 for axes in ({chart.x for chart in charts}, {chart.y for chart in charts})
    )
    shape = (len(charts), 1) if picture.stacked else (1, len(charts))
    panels = figure.subplots(
        *shape,
        squeeze=False,
        sharey=alike_y,
        height_ratios=places if picture.stacked else None,
    )
    for place, (chart, axes) in enumerate(zip(charts, panels.flat, strict=True)):
        _chart(axes, chart)
        if not (picture.stacked and alike_x and place < len(charts) - 1):
            axes.set_xlabel(_text(chart.x.title))
        if picture.stacked or not (alike_y and place):
            axes.set_ylabel(_text(chart.y.title))
    _legend(figure, panels.flat)
    caption = textwrap.wrap(_text(picture.caption), int(width * CAPTION))
    figure.supxlabel("\n".join(caption), fontsize=8, x=0.01, ha="left")
    return figure


def _legend(figure: Figure, panels: Iterable[Axes]) -> None:
    """Each name once, above the charts: inside it would lie over the data."""
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        columns = int(figure.get_figwidth() * LEGEND) // (max(map(len, handles)) + 6)
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside upper left",
            ncols=max(1, columns),
            frameon=False,
            fontsize=9,
        )


def _chart(axes: Axes, chart: Chart) -> None:
    for series in chart.series:
        _series(axes, series)
    for rule in chart.rules:
        _rule(axes, rule)
    for axis, which in ((chart.x, "x"), (chart.y, "y")):
        _scale(axes, axis, which)
    axes.set_title(_text(chart.title), loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _series(axes: Axes, series: Series) -> None:
    x, y = [point.x for point in series.points], [point.y for point in series.points]
    places, heights = list(map(_value, x)), list(map(_value, y))
    colour = INK if series.hue is None else COLOURS[series.hue % len(COLOURS)]
    marker, line = MARKERS[series.style], LINES[series.style]
    how: dict[str, Any] = {"color": colour, "label": _label(series.name)}
    if series.mark is Mark.BARS:
        width = places[1] - places[0] if len(places) > 1 else 1.0
        axes.bar(places, heights, width, alpha=0.65, **how)
    elif series.mark is Mark.STEPS:
        axes.step(places, heights, where="post", linewidth=1.5, **how)
    elif series.hollow:
        axes.plot(places, heights, "D", fillstyle="none", **how)
    elif series.mark is Mark.BAND:
        axes.plot(
            places, heights, line, linewidth=1.5, marker=marker if len(places) == 1 else "", **how
        )
        low, high = _ends(y)
        if low != high:
            axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
    else:
        axes.errorbar(
            places,
            heights,
            xerr=_errors(x),
            yerr=_errors(y),
            fmt=marker + (line if series.mark is Mark.LINE else ""),
            capsize=3,
            **how,
        )


def _rule(axes: Axes, rule: Rule) -> None:
    colour = INK if rule.hue is None else COLOURS[rule.hue % len(COLOURS)]
    how: dict[str, Any] = {
        "color": colour,
        "label": _label(rule.name),
        "linestyle": "--" if rule.name else ":",
        "linewidth": 1.2 if rule.name else 0.8,
    }
    if rule.x is not None:
        axes.axvline(rule.x, **how)
    if rule.y is not None:
        axes.axhline(rule.y, **how)


def _scale(axes: Axes, axis: Axis, which: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    shown = axes.xaxis if which == "x" else axes.yaxis
    if axis.logarithmic:
        # Ticks at 1, 2, 5 and 10, written as such.
        axes.set(**{f"{which}scale": "log"})
        shown.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        shown.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        shown.set_minor_formatter(NullFormatter())
    if axis.from_zero:
        axes.set(**{f"{which}lim": (0, None)})
    if axis.names:
        shown.set_ticks(range(len(axis.names)), list(map(_text, axis.names)))
        axes.set(**{f"{which}lim": (len(axis.names) - 0.5, -0.5)})


def _value(found: float | Estimate) -> float:
    return found.value if isinstance(found, Estimate) else found


def _ends(values: Iterable[float | Estimate]) -> tuple[list[float], list[float]]:
    ends = [
        (found.low, found.high) if isinstance(found, Estimate) else (found, found)
        for found in values
    ]
    return [low for low, _ in ends], [high for _, high in ends]


def _errors(values: list[float | Estimate]) -> list[list[float]] | None:
    """Lengths of the intervals below and above each value; None where there is no interval."""
    if not any(isinstance(found, Estimate) for found in values):
        return None
    middle, (low, high) = list(map(_value, values)), _ends(values)
    return [
        [there - below for there, below in zip(middle, low, strict=True)],
        [above - there for there, above in zip(middle, high, strict=True)],
    ]


def _text(text: str) -> str:
    """Text as it stands: matplotlib would set what is between dollars as a formula."""
    return plain(text).replace("$", "\\$")


def _label(name: str) -> str:
    """The same for a legend, which leaves out names that begin with an underscore."""
    return f" {_text(name)}" if name.startswith("_") else _text(name)
