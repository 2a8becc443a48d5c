"""compress baseline: what `compress check` compares with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from compress import defaults
from compress.api.baseline import update_baseline
from compress.commands.options import (
    PATH,
    data_options,
    json_option,
    normalize_option,
    output_option,
    shape_option,
    tell,
    threads_option,
    twin,
)


@click.group("baseline")
def command() -> None:
    """Write or show the baseline that `compress check` compares candidates with."""


@twin("update", update_baseline, first=("data", "reason", "output"))
@click.argument("model", type=PATH)
@data_options(validation=False, training=False)
@click.option(
    "--reason", required=True, help="Why the baseline changes; reviewers read it in the diff."
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The baseline file. A copy of the model, named by its hash, is put beside it.",
)
@click.option("--runtime", help="Runtime that runs the models.")
@threads_option("Threads of each session. [default: the cores that this process may use]")
@click.option("--batch", type=click.IntRange(min=1), help="Images per call.")
@shape_option()
@click.option(
    "--percentile",
    type=click.FloatRange(50, 99.9),
    help="Percentile of the latency that budgets apply to.",
)
@click.option(
    "--teacher",
    type=PATH,
    help="An ONNX file to time MODEL against; `check` uses it if the baseline's model is missing.",
)
@normalize_option()
@output_option()
def update(**options: Any) -> None:
    """Make MODEL, an ONNX file, the baseline for `compress check`.

    The command scores and times MODEL and writes the results to a file for git: review it as a
    diff, and commit it together with the copy of the model beside it. `compress check` refuses a
    baseline that was edited by hand.
    """
    from compress.errors import UsageError
    from compress.gate.report import baseline_document
    from compress.report import terminal

    if options["data"] is None:
        raise UsageError(
            "--data is missing. Name the data set that the baseline and its candidates are "
            "scored on."
        )
    baseline = update_baseline(**options, say=tell)
    terminal.show(baseline_document(baseline))
    model = baseline.path.parent / baseline.model.file
    tell(f"Commit {options['output']} and {model} together.")


command.add_command(update)


@command.command("show")
@click.argument("baseline", type=PATH, default=defaults.BASELINE)
@json_option()
def show(baseline: Path, as_json: bool) -> None:
    """Print a baseline, after checking that nobody edited it."""
    import json

    from compress.gate.baseline import read_baseline
    from compress.gate.report import baseline_document
    from compress.report import terminal

    found = read_baseline(baseline)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, sort_keys=True, allow_nan=False))
        return
    terminal.show(baseline_document(found))
