"""compress select: which student keeps a budget on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compress.commands.budget import budget_options, read_budget
from compress.commands.inputs import input_file
from compress.commands.options import (
    data_options,
    ignore_runs_option,
    load_data,
    parse_shape,
    refuse_without_data,
)

if TYPE_CHECKING:
    from compress.data.dataset import Dataset
    from compress.spec import Budget, ModelSpec


@click.command("select")
@budget_options()
@click.option("--teacher", **input_file(), help="The teacher's checkpoint, which --speedup needs.")
@click.option("--teacher-arch", help="Architecture of the teacher, if its weights do not show it.")
@data_options(default=None, validation=False, training=False)
@click.option("--num-classes", type=int, help="Number of classes, instead of --data.")
@click.option("--input-shape", metavar="C,H,W", help="Shape of an image, instead of --data.")
@click.option("--recipe", help="Method that will train the student. [default: dist]")
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Epochs of that training. Your earlier runs of half to twice as many count.",
)
@click.option(
    "--schedule",
    default="steps",
    show_default=True,
    help="Learning rate schedule of that training: steps, one-cycle or cosine.",
)
@click.option(
    "--tradeoff",
    **input_file(),
    help="Choose from a table that --save wrote instead of timing candidates.",
)
@click.option(
    "--save", type=click.Path(path_type=Path), help="Write the table to this .csv or .json file."
)
@click.option("--all", "everything", is_flag=True, help="Time every candidate.")
@click.option(
    "--no-cache", is_flag=True, help="Time candidates again even if their latency is cached."
)
@ignore_runs_option()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    teacher: Path | None,
    teacher_arch: str | None,
    num_classes: int | None,
    input_shape: str | None,
    recipe: str | None,
    epochs: int,
    schedule: str,
    tradeoff: Path | None,
    save: Path | None,
    everything: bool,
    no_cache: bool,
    ignore_runs: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Choose the best student that keeps a budget, by timing candidates on this machine.

    Candidates are WRNs of depth 10 to 40 and width 1 to 10, and CIFAR ResNets, in the given
    --precision. Without --data and --teacher they have the shape of the embedded data set.

    With --data, the results of your earlier runs on it improve the predicted errors. `compress
    runs` lists and removes them, and --ignore-runs chooses without them.
    """
    import json

    from compress.errors import UsageError
    from compress.files import check_writable
    from compress.recipes.registry import DEFAULT_RECIPE, make_recipe
    from compress.report import terminal
    from compress.tradeoff import (
        Plan,
        choose_runtime,
        load_table,
        table_for,
        try_precisions,
        with_runtime,
        write_csv,
    )
    from compress.tradeoff.report import document_of
    from compress.training.options import TrainingOptions

    if tradeoff is not None and (everything or save is not None):
        raise UsageError(
            "--tradeoff times nothing, so it excludes --all and --save. Leave these out."
        )
    budget = read_budget(options, tradeoff)
    if save is not None:
        check_writable(save)
    if not everything:
        budget.require_limit()
    TrainingOptions(epochs=epochs, schedule=schedule)  # refuses a schedule that there is not
    method = make_recipe(recipe or DEFAULT_RECIPE).name
    if options["data"] is None:
        refuse_without_data(data_dir=options["data_dir"], image_size=options["image_size"])
    shape = None if input_shape is None else parse_shape(input_shape, "--input-shape")
    data = None if options["data"] is None else load_data(options, seed=0, models=[teacher])
    teacher_spec = _teacher(teacher, teacher_arch, budget, data, num_classes, shape)
    classes, shape = _task(data, teacher_spec, num_classes, shape)
    known: dict[str, Any] = {
        "num_classes": classes,
        "input_shape": shape,
        "dataset_name": data.name if data else "",
        "dataset_sha256": data.sha256 if data else "",
        "plan": Plan(
            recipe=method,
            epochs=epochs,
            schedule=schedule,
            train_images=len(data.train) if data else None,
        ),
        "use_runs": not ignore_runs,
        "teacher": teacher_spec,
    }
    sample = None
    if data is not None:
        from compress.training.evaluation import timing_sample

        sample = timing_sample(data, data.validation, data.normalization)
    if tradeoff is None:
        _say(
            "Networks are timed on seeded noise; give --data to time them on images."
            if sample is None
            else f"Networks are timed on images of {sample.name}."
        )
    runtime = choose_runtime(
        budget,
        num_classes=classes,
        input_shape=shape,
        tradeoff=tradeoff,
        sample=sample,
        say=_say,
    )
    if runtime is not None:
        budget = with_runtime(budget, runtime.runtime)
    known["precisions"] = try_precisions(
        budget,
        num_classes=classes,
        input_shape=shape,
        tradeoff=tradeoff,
        sample=sample,
        say=_say,
    )
    if tradeoff is not None:
        table = load_table(tradeoff, **known)
    else:
        table = table_for(**known, sample=sample, cache=not no_cache, say=_say)
    choice = table.measure_all(budget) if everything else table.select(budget)
    if save is not None:
        write_csv(save, choice)
        _say(f"The table is in {save}.")
    if as_json:
        told = {"runtime_choice": None if runtime is None else runtime.to_dict()}
        click.echo(json.dumps(choice.to_dict() | told, indent=2, allow_nan=False))
    else:
        terminal.show(document_of(choice))


def _teacher(
    path: Path | None,
    arch: str | None,
    budget: Budget,
    data: Dataset | None,
    num_classes: int | None,
    shape: tuple[int, int, int] | None,
) -> ModelSpec | None:
    """The teacher's architecture, where a teacher is given or the budget needs one."""
    from compress.errors import UsageError
    from compress.models.checkpoint import read_tensors
    from compress.models.registry import changed

    if path is None:
        if budget.speedup is None:
            return None
        if data is not None or num_classes is not None or shape is not None:
            raise UsageError(
                "--speedup is relative to a teacher. Give the teacher for this data with --teacher."
            )
        from compress.data.sources import embedded_teacher_path

        path = embedded_teacher_path()
    known = shape if data is None else data.input_shape
    checkpoint = read_tensors(path)
    if known is None:
        return checkpoint.hypotheses(arch=arch)[0].spec
    spec = checkpoint.hypotheses(arch=arch, image_size=known[1:])[0].spec
    # Our own files say the size that they were trained at; what counts is what they will be given.
    return changed(spec, input_shape=(spec.input_shape[0], *known[1:]))


def _task(
    data: Dataset | None,
    teacher: ModelSpec | None,
    num_classes: int | None,
    shape: tuple[int, int, int] | None,
) -> tuple[int, tuple[int, int, int]]:
    """Classes and shape of what the student is for; contradictions are told at once."""
    from compress.data.dataset import load_dataset
    from compress.errors import UsageError

    said: dict[str, tuple[int | None, tuple[int, int, int] | None]] = {
        "the options": (num_classes, shape)
    }
    if data is not None:
        said["the data"] = (data.task.width, data.input_shape)
    if teacher is not None:
        said["the teacher"] = (teacher.num_classes, teacher.input_shape)
    classes = {who: value for who, (value, _) in said.items() if value is not None}
    shapes = {who: value for who, (_, value) in said.items() if value is not None}
    faults = [
        "; ".join(f"{who} {value}" for who, value in found.items())
        for found in (classes, shapes)
        if len(set(found.values())) > 1
    ]
    if faults:
        raise UsageError(
            f"Classes and image shapes (channels, height, width) do not agree: "
            f"{' and '.join(faults)}."
        )
    if not classes or not shapes:
        default = load_dataset("default")
        classes.setdefault("", default.task.width)
        shapes.setdefault("", default.input_shape)
    return next(iter(classes.values())), next(iter(shapes.values()))


def _say(text: str) -> None:
    click.echo(text, err=True)
