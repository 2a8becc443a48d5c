"""compress profile: what a model costs on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from compress.api.profile import profile
from compress.commands.options import (
    DATA_HELP,
    PATH,
    json_option,
    parse_names,
    parse_numbers,
    seed_option,
    shape_option,
    tell,
    text_option,
    threads_option,
    twin,
)


@twin("profile", profile, first=("against", "runtime", "data", "layers", "as_json"))
@click.argument("model", type=PATH)
@click.option(
    "--against", type=PATH, help="Another model to compare with, timed in the same rounds."
)
@text_option(
    "--runtime",
    read=parse_names,
    metavar="NAME,NAME,...",
    help="Runtimes to time in the same rounds; the fastest is named. onnxruntime, openvino, "
    "onnxruntime-cuda, onnxruntime-tensorrt, tensorrt and tensorrt-rtx run ONNX files; torch, "
    "torch-compile, torch-cuda and torch-compile-cuda run checkpoints; all takes those that are "
    "installed. [default: onnxruntime, and torch as well for checkpoints]",
)
@threads_option("Threads of each session. [default: the cores that this process may use]")
@text_option(
    "--batch",
    read=parse_numbers,
    metavar="N,N,...",
    help="Images per call: latency is measured at the first size, throughput at all. "
    "[default: 1,8,32]",
)
@shape_option()
@click.option(
    "--data",
    help=f"{DATA_HELP} Its test images are the inputs. [default: seeded noise]",
)
@click.option("--layers", is_flag=True, help="Also measure each layer.")
@click.option(
    "--trace",
    type=PATH,
    help="Write the layers of some calls to this file, for chrome://tracing or Perfetto.",
)
@click.option("--plot", type=PATH, help="Draw latencies and accuracy to this .png or .svg file.")
@seed_option("Seed of the inputs and of the order of calls.")
@json_option()
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown on stdout.")
def command(plot: Path | None, as_json: bool, as_markdown: bool, **options: Any) -> None:
    """Measure what MODEL costs on this machine, with uncertainty.

    MODEL and the file to compare with are ONNX files or checkpoints; a checkpoint is exported
    first, so that both run in the same runtime. speedup is time(against) / time(MODEL). Give
    --data for a network whose work depends on its input: noise would time another amount of work.
    """
    import json

    from compress.errors import UsageError
    from compress.files import check_writable
    from compress.profiling.report import document_of, picture_of
    from compress.report import drawing, markdown, terminal

    if as_json and as_markdown:
        raise UsageError("--json and --markdown both print on stdout; give one of them.")
    if plot is not None:
        drawing.check(plot)
        check_writable(plot)
    report = profile(**options, say=tell)
    if plot is not None:
        drawing.draw(picture_of(report), plot)
        tell(f"Wrote {plot}.")
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2, allow_nan=False))
    elif as_markdown:
        click.echo(markdown.render(document_of(report)), nl=False)
    else:
        terminal.show(document_of(report))
