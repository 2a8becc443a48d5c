"""compress train: a network from labels alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from compress.commands.inputs import input_file
from compress.commands.options import (
    check_resume,
    data_options,
    load_data,
    read_training,
    training_options,
)


@click.command("train")
@click.option(
    "--arch",
    required=True,
    help="The network, such as wrn-10-2, resnet-20, resnet-20-b, preresnet-164 or inception.",
)
@click.option(
    "--init",
    **input_file(),
    help="Start from this checkpoint of the same architecture instead of random weights.",
)
@data_options()
@training_options()
@click.option("--json", "as_json", is_flag=True, help="Print result.json on stdout.")
def command(
    arch: str,
    init: Path | None,
    out: Path | None,
    resume: bool,
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a network from labels alone, for example a teacher.

    The command writes model.safetensors, metrics.jsonl and result.json into the run folder. Run
    the same command again to resume after an interruption.
    """
    import json

    from compress.commands.display import Display, say_loading

    say_loading()
    from compress.models.registry import spec_of
    from compress.pipelines.train import MODEL, assist, train
    from compress.training.engine import choose_device
    from compress.training.team import joined
    from compress.units import format_percent

    spec = spec_of(arch)
    training = read_training(options)
    choose_device(device)
    with Display() as display, joined(device) as team:
        data = team.rank_zero_first(
            "data",
            lambda: load_data(options, seed=training.seed, models=[init], say=display.message),
        )
        if not team.first:
            assist(spec, data, options=training, device=device, team=team)
            return
        out = out or Path("runs") / f"{spec.name}-{data.name}-seed{training.seed}"
        if resume:
            check_resume(out, display.message)
        result = train(
            spec,
            data,
            out,
            options=training,
            init=init,
            device=device,
            listener=display,
            team=team,
        )
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
        return
    test, n = result.accuracy.test, result.n.test
    click.echo(
        f"{result.model.name}: {format_percent(test)} on {n:,} test images, "
        f"last of {result.epochs} epochs, seed {result.seed}. {out / MODEL}"
    )
