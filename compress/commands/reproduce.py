"""compress reproduce: the papers' tables and figures, as one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from compress.commands.options import (
    PATH,
    data_dir_option,
    device_option,
    json_option,
    parse_by_task,
    parse_names,
    parse_seeds,
    text_option,
)


@click.command("reproduce")
@click.argument("experiment", metavar="NAME_OR_FILE")
@click.option("--plan", is_flag=True, help="Print what it will cost on this machine, and stop.")
@click.option(
    "--max-minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after the epoch in which this time runs out; the same command resumes.",
)
@click.option(
    "--scale",
    type=float,
    default=1.0,
    show_default=True,
    help="Use this part (0 to 1) of the epochs, of the training images and of the seeds.",
)
@text_option(
    "--tasks",
    read=parse_names,
    default="",
    metavar="NAME,...",
    help="Use only these data sets of the experiment.",
)
@text_option(
    "--methods",
    read=parse_names,
    default="",
    metavar="NAME,...",
    help="Make only these rows of the table.",
)
@text_option(
    "--students",
    read=parse_names,
    default="",
    metavar="NAME,...",
    help="Train other students, such as wrn-10-1,wrn-10-2.",
)
@text_option(
    "--seeds",
    read=parse_seeds,
    default="",
    metavar="N,...",
    help="Train each cell once with each of these seeds.",
)
@click.option(
    "--epochs", type=int, help="Epochs of the students, and of a teacher that is trained."
)
@click.option("--limit-train", type=int, help="Use only this many training images.")
@click.option("--validation", type=int, help="Number of training images held out for validation.")
@click.option("--schedule", help="Learning rate schedule: steps, one-cycle or cosine.")
@click.option("--autocast", help="bfloat16 for the students: off, bf16 or auto.")
@text_option(
    "--data",
    read=parse_by_task,
    multiple=True,
    metavar="[TASK=]DATA",
    help="Use this data, as distill takes it, for a task. Can be repeated.",
)
@data_dir_option()
@text_option(
    "--teacher",
    "teachers",
    read=parse_by_task,
    multiple=True,
    metavar="[TASK=]FILE",
    help="Use this checkpoint instead of training the paper's teacher. Can be repeated.",
)
@device_option("Where to train")
@click.option(
    "--out",
    type=PATH,
    help="Folder of the experiment. [default: runs/reproduce/NAME]",
)
@json_option("results.json (or the plan)")
def command(
    experiment: str,
    plan: bool,
    max_minutes: float | None,
    data_dir: Path | None,
    device: str,
    out: Path | None,
    teachers: dict[str, str],
    as_json: bool,
    **options: Any,
) -> None:
    """Reproduce a table of a paper beside the paper's own figures.

    NAME_OR_FILE is a known experiment (logit-gan/table2, table3, table4, table5; ktan/table1;
    crd/wrn-40-2_wrn-16-2, crd/wrn-40-2_wrn-40-1) or a TOML file of your own. Every training has
    its run folder and resumes there: run the same command again until the table is complete.
    Several processes share the trainings if torchrun --nproc-per-node N -m compress starts them.
    The table lists everything that differs from the paper.
    """
    import json

    from compress.api.inputs import check_files
    from compress.commands.display import Display, say_loading

    say_loading()
    from compress.launched import place
    from compress.pipelines.reproduce import plan as planning
    from compress.pipelines.reproduce.experiment import load_experiment
    from compress.pipelines.reproduce.report import document_of
    from compress.pipelines.reproduce.runner import ReproduceRequest, assist, reproduce
    from compress.pipelines.reproduce.settings import Overrides, adapt
    from compress.pipelines.reproduce.table import results_json
    from compress.report import terminal

    given = {task: Path(file) for task, file in teachers.items()}
    overrides = Overrides(**options, teachers=given)
    check_files(*given.values())
    request = ReproduceRequest(
        adapted=adapt(load_experiment(experiment), overrides),
        out=out or default_folder(experiment),
        data_dir=data_dir,
        device=device,
        max_s=None if max_minutes is None else 60 * max_minutes,
    )
    if not place().first:
        if not plan:
            with Display() as display:
                assist(request, display)
        return
    with Display() as display:
        cost = planning.make_plan(request, display.message)
    if plan and as_json:
        click.echo(json.dumps(cost.to_dict(), indent=2))
    else:
        terminal.show(planning.document_of(cost), stderr=not plan)
    if plan:
        return
    with Display() as display:
        report = reproduce(request, display)
    if as_json:
        click.echo(json.dumps(results_json(report), indent=2))
    else:
        terminal.show(document_of(report))


def default_folder(name: str) -> Path:
    """runs/reproduce/NAME; of a file its name without the ending."""
    path = Path(name)
    return Path("runs", "reproduce", path.stem if path.suffix == ".toml" else name)
