"""compress train: a network from labels alone."""

from __future__ import annotations

from typing import Any

import click

from compress.api.train import train
from compress.commands.options import PATH, data_options, json_option, training_options, twin


@twin("train", train, first=("arch", "data", "epochs", "out", "as_json"))
@click.option(
    "--arch",
    required=True,
    help="The network, such as wrn-10-2, resnet-20, resnet-20-b, preresnet-164 or inception.",
)
@click.option(
    "--init",
    type=PATH,
    help="Start from this checkpoint of the same architecture instead of random weights.",
)
@data_options()
@training_options()
@json_option("result.json")
def command(as_json: bool, **options: Any) -> None:
    """Train a network from labels alone, for example a teacher.

    The command writes model.safetensors, metrics.jsonl and result.json into the run folder. Run
    the same command again to resume after an interruption.
    """
    import json

    from compress.commands.display import Display, say_loading

    say_loading()
    from compress.units import format_percent

    with Display() as display:
        result = train(**options, listener=display)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
        return
    test, n = result.accuracy.test, result.n.test
    click.echo(
        f"{result.model.name}: {format_percent(test)} on {n:,} test images, "
        f"last of {result.epochs} epochs, seed {result.seed}. {result.file}"
    )
