"""compress runs: what own runs have shown, which the choice of a student rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pathlib import Path

    from compress.report.document import Document
    from compress.tradeoff.runs import OwnRun


@click.group("runs")
def command() -> None:
    """List and remove the results of your earlier runs.

    `compress distill` records the accuracy of each student with its data, epochs and schedule. The
    next choice on the same data uses these results if the planned training is similar: half to
    twice as many epochs, the same schedule, as many images. With --ignore-runs, `compress select`
    and `compress distill` choose without them.
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def show(as_json: bool) -> None:
    """Print the recorded runs, the newest last."""
    import json

    from compress.environment import cache_folder
    from compress.report import terminal
    from compress.tradeoff.runs import FILE, load_runs

    trainings = _trainings(load_runs())
    path = cache_folder() / FILE
    if as_json:
        listed = [_to_dict(key, runs) for key, runs in trainings.items()]
        click.echo(json.dumps({"file": str(path), "runs": listed}, indent=2))
        return
    if not trainings:
        click.echo(f"No run is recorded in {path}.")
        return
    terminal.show(document_of(trainings, path))


@command.command("remove")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Forget all runs.")
@click.option("--data", help="Forget the runs on this data set, named as in `compress runs list`.")
def remove(ids: tuple[str, ...], everything: bool, data: str | None) -> None:
    """Forget runs, by the ID that `compress runs list` shows. Run folders stay as they are."""
    from compress.errors import UnknownName, UsageError
    from compress.tradeoff.runs import load_runs, remove_runs

    if bool(ids) + everything + (data is not None) != 1:
        raise UsageError("Give what to forget: IDs, --data NAME or --all, and only one of them.")
    known = load_runs()
    for each in ids:
        if each not in {run.key for run in known}:
            raise UnknownName("run", each, {run.key for run in known} or ["none"])
    if data is not None and data not in {run.data for run in known}:
        raise UnknownName("data set with runs", data, {run.data for run in known} or ["none"])
    count = remove_runs(lambda run: everything or run.key in ids or (data or None) == run.data)
    click.echo(f"{count} {'run was' if count == 1 else 'runs were'} removed.")


def _trainings(runs: tuple[OwnRun, ...]) -> dict[str, list[OwnRun]]:
    """Key -> what was found of one training, float32 first; the newest training last."""
    found: dict[str, list[OwnRun]] = {}
    for run in sorted(runs, key=lambda run: run.when):
        found.setdefault(run.key, []).append(run)
    return {
        key: sorted(each, key=lambda run: run.precision != "fp32") for key, each in found.items()
    }


def _epochs(run: OwnRun) -> tuple[int, int]:
    """For trainings of how many epochs a run counts: the least and the most."""
    from compress.tradeoff.runs import EPOCHS_FACTOR

    return -(-run.epochs // EPOCHS_FACTOR), EPOCHS_FACTOR * run.epochs


def _candidate(run: OwnRun) -> bool:
    """Whether the run is of a network that choices are made among."""
    from compress.tradeoff.predictor import is_predictable

    return is_predictable(run.name)


def _to_dict(key: str, runs: list[OwnRun]) -> dict[str, Any]:
    first = runs[0]
    return {
        "id": key,
        "when": first.when,
        "data": {"name": first.data, "sha256": first.dataset_sha256},
        "student": first.name,
        "recipe": first.recipe,
        "epochs": first.epochs,
        "schedule": first.schedule,
        "train_images": first.train_images,
        "seed": first.seed,
        "validation_accuracy": {run.precision: 1 - run.error for run in runs},
        "counts_for_epochs": list(_epochs(first)) if _candidate(first) else None,
        "folder": first.folder,
    }


def document_of(trainings: dict[str, list[OwnRun]], path: Path) -> Document:
    """A row a training.

    Args:
        trainings: key -> what was found of one, float32 first.
        path: of the file that they are kept in.
    """
    from compress.report.document import Column, Document, Table, Text, names
    from compress.units import format_percent

    rows = []
    for key, runs in trainings.items():
        first = runs[0]
        least, most = _epochs(first)
        accuracies = (
            format_percent(1 - run.error, 1)
            + ("" if run.precision == "fp32" else f" in {run.precision}")
            for run in runs
        )
        rows.append(
            (
                key,
                first.when.removesuffix("+00:00").replace("T", " ")[:16],
                first.data,
                first.name,
                f"{first.recipe}, {first.epochs} epochs {first.schedule}, "
                f"{first.train_images:,} images, seed {first.seed}",
                ", ".join(accuracies),
                f"{least} to {most} epochs" if _candidate(first) else "nothing: no candidate",
            )
        )
    columns = (
        *names("id"),
        *(Column(header) for header in ("when, UTC", "data")),
        *names("student"),
        *(Column(header) for header in ("trained", "accuracy", "counts for")),
    )
    how = (
        f"{path}. A run counts for a choice on the same data with so many epochs, its schedule and "
        "as many training images. `compress runs remove ID` forgets one."
    )
    return Document((Table(columns, tuple(rows)), Text(how)))
