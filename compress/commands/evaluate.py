"""compress evaluate: the accuracy of a checkpoint or an ONNX file."""

from __future__ import annotations

from typing import Any

import click

from compress.api.evaluate import evaluate
from compress.commands.options import (
    PATH,
    data_options,
    device_option,
    json_option,
    normalize_option,
    output_option,
    seed_option,
    tell,
    threads_option,
    twin,
)


@twin("evaluate", evaluate, first=("data", "as_json"))
@click.argument("model", type=PATH)
@data_options(training=False)
@normalize_option()
@click.option(
    "--arch",
    help="Architecture of a checkpoint, if its weights do not show it, such as "
    "resnet-20,shortcut=pad.",
)
@threads_option("Threads that run an ONNX file.")
@output_option()
@seed_option("Seed of the validation split.")
@device_option("Where to run a checkpoint")
@json_option()
def command(as_json: bool, **options: Any) -> None:
    """Score a checkpoint or an ONNX file on the test images of a data set.

    A model that is no better than chance is scored, too. The normalisation is that of --normalize
    or of the file. If neither gives one, the known ones are tried on validation images.
    """
    import json

    from compress.pipelines.evaluate import document_of
    from compress.report import terminal

    found = evaluate(**options, say=tell)
    for note in found.notes:
        tell(note)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
        return
    terminal.show(document_of(found))
