"""compress baseline: what `compress check` compares with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from compress.commands.inputs import input_file
from compress.commands.options import (
    data_options,
    output_option,
    parse_shape,
    threads_option,
)

FILE = "compress-baseline.json"


@click.group("baseline")
def command() -> None:
    """Write or show the baseline that `compress check` compares candidates with."""


@command.command("update")
@click.argument("model", **input_file())
@data_options(default=None, validation=False, training=False)
@click.option(
    "--reason", required=True, help="Why the baseline changes; reviewers read it in the diff."
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    default=FILE,
    show_default=True,
    help="The baseline file. A copy of the model, named by its hash, is put beside it.",
)
@click.option(
    "--runtime", default="onnxruntime", show_default=True, help="Runtime that runs the models."
)
@threads_option("Threads of each session. [default: the cores that this process may use]")
@click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images per call."
)
@click.option("--shape", metavar="C,H,W", help="Shape of an image, if the model does not fix it.")
@click.option(
    "--percentile",
    type=click.FloatRange(50, 99.9),
    default=50.0,
    show_default=True,
    help="Percentile of the latency that budgets apply to.",
)
@click.option(
    "--teacher",
    **input_file(),
    help="An ONNX file to time MODEL against; `check` uses it if the baseline's model is missing.",
)
@click.option(
    "--normalize", help="Normalisation of the input: a known name, or MEAN,MEAN,MEAN/STD,STD,STD."
)
@output_option()
def update(
    model: Path,
    reason: str,
    output: Path,
    runtime: str,
    threads: int | None,
    batch: int,
    shape: str | None,
    percentile: float,
    teacher: Path | None,
    normalize: str | None,
    output_name: str | None,
    **options: Any,
) -> None:
    """Make MODEL, an ONNX file, the baseline for `compress check`.

    The command scores and times MODEL and writes the results to a file for git: review it as a
    diff, and commit it together with the copy of the model beside it. `compress check` refuses a
    baseline that was edited by hand.
    """
    from compress.data.normalization import resolve
    from compress.errors import UsageError
    from compress.gate import update as making
    from compress.gate.measuring import Settings
    from compress.profiling import default_threads

    if options["data"] is None:
        raise UsageError(
            "--data is missing. Name the data set that the baseline and its candidates are "
            "scored on."
        )
    baseline = making.update(
        making.UpdateRequest(
            model=model,
            data=options["data"],
            reason=reason,
            output=output,
            settings=Settings(
                runtime=runtime,
                threads=threads or default_threads(),
                batch=batch,
                shape=None if shape is None else parse_shape(shape, "--shape"),
                percentile=percentile,
                output=output_name,
            ),
            teacher=teacher,
            normalization=resolve(normalize) if normalize else None,
            data_dir=options["data_dir"],
            image_size=options["image_size"],
        ),
        _say,
    )
    for line in baseline.lines():
        click.echo(line)
    _say(f"Commit {output} and {baseline.path.parent / baseline.model.file} together.")


@command.command("show")
@click.argument("baseline", type=click.Path(path_type=Path), default=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def show(baseline: Path, as_json: bool) -> None:
    """Print a baseline, after checking that nobody edited it."""
    import json

    from compress.gate.baseline import read_baseline

    found = read_baseline(baseline)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, sort_keys=True, allow_nan=False))
        return
    for line in found.lines():
        click.echo(line)


def _say(text: str) -> None:
    click.echo(text, err=True)
