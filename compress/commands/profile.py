"""compress profile: what a model costs on this machine."""

from __future__ import annotations

import copy
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compress.commands.options import parse_shape

if TYPE_CHECKING:
    from rich.table import Table

    from compress.models.registry import Network
    from compress.profiling import Subject
    from compress.results import Estimate, Profile, ProfileReport, RuntimeProfile
    from compress.spec import ModelSpec

DEFAULT_SIZE = (32, 32)


@click.command("profile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--against", type=click.Path(path_type=Path), help="Another model, timed in the same rounds."
)
@click.option(
    "--runtime",
    type=click.Choice(["onnxruntime", "torch", "all"]),
    default="all",
    show_default=True,
    help="all: those that can run the model. torch eager takes checkpoints only.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Of each session. [default: the cores that this process may use]",
)
@click.option(
    "--batch",
    "batches",
    metavar="N,N,...",
    help="Images a call; latency is of the first, throughput of all. [default: 1,8,32]",
)
@click.option("--shape", metavar="C,H,W", help="Of an image, where the model leaves it open.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of inputs and orders.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    model: Path,
    against: Path | None,
    runtime: str,
    threads: int | None,
    batches: str | None,
    shape: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Measure what MODEL costs on this machine, with uncertainty.

    MODEL and the file to compare with are ONNX files or checkpoints; a checkpoint is exported
    first, so that both run in the same runtime. speedup is time(against) / time(MODEL).
    """
    import json
    from tempfile import TemporaryDirectory

    from compress.profiling import Settings, default_threads, profile

    sizes = None if batches is None else _numbers(batches, "--batch")
    image = None if shape is None else parse_shape(shape, "--shape")
    settings = Settings(
        runtimes=("onnxruntime", "torch") if runtime == "all" else (runtime,),
        threads=threads or default_threads(),
        batches=sizes,
        shape=image,
        seed=seed,
    )
    with TemporaryDirectory(prefix="compress-profile-") as folder:
        files = [model] if against is None else [model, against]
        names = _names(files)
        subjects = [
            _subject(file, name, Path(folder), place, image, runtime)
            for place, (file, name) in enumerate(zip(files, names, strict=True))
        ]
        report = profile(
            subjects[0],
            against=subjects[1] if against is not None else None,
            settings=settings,
            progress=_say,
        )
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2, allow_nan=False))
    else:
        _print(report)


def load_network(spec: ModelSpec, weights: Path) -> Network:
    """A network from a file of its state dict, as a server would load it.

    A fresh process finds this function by its name.

    Args:
        spec: the network.
        weights: a safetensors file that this command has written.
    """
    from safetensors.torch import load_file

    from compress.models.registry import build

    network = build(spec)
    network.load_state_dict(load_file(weights))
    return network.eval()


def _subject(
    path: Path,
    name: str,
    folder: Path,
    place: int,
    image: tuple[int, int, int] | None,
    runtime: str,
) -> Subject:
    """A file as something to be measured; checkpoints are exported where that is needed.

    Args:
        path: an ONNX file or a checkpoint.
        name: what it is called in messages and tables.
        folder: where files that are needed in between may lie.
        place: which of the models it is, for the names of those files.
        image: channels, height and width, where they were given.
        runtime: of the command line.
    """
    from compress.errors import ModelFileError, UsageError
    from compress.profiling import Subject

    if path.suffix.lower() == ".onnx":
        if runtime == "torch":
            raise UsageError(
                f"torch eager cannot run {path.name}; it takes checkpoints. "
                "Use --runtime onnxruntime."
            )
        if not path.is_file():
            raise ModelFileError(f"There is no file {path}.")
        return Subject(name, path=path.absolute(), params=_trained_parameters(path))
    from safetensors.torch import save_file

    from compress.models.checkpoint import read_tensors
    from compress.models.recognition.hypothesis import instantiate
    from compress.models.registry import count_parameters

    _say(f"{name}: reading the checkpoint")
    # The likeliest reading will do: what the weights leave open does not change what they cost.
    size = image[1:] if image is not None else DEFAULT_SIZE
    hypothesis = read_tensors(path).hypotheses(image_size=size)[0]
    spec = hypothesis.spec
    if image is not None and spec.input_shape != image:
        raise UsageError(
            f"The weights in {path.name} take images of "
            f"{','.join(map(str, spec.input_shape))}; --shape gives {','.join(map(str, image))}."
        )
    network = instantiate(hypothesis)
    weights = folder / f"{place}.safetensors"
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, weights)
    exported = folder / f"{place}.onnx"
    if runtime != "torch":
        from compress.export import onnx_from_torch

        _say(f"{name}: exporting it to ONNX")
        onnx_from_torch(network, exported, spec=spec, normalization=None, classes=(), source={})
    return Subject(
        name,
        path=None if runtime == "torch" else exported,
        module=partial(copy.deepcopy, network),
        loader=partial(load_network, spec, weights),
        imports=("compress.models.registry", "safetensors.torch"),
        input_shape=spec.input_shape,
        params=count_parameters(network),
        size_bytes=path.stat().st_size,
    )


def _trained_parameters(path: Path) -> int | None:
    """Parameters of the network that an ONNX file of ours was made from."""
    import torch

    from compress.export import read_artifact
    from compress.models.registry import build, count_parameters

    spec = read_artifact(path).spec
    if spec is None:
        return None
    with torch.device("meta"):
        return count_parameters(build(spec))


def _numbers(text: str, option: str) -> tuple[int, ...]:
    """'1,8,32' -> (1, 8, 32).

    Raises:
        UsageError: something else than positive whole numbers, or one of them twice.
    """
    from compress.errors import UsageError

    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1 or len(set(numbers)) < len(numbers):
        raise UsageError(
            f"{option} is '{text}'; it takes different positive whole numbers, separated by "
            "commas, such as 1,8,32."
        )
    return numbers


def _names(files: list[Path]) -> list[str]:
    """File names; with their folders where two are alike."""
    names = [file.name for file in files]
    return names if len(set(names)) == len(names) else [str(file) for file in files]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- the table -----------------------------------------------------------------------------------

LABEL_WIDTH = 15
NAME_WIDTH = 32


def _print(report: ProfileReport) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    columns = [
        (one, run) for one in (report.model, report.against) if one is not None for run in one.runs
    ]
    # Those that are compared stand side by side.
    columns.sort(key=lambda column: column[1].runtime == "torch")
    console.print(_table(columns, console.width))
    for line in _lines(report, columns):
        console.print(line)


def _table(columns: list[tuple[Profile, RuntimeProfile]], width: int) -> Table:
    """A row a figure, a column a model in a runtime."""
    from rich import box
    from rich.table import Table

    from compress.units import format_bytes, format_count, format_time

    # The frame and the space behind the labels take four columns, that behind a figure two.
    room = (width - LABEL_WIDTH - 4) // len(columns) - 2
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True, min_width=LABEL_WIDTH)
    for one, _ in columns:
        table.add_column(
            _shorten(one.name, max(12, min(room, NAME_WIDTH))), justify="right", no_wrap=True
        )

    def row(label: str, *values: str) -> None:
        table.add_row(label, *values)

    runs = [run for _, run in columns]
    row("runtime", *("torch eager" if run.runtime == "torch" else run.runtime for run in runs))
    row("precision", *(run.precision for run in runs))
    row("latency, median", *(format_time(run.latency.value) for run in runs))
    row("  95% interval", *(_interval(run.latency) for run in runs))
    for label, found in (
        ("p90 (bound)", [run.p90 for run in runs]),
        ("p99 (bound)", [run.p99 for run in runs]),
    ):
        row(
            label,
            *("not known" if each is None else _bounded(each) for each in found),
        )
    row(
        "calls, outliers",
        *(f"{run.calls:,}, {run.outliers:,}" for run in runs),
    )
    row("preempted", *("?" if run.preempted is None else f"{run.preempted:.0%}" for run in runs))
    row("load", *(format_time(run.load_s) for run in runs))
    row("first call", *(format_time(run.first_s) for run in runs))
    for place, speed in enumerate(runs[0].throughput):
        row(
            f"images/s at {speed.batch}",
            *(f"{run.throughput[place].images_per_s:,.0f}" for run in runs),
        )
    row(
        "memory",
        *("?" if run.memory_bytes is None else format_bytes(run.memory_bytes) for run in runs),
    )
    row("size", *(format_bytes(one.size_bytes) for one, _ in columns))
    row("parameters", *(f"{one.costs.params:,}" for one, _ in columns))
    row("MACs an image", *(format_count(one.costs.macs) for one, _ in columns))
    return table


def _lines(report: ProfileReport, columns: list[tuple[Profile, RuntimeProfile]]) -> list[str]:
    """What is said below the table."""
    first = report.model.runs[0]
    threads = f"{first.threads} thread{'s' if first.threads > 1 else ''}"
    lines = []
    if report.speedup is not None and report.against is not None:
        found = report.speedup
        lines.append(
            f"speedup {_times(found.value)}x (95%: {_times(found.low)} to {_times(found.high)}): "
            f"{_short(report.model)} against {_short(report.against)}, "
            f"{first.runtime} {first.precision}, batch {first.batch}, {threads}"
        )
    spinning = first.options.get("spinning")
    machine = report.machine
    lines.append(
        f"{machine.cpu}, {machine.cpus} of {machine.machine_cpus} CPUs "
        f"({', '.join(machine.isa) or 'no vector extensions known'}); {threads}, "
        f"batch {first.batch}" + (f", spinning {spinning}" if spinning else "")
    )
    if any(run.runtime == "torch" for _, run in columns):
        lines.append("torch eager is shown for comparison; no speed-up is claimed against it.")
    lines.append(
        "MACs are of convolutions and matrix products; not counted: "
        + (_counted(report.model.costs.not_counted) or "nothing")
    )
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


def _interval(found: Estimate) -> str:
    """'0.87 to 0.91 ms'."""
    low, high, unit = _alike(found.value, found.low, found.high)
    return f"{low} to {high} {unit}"


def _bounded(found: Estimate) -> str:
    """'0.87 (0.91) ms': the value, and the upper bound."""
    value, high, unit = _alike(found.value, found.value, found.high)
    return f"{value} ({high}) {unit}"


def _alike(pattern_s: float, *values_s: float) -> tuple[str, ...]:
    """Times in the unit and with the digits that the first one is printed with; then the unit."""
    from compress.units import format_time

    shown, unit = format_time(pattern_s).split(" ")
    scale = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit]
    digits = len(shown.partition(".")[2])
    return (*(f"{value / scale:.{digits}f}" for value in values_s), unit)


def _times(ratio: float) -> str:
    """Three digits: '0.97', '7.84', '12.9', '130'."""
    return f"{ratio:.{0 if ratio >= 100 else 1 if ratio >= 10 else 2}f}"


def _short(one: Profile) -> str:
    return _shorten(one.name, NAME_WIDTH)


def _counted(operations: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in operations.items())


def _shorten(name: str, room: int) -> str:
    """The beginning and the end of a long name."""
    if len(name) <= room:
        return name
    tail = (room - 3) * 2 // 3
    return f"{name[: room - 3 - tail]}...{name[-tail:]}"
