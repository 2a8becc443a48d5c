"""``compress.select``: which student keeps a budget on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress import defaults
from compress.api.budget import budget_of
from compress.api.inputs import (
    FilePath,
    Say,
    Shape,
    check_files,
    path_of,
    read_data,
    refuse_without_data,
    silent,
)
from compress.training.options import DEFAULTS

if TYPE_CHECKING:
    from compress.data.dataset import Dataset
    from compress.spec import Budget, ModelSpec
    from compress.tradeoff import Choice


def select(
    *,
    budget_ms: float | None = None,
    speedup: float | None = None,
    budget_mb: float | None = None,
    headroom: float | None = None,
    batch: int = 1,
    percentile: float = 50.0,
    threads: int | None = None,
    runtime: str = defaults.RUNTIME,
    precision: str = defaults.PRECISION,
    teacher: FilePath | None = None,
    teacher_arch: str | None = None,
    data: FilePath | None = None,
    data_dir: FilePath | None = None,
    image_size: int | None = None,
    num_classes: int | None = None,
    input_shape: Shape | None = None,
    recipe: str = defaults.RECIPE,
    epochs: int = DEFAULTS.epochs,
    schedule: str = DEFAULTS.schedule,
    tradeoff: FilePath | None = None,
    save: FilePath | None = None,
    measure_all: bool = False,
    no_cache: bool = False,
    ignore_runs: bool = False,
    say: Say = silent,
) -> Choice:
    """Chooses the best student that keeps a budget, by timing candidates; as ``compress select``.

    Without ``data`` and ``teacher`` they are made for the embedded data set.

        choice = compress.select(budget_ms=2, precision="auto")
        choice.spec.name

    Args:
        budget_ms: see ``compress.distill``.
        speedup: see ``compress.distill``.
        budget_mb: see ``compress.distill``.
        headroom: see ``compress.distill``.
        batch: see ``compress.distill``.
        percentile: see ``compress.distill``.
        threads: see ``compress.distill``.
        runtime: see ``compress.distill``.
        precision: see ``compress.distill``.
        teacher: its checkpoint, which ``speedup`` needs.
        teacher_arch: its architecture, if its weights do not show it.
        data: see ``compress.distill``. None: noise is the input.
        data_dir: see ``compress.distill``. None: noise is the input.
        image_size: see ``compress.distill``. None: noise is the input.
        num_classes: instead of ``data``.
        input_shape: channels, height and width of an image, instead of ``data``.
        recipe: that will train the student.
        epochs: of that training. Earlier runs of half to twice as many count.
        schedule: of the learning rate in that training.
        tradeoff: chooses from a table that ``save`` wrote instead of timing candidates.
        save: writes the table to this .csv or .json file.
        measure_all: times every candidate.
        no_cache: times candidates again even if their latency is cached.
        ignore_runs: chooses without the results of earlier runs on the same data.
        say: is told what is being done.

    Returns:
        The chosen network (``spec``, ``precision``) and every candidate with what became of it.

    Raises:
        UsageError: an argument that cannot be.
        InputError: a file or the data cannot be used.
        NoStudentFits: no candidate keeps the budget; the message names the nearest.
    """
    from dataclasses import replace

    from compress.errors import UsageError
    from compress.files import check_writable
    from compress.recipes.registry import make_recipe
    from compress.tradeoff import (
        Plan,
        choose_runtime,
        load_table,
        table_for,
        try_precisions,
        with_runtime,
        write_csv,
    )
    from compress.training.evaluation import timing_sample

    table_file, saved = path_of(tradeoff), path_of(save)
    check_files(teacher, table_file)
    if table_file is not None and (measure_all or saved is not None):
        raise UsageError(
            "--tradeoff times nothing, so it excludes --all and --save. Leave these out."
        )
    budget = budget_of(
        budget_ms=budget_ms,
        headroom=headroom,
        budget_mb=budget_mb,
        speedup=speedup,
        batch=batch,
        percentile=percentile,
        threads=threads,
        runtime=runtime,
        precision=precision,
        tradeoff=table_file,
    )
    if saved is not None:
        check_writable(saved)
    if not measure_all:
        budget.require_limit()
    replace(DEFAULTS, epochs=epochs, schedule=schedule)  # refuses a schedule that there is not
    method = make_recipe(recipe).name
    images = None
    if data is None:
        refuse_without_data(data_dir=data_dir, image_size=image_size)
    else:
        images = read_data(
            data, data_dir=data_dir, image_size=image_size, seed=0, models=[teacher], say=say
        )
    teacher_spec = _teacher(
        path_of(teacher), teacher_arch, budget, images, num_classes, input_shape
    )
    if num_classes == 1:
        raise UsageError("num_classes is 1, it must be 2 or more.")
    classes, shape = _task(images, teacher_spec, num_classes, input_shape)
    sample = None
    if images is not None:
        sample = timing_sample(images, images.validation, images.normalization)
    if table_file is None:
        say(
            "Networks are timed on seeded noise; give --data to time them on images."
            if sample is None
            else f"Networks are timed on images of {sample.name}."
        )
    networks: dict[str, Any] = {"num_classes": classes, "input_shape": shape}
    timed: dict[str, Any] = networks | {"tradeoff": table_file, "sample": sample, "say": say}
    fastest = choose_runtime(budget, **timed)
    if fastest is not None:
        budget = with_runtime(budget, fastest.runtime)
    known: dict[str, Any] = networks | {
        "dataset_name": images.name if images else "",
        "dataset_sha256": images.sha256 if images else "",
        "plan": Plan(
            recipe=method,
            epochs=epochs,
            schedule=schedule,
            train_images=len(images.train) if images else None,
        ),
        "use_runs": not ignore_runs,
        "teacher": teacher_spec,
        "precisions": try_precisions(budget, **timed),
    }
    if table_file is not None:
        table = load_table(table_file, **known)
    else:
        table = table_for(**known, sample=sample, cache=not no_cache, say=say)
    choice = table.measure_all(budget) if measure_all else table.select(budget)
    if saved is not None:
        write_csv(saved, choice)
        say(f"The table is in {saved}.")
    return replace(choice, runtime=fastest)


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

    if num_classes is not None and num_classes < 2:
        raise UsageError(f"num_classes is {num_classes}, it must be 2 or more.")
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
