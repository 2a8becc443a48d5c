"""What ``compress profile`` found, as a document."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from compress.report.document import (
    Axis,
    Chart,
    Column,
    Document,
    Key,
    Kind,
    Mark,
    Part,
    Picture,
    Point,
    Rule,
    Section,
    Series,
    Table,
    Text,
    names,
    numbers,
)
from compress.report.values import (
    UNKNOWN,
    bounded,
    interval_of,
    share_cell,
    shortened,
    threads,
    times,
    times_interval,
)
from compress.results import Layers, Profile, ProfileReport, RuntimeProfile
from compress.units import format_bytes, format_count, format_percent, format_time

Run = tuple[Profile, RuntimeProfile]

LABEL_WIDTH = 15
NAME_WIDTH = 32
# More columns do not fit a terminal of 80 characters; each model then has a table of its own.
COLUMNS = 3
# Calls beyond this quantile are told in the legend and not drawn: one call that was kept waiting
# would make a line of all others.
SHOWN = 0.99
# Medians that differ by more than this factor are drawn on a logarithmic axis.
LOGARITHMIC = 10


def document_of(report: ProfileReport) -> Document:
    """Tables of figures, what has to be known to read them, and their picture."""
    parts: list[Part] = [*_tables(report), *_texts(report), picture_of(report)]
    if report.layers is not None:
        parts.append(_layers(report.layers))
    return Document(tuple(parts), keys=tuple(_keys(report)))


def _runs(report: ProfileReport) -> list[Run]:
    models = [one for one in (report.model, report.against) if one is not None]
    return [(one, run) for one in models for run in one.runs]


def _keys(report: ProfileReport) -> Iterator[Key]:
    """How many times faster, and which runtime is the fastest."""
    first = report.model.runs[0]
    if report.against is not None:
        pair = f"{_short(report.model)} against {_short(report.against)}"
        for runtime, found in report.speedups.items():
            where = f"{runtime} {first.precision}, batch {first.batch}, {threads(first.threads)}"
            yield Key(
                "speed-up",
                f"{times(found.value)} times",
                times_interval(found),
                f"{pair}, {where}",
            )
    fastest = report.fastest
    if fastest is not None:
        others = ", ".join(
            f"{name} takes {times(ratio.value)} times as long ({times_interval(ratio)})"
            + (", no difference shown" if name in fastest.ties else "")
            for name, ratio in fastest.ratios.items()
        )
        yield Key(
            "perhaps the fastest here" if fastest.ties else "fastest here",
            fastest.runtime,
            about=f"for {_short(report.model)}, batch {first.batch}; {others}",
        )


def _tables(report: ProfileReport) -> list[Table]:
    """One table without a title where there are few columns, else one for each model."""
    runs = _runs(report)
    if len(runs) > COLUMNS:
        models = dict.fromkeys(one.name for one, _ in runs)
        return [_table([run for run in runs if run[0].name == name], name) for name in models]
    # Those that are compared stand side by side.
    return [_table(sorted(runs, key=lambda column: column[1].runtime == "torch"), "")]


def _table(columns: Sequence[Run], title: str) -> Table:
    """A row a figure, a column a model in a runtime; rows that no column has are left out."""
    runs = [run for _, run in columns]
    names = ["torch eager" if run.runtime == "torch" else run.runtime for run in runs]
    rows = [] if title else [("runtime", *names)]
    rows += [
        ("precision", *(run.precision for run in runs)),
        ("latency, median", *(format_time(run.latency.value) for run in runs)),
        ("95% interval", *(interval_of(run.latency) for run in runs)),
        ("p90 (bound)", *(bounded(run.p90) for run in runs)),
        ("p99 (bound)", *(bounded(run.p99) for run in runs)),
        ("calls, outliers", *(f"{run.calls:,}, {run.outliers:,}" for run in runs)),
        (
            "preempted",
            *(_known(run.preempted, lambda share: format_percent(share, 0)) for run in runs),
        ),
    ]
    if any(run.copies_s is not None for run in runs):
        rows.append(("of it copies", *(_known(run.copies_s, format_time, "") for run in runs)))
    rows += [
        ("load", *(format_time(run.load_s) for run in runs)),
        ("first call", *(format_time(run.first_s) for run in runs)),
    ]
    for place, speed in enumerate(runs[0].throughput):
        cells = (f"{run.throughput[place].images_per_s:,.0f}" for run in runs)
        rows.append((f"images/s at {speed.batch}", *cells))
    rows += [
        ("memory", *(_known(run.memory_bytes, format_bytes) for run in runs)),
        ("size", *(format_bytes(one.size_bytes) for one, _ in columns)),
        ("parameters", *(f"{one.costs.params:,}" for one, _ in columns)),
        ("MACs an image", *(format_count(one.costs.macs) for one, _ in columns)),
        ("MACs a second", *(_known(run.macs_per_s, format_count) for run in runs)),
        ("share of peak", *(UNKNOWN if r.peak is None else share_cell(r.peak.share) for r in runs)),
    ]
    headers = [run.runtime if title else one.name for one, run in columns]
    return Table((Column("", Kind.NAME, LABEL_WIDTH), *numbers(*headers)), tuple(rows), title)


def _texts(report: ProfileReport) -> Iterator[Text]:
    """What has to be known to read the tables."""
    first = report.model.runs[0]
    runs = _runs(report)
    spinning = first.options.get("spinning")
    machine = report.machine
    yield Text(
        f"{machine.cpu}, {machine.cpus} of {machine.machine_cpus} CPUs "
        f"({', '.join(machine.isa) or 'no vector extensions known'}); {threads(first.threads)}, "
        f"input {'x'.join(map(str, first.input_shape))}"
        + (f", spinning {spinning}" if spinning else "")
    )
    for _, run in runs:
        if run.device:
            states = ", ".join(f"{name} {value}" for name, value in run.device.items())
            yield Text(f"{run.runtime}: {states}")
    if any(run.runtime == "torch" for _, run in runs):
        yield Text("torch eager is shown for comparison only; no speedup is reported against it.")
    if first.peak is not None:
        yield Text(
            "The peak is that of a matrix product in the same rounds, runtime, precision and "
            f"threads: {format_count(first.peak.macs_per_s)} MACs a second ({first.runtime})."
        )
    counted = report.model.costs.not_counted
    named = ", ".join(f"{count} {name}" for name, count in counted.items()) or "nothing"
    yield Text(f"MACs count convolutions and matrix products, but not {named}")
    for one in (report.model, report.against):
        if one is None:
            continue
        yield from (Text(note, "note") for note in one.notes)
        yield from (Text(f"{_short(one)}: {text}", "warning") for text in one.costs.warnings)
        for run in one.runs:
            where = f"{_short(one)}, {run.runtime}"
            yield from (Text(f"{where}: {text}", "warning") for text in run.warnings)
    yield from (Text(text, "warning") for text in report.warnings)


# --- layers --------------------------------------------------------------------------------------


def _layers(layers: Layers) -> Section:
    columns = (*names("layer", "kind"), *numbers("time", "share", "MACs", "MACs/s"))
    total_s = layers.total_s
    rows = tuple(
        (
            layer.name,
            layer.kind,
            format_time(layer.time_s) if layer.time_s >= 1e-6 else "below 1 us",
            format_percent(layer.time_s / total_s, 1) if total_s else UNKNOWN,
            format_count(layer.macs) if layer.macs else "",
            "" if not layer.macs or not layer.macs_per_s else format_count(layer.macs_per_s),
        )
        for layer in layers.layers
    )
    where = f"batch {layers.batch}, {threads(layers.threads)}"
    texts = tuple(map(Text, _layer_texts(layers)))
    return Section(f"{layers.runtime} by layer, {where}", (Table(columns, rows), *texts))


def _layer_texts(layers: Layers) -> Iterator[str]:
    slower = layers.slowdown
    macs = sum(layer.macs for layer in layers.layers)
    yield (
        f"Profiling slows the model: a profiled call takes {times(slower.value)} times as long "
        f"as one without (95%: {times_interval(slower)}), timed in turns."
    )
    yield (
        f"Medians of {layers.calls} calls in whole microseconds. A profiled call takes "
        f"{format_time(layers.call_s)}, its layers {format_time(layers.total_s)}; shares are of "
        "the latter."
    )
    if layers.unmatched:
        left = ", ".join(layers.unmatched)
        yield (
            f"The layers have {format_count(macs)} of {format_count(layers.macs)} MACs; these "
            f"operations could not be assigned to a layer: {left}."
        )
    else:
        yield f"The layers' MACs sum up to the model's: {format_count(macs)}."
    convolutions = [kernel for kernel in layers.kernels if kernel.kind == "convolution"]
    if not convolutions:
        return
    told = []
    total = sum(kernel.macs for kernel in convolutions)
    for precision in dict.fromkeys(kernel.precision for kernel in convolutions):
        mine = [kernel for kernel in convolutions if kernel.precision == precision]
        share = sum(kernel.macs for kernel in mine) / total if total else None
        names = ", ".join(dict.fromkeys(kernel.kernel for kernel in mine))
        of_macs = "" if share is None else f", {format_percent(share, 0)} of their MACs"
        told.append(f"{len(mine)} in {precision} ({names}{of_macs})")
    yield f"{len(convolutions)} convolutions: {', '.join(told)}."


# --- the picture ---------------------------------------------------------------------------------


def picture_of(report: ProfileReport) -> Picture:
    """The calls' latencies as distributions, and parameters against latency."""
    runs = _runs(report)
    medians = [run.latency.value for _, run in runs]
    logarithmic = max(medians) / min(medians) > LOGARITHMIC
    latencies = Chart(
        Axis("latency of a call (ms)", logarithmic),
        Axis("share of calls that took no longer"),
        tuple(_distribution(one, run, hue) for hue, (one, run) in enumerate(runs)),
        tuple(Rule(x=run.latency.value * 1e3, hue=hue) for hue, (_, run) in enumerate(runs)),
    )
    costs = Chart(
        Axis("median latency (ms), with its 95% interval", logarithmic),
        Axis("parameters (millions)", from_zero=True),
        tuple(
            Series("", (Point(run.latency.scaled(1e3), one.costs.params / 1e6),), hue=hue)
            for hue, (one, run) in enumerate(runs)
        ),
    )
    first, speedup = report.model.runs[0], report.speedup
    claim = (
        "" if speedup is None else f"; speed-up {times(speedup.value)} ({times_interval(speedup)})"
    )
    caption = (
        f"{report.machine.cpu}, batch {first.batch}, {threads(first.threads)}{claim}. Vertical "
        "lines: the medians, of undisturbed calls."
    )
    return Picture("latency", (latencies, costs), caption)


def _distribution(one: Profile, run: RuntimeProfile, hue: int) -> Series:
    """The share of calls that took no longer than x."""
    ordered = sorted(call_s * 1e3 for call_s in run.calls_s)
    drawn = ordered[: max(1, -int(-SHOWN * len(ordered) // 1))]
    left_out = len(ordered) - len(drawn)
    slowest = f"; {left_out} slower, up to {ordered[-1]:.3g} ms" if left_out else ""
    return Series(
        f"{one.name}, {run.runtime} (n = {len(ordered)}{slowest})",
        tuple(Point(x, place / len(ordered)) for place, x in enumerate(drawn, 1)),
        Mark.STEPS,
        hue,
    )


def _known(value: float | None, show: Callable[[float], str], unknown: str = UNKNOWN) -> str:
    return unknown if value is None else show(value)


def _short(one: Profile) -> str:
    return shortened(one.name, NAME_WIDTH)
