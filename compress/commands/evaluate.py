"""compress evaluate: the accuracy of a checkpoint or an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from compress.commands.inputs import input_file
from compress.commands.options import (
    data_options,
    load_data,
    output_option,
    seed_option,
    threads_option,
)


@click.command("evaluate")
@click.argument("model", **input_file())
@data_options(training=False)
@click.option(
    "--normalize", help="Normalisation of the input: a known name, or MEAN,MEAN,MEAN/STD,STD,STD."
)
@click.option(
    "--arch",
    help="Architecture of a checkpoint, if its weights do not show it, such as "
    "resnet-20,shortcut=pad.",
)
@threads_option("Threads that run an ONNX file.")
@output_option()
@seed_option("Seed of the validation split.")
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Where to run a checkpoint: auto, cpu or cuda.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    model: Path,
    normalize: str | None,
    arch: str | None,
    threads: int | None,
    output_name: str | None,
    seed: int,
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Score a checkpoint or an ONNX file on the test images of a data set.

    A model that is no better than chance is scored, too. The normalisation is that of --normalize
    or of the file. If neither gives one, the known ones are tried on validation images.
    """
    import json

    from compress.data.normalization import describe, resolve
    from compress.pipelines.evaluate import evaluate
    from compress.training.device import choose_device
    from compress.units import format_percent

    stated = resolve(normalize) if normalize else None
    choose_device(device)
    data = load_data(options, seed=seed, models=[model])
    found = evaluate(
        model,
        data,
        normalization=stated,
        arch=arch,
        threads=threads,
        device=device,
        output=output_name,
    )
    for note in found.notes:
        click.echo(note, err=True)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
        return
    click.echo(f"{found.name} on {data.name}, normalisation {describe(found.normalization)}:")
    click.echo(f"{format_percent(found.test)} ({found.correct:,} of {found.n:,} test images)")
