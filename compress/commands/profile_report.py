"""What ``compress profile`` found, for people: tables on a terminal, or in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.units import format_bytes, format_count, format_time

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from compress.results import Estimate, Layers, Profile, ProfileReport, RuntimeProfile

    Column = tuple[Profile, RuntimeProfile]
    Row = tuple[str, list[str]]

LABEL_WIDTH = 15
NAME_WIDTH = 32
# More columns do not fit a terminal of 80 characters; each model then has a table of its own.
COLUMNS = 3
MULTIPLICATIONS_ONLY = "MACs count convolutions and matrix products, but not "


def print_report(report: ProfileReport) -> None:
    """Prints tables and what is said below them on stdout."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    for title, columns in _tables(report):
        if title:
            console.print(f"\n{title}")
        console.print(_table(_rows(columns, title), _headers(columns, title), console.width))
    for line in _lines(report):
        console.print(line, soft_wrap=not console.is_terminal)
    if report.layers is not None:
        _print_layers(console, report.layers)


def markdown_of(report: ProfileReport) -> str:
    """The same in Markdown: a pull request's comment, a step summary, an issue."""
    parts = []
    for title, columns in _tables(report):
        if title:
            parts.append(f"**{_cell(title)}**")
        headers = [_cell(header) for header in _headers(columns, title)]
        parts.append(
            _markdown(["", *headers], [[label, *cells] for label, cells in _rows(columns, title)])
        )
    parts.append("\n".join(f"- {_cell(line)}" for line in _lines(report)))
    if report.layers is not None:
        layers = report.layers
        parts.append(f"**{layers_title(layers)}**")
        parts.append(_markdown(list(LAYER_HEADERS), _layer_rows(layers)))
        parts.append("\n".join(f"- {_cell(line)}" for line in _layer_lines(layers)))
    return "\n\n".join(parts)


def _tables(report: ProfileReport) -> list[tuple[str, list[Column]]]:
    """Title and columns of each table; one table without a title where there are few columns."""
    models = [one for one in (report.model, report.against) if one is not None]
    columns = [(one, run) for one in models for run in one.runs]
    if len(columns) > COLUMNS:
        return [(one.name, [(one, run) for run in one.runs]) for one in models]
    # Those that are compared stand side by side.
    columns.sort(key=lambda column: column[1].runtime == "torch")
    return [("", columns)]


def _headers(columns: Sequence[Column], title: str) -> list[str]:
    return [run.runtime if title else one.name for one, run in columns]


def _table(rows: Sequence[Row], headers: Sequence[str], width: int) -> Table:
    """A row a figure, a column a model in a runtime."""
    from rich import box
    from rich.table import Table

    # The frame and the space behind the labels take four columns, that behind a figure two.
    room = (width - LABEL_WIDTH - 4) // len(headers) - 2
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True, min_width=LABEL_WIDTH)
    for header in headers:
        table.add_column(
            _shorten(header, max(12, min(room, NAME_WIDTH))), justify="right", no_wrap=True
        )
    for label, cells in rows:
        table.add_row(label, *cells)
    return table


def _rows(columns: Sequence[Column], title: str) -> list[Row]:
    """Label and one cell a column of each figure; those that no column has are left out."""
    runs = [run for _, run in columns]
    names = ["torch eager" if run.runtime == "torch" else run.runtime for run in runs]
    rows: list[Row] = [] if title else [("runtime", names)]
    rows += [
        ("precision", [run.precision for run in runs]),
        ("latency, median", [format_time(run.latency.value) for run in runs]),
        ("  95% interval", [_interval(run.latency) for run in runs]),
        ("p90 (bound)", [_bounded(run.p90) for run in runs]),
        ("p99 (bound)", [_bounded(run.p99) for run in runs]),
        ("calls, outliers", [f"{run.calls:,}, {run.outliers:,}" for run in runs]),
        ("preempted", ["?" if run.preempted is None else f"{run.preempted:.0%}" for run in runs]),
    ]
    if any(run.copies_s is not None for run in runs):
        rows.append(("of it copies", [_time(run.copies_s) for run in runs]))
    rows += [
        ("load", [format_time(run.load_s) for run in runs]),
        ("first call", [format_time(run.first_s) for run in runs]),
    ]
    for place, speed in enumerate(runs[0].throughput):
        cells = [f"{run.throughput[place].images_per_s:,.0f}" for run in runs]
        rows.append((f"images/s at {speed.batch}", cells))
    rows += [
        ("memory", ["?" if r.memory_bytes is None else format_bytes(r.memory_bytes) for r in runs]),
        ("size", [format_bytes(one.size_bytes) for one, _ in columns]),
        ("parameters", [f"{one.costs.params:,}" for one, _ in columns]),
        ("MACs an image", [format_count(one.costs.macs) for one, _ in columns]),
        (
            "MACs a second",
            ["?" if r.macs_per_s is None else format_count(r.macs_per_s) for r in runs],
        ),
        ("share of peak", [_share(run) for run in runs]),
    ]
    return rows


def _lines(report: ProfileReport) -> list[str]:
    """What is said below the tables."""
    first = report.model.runs[0]
    runs = [run for one in (report.model, report.against) if one is not None for run in one.runs]
    threads = _threads(first.threads)
    lines = []
    if report.against is not None:
        pair = f"{_short(report.model)} against {_short(report.against)}"
        for runtime, found in report.speedups.items():
            lines.append(
                f"speedup {_times(found.value)}x (95%: {_times(found.low)} to "
                f"{_times(found.high)}): {pair}, {runtime} {first.precision}, "
                f"batch {first.batch}, {threads}"
            )
    if report.fastest is not None:
        lines.append(_fastest(report))
    spinning = first.options.get("spinning")
    machine = report.machine
    lines.append(
        f"{machine.cpu}, {machine.cpus} of {machine.machine_cpus} CPUs "
        f"({', '.join(machine.isa) or 'no vector extensions known'}); {threads}, "
        f"input {'x'.join(map(str, first.input_shape))}"
        + (f", spinning {spinning}" if spinning else "")
    )
    lines += [
        f"{run.runtime}: {', '.join(f'{name} {value}' for name, value in run.device.items())}"
        for run in runs
        if run.device
    ]
    if any(run.runtime == "torch" for run in runs):
        lines.append("torch eager is shown for comparison only; no speedup is reported against it.")
    if first.peak is not None:
        lines.append(
            "The peak is that of a matrix product in the same rounds, runtime, precision and "
            f"threads: {format_count(first.peak.macs_per_s)} MACs a second ({first.runtime})."
        )
    counted = report.model.costs.not_counted
    named = ", ".join(f"{count} {name}" for name, count in counted.items())
    lines.append(MULTIPLICATIONS_ONLY + (named or "nothing"))
    for one in (report.model, report.against):
        if one is None:
            continue
        lines.extend(f"note: {note}" for note in one.notes)
        lines.extend(f"warning: {_short(one)}: {warning}" for warning in one.costs.warnings)
        for run in one.runs:
            where = f"{_short(one)}, {run.runtime}"
            lines.extend(f"warning: {where}: {warning}" for warning in run.warnings)
    lines.extend(f"warning: {warning}" for warning in report.warnings)
    return lines


def _fastest(report: ProfileReport) -> str:
    found = report.fastest
    if found is None:
        return ""
    others = ", ".join(
        f"{name} takes {_times(ratio.value)} times as long ({_times(ratio.low)} to "
        f"{_times(ratio.high)})" + (", no difference shown" if name in found.ties else "")
        for name, ratio in found.ratios.items()
    )
    said = "perhaps" if found.ties else "fastest here"
    where = f"{_short(report.model)}, batch {report.model.runs[0].batch}"
    return f"{said}: {found.runtime} for {where}; {others}"


# --- layers --------------------------------------------------------------------------------------

LAYER_HEADERS = ("layer", "kind", "time", "share", "MACs", "MACs/s")


def layers_title(layers: Layers) -> str:
    """'onnxruntime by layer, batch 1, 2 threads'."""
    return f"{layers.runtime} by layer, batch {layers.batch}, {_threads(layers.threads)}"


def _print_layers(console: Console, layers: Layers) -> None:
    from rich import box
    from rich.table import Table

    console.print(f"\n{layers_title(layers)}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    rows = _layer_rows(layers)
    figures = sum(max(len(row[place]) for row in rows) + 2 for place in range(2, 6))
    room = max(24, console.width - figures - 8)
    widths = (room * 3 // 5, room * 2 // 5)
    for place, header in enumerate(LAYER_HEADERS):
        table.add_column(header, justify="left" if place < 2 else "right", no_wrap=True)
    for row in rows:
        names = [_shorten(name, width) for name, width in zip(row, widths, strict=False)]
        table.add_row(*names, *row[2:])
    console.print(table)
    for line in _layer_lines(layers):
        console.print(line, soft_wrap=not console.is_terminal)


def _layer_rows(layers: Layers) -> list[list[str]]:
    total_s = layers.total_s
    return [
        [
            layer.name,
            layer.kind,
            format_time(layer.time_s) if layer.time_s >= 1e-6 else "< 1 us",
            f"{layer.time_s / total_s:.1%}" if total_s else "?",
            format_count(layer.macs) if layer.macs else "",
            "" if not layer.macs or not layer.macs_per_s else format_count(layer.macs_per_s),
        ]
        for layer in layers.layers
    ]


def _layer_lines(layers: Layers) -> list[str]:
    slower = layers.slowdown
    macs = sum(layer.macs for layer in layers.layers)
    lines = [
        f"Profiling slows the model: a profiled call takes {_times(slower.value)} times as long "
        f"as one without (95%: {_times(slower.low)} to {_times(slower.high)}), timed in turns.",
        f"Medians of {layers.calls} calls in whole microseconds. A profiled call takes "
        f"{format_time(layers.call_s)}, its layers {format_time(layers.total_s)}; shares are of "
        "the latter.",
    ]
    if layers.unmatched:
        left = ", ".join(layers.unmatched)
        lines.append(
            f"The layers have {format_count(macs)} of {format_count(layers.macs)} MACs; these "
            f"operations could not be assigned to a layer: {left}."
        )
    else:
        lines.append(f"The layers' MACs sum up to the model's: {format_count(macs)}.")
    return [*lines, *_kernel_lines(layers)]


def _kernel_lines(layers: Layers) -> list[str]:
    """What the convolutions really run in."""
    convolutions = [kernel for kernel in layers.kernels if kernel.kind == "convolution"]
    if not convolutions:
        return []
    told = []
    total = sum(kernel.macs for kernel in convolutions)
    for precision in dict.fromkeys(kernel.precision for kernel in convolutions):
        mine = [kernel for kernel in convolutions if kernel.precision == precision]
        macs = sum(kernel.macs for kernel in mine)
        names = ", ".join(dict.fromkeys(kernel.kernel for kernel in mine))
        of_macs = f", {macs / total:.0%} of their MACs" if total else ""
        told.append(f"{len(mine)} in {precision} ({names}{of_macs})")
    return [f"{len(convolutions)} convolutions: {', '.join(told)}."]


# --- figures -------------------------------------------------------------------------------------


def _markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---"] + ["---:"] * (len(headers) - 1)]
    lines += [[_cell(value) for value in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").strip()


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _time(seconds: float | None) -> str:
    return "" if seconds is None else format_time(seconds)


def _share(run: RuntimeProfile) -> str:
    if run.peak is None:
        return "?"
    share = run.peak.share
    return f"{share.value:.0%} ({share.low:.0%}-{share.high:.0%})"


def _interval(found: Estimate) -> str:
    """'0.87 to 0.91 ms'."""
    low, high, unit = _alike(found.value, found.low, found.high)
    return f"{low} to {high} {unit}"


def _bounded(found: Estimate | None) -> str:
    """'0.87 (0.91) ms': the value, and the upper bound."""
    if found is None:
        return "not known"
    value, high, unit = _alike(found.value, found.value, found.high)
    return f"{value} ({high}) {unit}"


def _alike(pattern_s: float, *values_s: float) -> tuple[str, ...]:
    """Times in the unit and with the digits that the first one is printed with; then the unit."""
    shown, unit = format_time(pattern_s).split(" ")
    scale = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit]
    digits = len(shown.partition(".")[2])
    return (*(f"{value / scale:.{digits}f}" for value in values_s), unit)


def _times(ratio: float) -> str:
    """Three digits: '0.97', '7.84', '12.9', '130'."""
    return f"{ratio:.{0 if ratio >= 100 else 1 if ratio >= 10 else 2}f}"


def _short(one: Profile) -> str:
    return _shorten(one.name, NAME_WIDTH)


def _shorten(name: str, room: int) -> str:
    """The beginning and the end of a long name."""
    if len(name) <= room:
        return name
    tail = (room - 3) * 2 // 3
    return f"{name[: room - 3 - tail]}...{name[-tail:]}"
