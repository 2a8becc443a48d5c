"""compress select: which student keeps a budget on this machine."""

from __future__ import annotations

from typing import Any

import click

from compress.api.select import select
from compress.commands.options import (
    PATH,
    budget_options,
    choice_options,
    data_options,
    json_option,
    parse_shape,
    section,
    tell,
    text_option,
    twin,
)


@twin("select", select, first=("budget_ms", "speedup", "data", "precision", "save"))
@budget_options()
@section(
    "Teacher",
    click.option("--teacher", type=PATH, help="The teacher's checkpoint, which --speedup needs."),
    click.option(
        "--teacher-arch", help="Architecture of the teacher, if its weights do not show it."
    ),
)
@data_options(validation=False, training=False)
@section(
    "Data",
    click.option("--num-classes", type=int, help="Number of classes, instead of --data."),
    text_option(
        "--input-shape",
        read=parse_shape,
        metavar="C,H,W",
        help="Shape of an image, instead of --data.",
    ),
)
@section(
    "Training that follows",
    click.option("--recipe", help="Method that will train the student."),
    click.option(
        "--epochs",
        type=click.IntRange(min=1),
        help="Epochs of that training. Your earlier runs of half to twice as many count.",
    ),
    click.option(
        "--schedule",
        help="Learning rate schedule of that training: steps, one-cycle or cosine.",
    ),
)
@click.option(
    "--tradeoff",
    type=PATH,
    help="Choose from a table that --save wrote instead of timing candidates.",
)
@click.option("--save", type=PATH, help="Write the table to this .csv or .json file.")
@click.option("--all", "measure_all", is_flag=True, help="Time every candidate.")
@choice_options()
@json_option()
def command(as_json: bool, **options: Any) -> None:
    """Choose the best student that keeps a budget, by timing candidates on this machine.

    Candidates are WRNs of depth 10 to 40 and width 1 to 10, and CIFAR ResNets, in the given
    --precision. Without --data and --teacher they have the shape of the embedded data set.

    With --data, the results of your earlier runs on it improve the predicted errors. `compress
    runs` lists and removes them, and --ignore-runs chooses without them.
    """
    import json

    from compress.report import terminal
    from compress.tradeoff.report import document_of

    choice = select(**options, say=tell)
    if as_json:
        click.echo(json.dumps(choice.to_dict(), indent=2, allow_nan=False))
    else:
        terminal.show(document_of(choice))
