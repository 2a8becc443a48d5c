"""An experiment as it is declared: methods, students, data, seeds, schedule, the paper's figures.

    name, title, source, measure, statistic, seeds, split_seed, ...      of the whole
    [schedule]                how students are trained; the fields of TrainingOptions
    [teacher_schedule]        what differs for a teacher that is trained
    [[methods]]               name, recipe, options: a row of the table
    [[tasks]]                 name, data, students, teacher: what the rows are filled with
    [tasks.paper.STUDENT]     method's name -> the paper's figure in %
    [[timing]]                network -> the paper's seconds for a batch

Nothing in a file is executed. Everything that is wrong with one is told at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_type_hints

from compress.errors import InputError, UnknownName, UsageError
from compress.recipes.recipe import Recipe
from compress.recipes.registry import RECIPES, make_recipe
from compress.reproduce.reading import Reader, fits, nearest, plain, told
from compress.spec import ModelSpec
from compress.training.options import TrainingOptions

MEASURES = ("error", "accuracy")
FIGURES = ("curves", "tradeoff", "scores")
TABLES = list[dict[str, Any]]


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: in the table.
        recipe: the recipe's name.
        options: of the recipe, where they are not its defaults.
    """

    name: str
    recipe: str
    options: Mapping[str, Any]

    def make(self) -> Recipe:
        """The recipe with its options."""
        return make_recipe(self.recipe, **self.options)


@dataclass(frozen=True)
class Images:
    """What a task's data should hold; lets the cost be told before anything is downloaded.

    Attributes:
        train, test: images.
        classes: how many.
        shape: channels, height, width.
    """

    train: int
    test: int
    classes: int
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Teacher:
    """What a task's students learn from.

    Attributes:
        arch: what is trained where no file is given; empty where a file has to be.
        file: a checkpoint; None to train one.
        normalize: of its input, where the file does not say it.
        schedule: of its training.
        paper: its figure in the paper, in %.
    """

    arch: str
    file: Path | None
    normalize: str | None
    schedule: TrainingOptions
    paper: float | None


@dataclass(frozen=True)
class Task:
    """One data set with its teacher and students.

    Attributes:
        name: of the task.
        data: as ``load_dataset`` takes it; empty where it has to be given.
        validation: images held out of the training data; None for the usual number.
        limit_train: training images that are used; None for all.
        images: what the data should hold, where the file says it.
        students: names of networks.
        schedule: of the students; its seed counts for nothing.
        teacher: None where no method needs one.
        paper: (student, method) -> the figure in %.
    """

    name: str
    data: str
    validation: int | None
    limit_train: int | None
    images: Images | None
    students: tuple[str, ...]
    schedule: TrainingOptions
    teacher: Teacher | None
    paper: Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class Timed:
    """A network's time in the paper.

    Attributes:
        network: its name.
        paper_s: seconds for a batch.
    """

    network: str
    paper_s: float | None


@dataclass(frozen=True)
class Experiment:
    """What is to be trained, and what the paper found.

    Attributes:
        name: by which it is asked for.
        title: of the table.
        source: where the figures come from.
        statistic: what the paper's figures are.
        measure: one of MEASURES: what the table shows of test images, in %.
        seeds: of the students; a training each.
        split_seed: of the validation images and of the limit, the same for all, so that one
            teacher and its stored logits serve all.
        methods, tasks: rows, and what they are filled with.
        figures: of FIGURES, beside the table.
        score_class: whose scores the histogram shows.
        curve_images: training images that are scored after each epoch for the curves; 0 for none.
        validate_images: validation images that are scored after each epoch and choose the best
            one; None for all. The table's validation figures are always of all.
        timing: networks that are timed.
        timing_batch: images in a timed call.
        notes: what differs from the paper and is known beforehand, a sentence each.
    """

    name: str
    title: str
    source: str
    statistic: str
    measure: str
    seeds: tuple[int, ...]
    split_seed: int
    methods: tuple[Method, ...]
    tasks: tuple[Task, ...]
    figures: tuple[str, ...]
    score_class: int
    curve_images: int
    validate_images: int | None
    timing: tuple[Timed, ...]
    timing_batch: int
    notes: tuple[str, ...]

    def task(self, name: str) -> Task:
        """The task of that name."""
        return next(task for task in self.tasks if task.name == name)


def known_experiments() -> dict[str, Traversable]:
    """Name -> file of the experiments inside the package."""
    root = files("compress.reproduce") / "experiments"
    return {
        f"{folder.name}/{file.name.removesuffix('.toml')}": file
        for folder in sorted(root.iterdir(), key=lambda each: each.name)
        if folder.is_dir()
        for file in sorted(folder.iterdir(), key=lambda each: each.name)
        if file.name.endswith(".toml")
    }


def load_experiment(name: str) -> Experiment:
    """A packaged experiment by its name, or the one in the user's own TOML file.

    Raises:
        UnknownName: neither.
        InputError: a file that cannot be read or has anything wrong in it; all of it is told.
    """
    known = known_experiments()
    if name in known:
        return read_experiment(known[name].read_text(encoding="utf-8"), name, None)
    path = Path(name)
    if not path.is_file():
        if path.suffix == ".toml":
            raise InputError(f"There is no file {path}. Known by name: {', '.join(known)}.")
        raise UnknownName("experiment", name, known)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(f"Cannot read {path}: {reason}.") from error
    return read_experiment(text, str(path), path.parent)


def read_experiment(text: str, source: str, folder: Path | None) -> Experiment:
    """A TOML text -> the experiment.

    Args:
        text: of the file.
        source: what to call it in messages.
        folder: that a teacher's file is looked for in; None for the current one.

    Raises:
        InputError: with everything that is wrong.
    """
    try:
        values = tomllib.loads(text)
    except ValueError as error:
        raise InputError(f"{source} is not a TOML file: {error}.") from error
    faults: list[str] = []
    top = Reader(values, "", faults)
    methods = _methods(top.take("methods", TABLES, ()), faults)
    base = _schedule(top.table("schedule"), "[schedule]", TrainingOptions(), faults)
    teachers = _schedule(top.table("teacher_schedule"), "[teacher_schedule]", base, faults)
    seeds = top.take("seeds", list[int], (0,))
    measure = top.take("measure", str, "accuracy")
    figures = top.take("figures", list[str], ())
    tasks = tuple(
        _task(table, f"task {number}", methods, base, teachers, folder, faults)
        for number, table in enumerate(top.take("tasks", TABLES, ()), 1)
    )
    numbers = {
        key: top.take(key, int, default)
        for key, default in (("split_seed", 0), ("score_class", 0), ("curve_images", 0))
    }
    validate = top.take("validate_images", int, None)
    batch = top.take("timing_batch", int, 1)
    experiment = Experiment(
        name=top.take("name", str, ""),
        title=top.take("title", str, ""),
        source=top.take("source", str, ""),
        statistic=top.take("statistic", str, ""),
        measure=measure,
        seeds=seeds,
        methods=methods,
        tasks=tasks,
        figures=figures,
        validate_images=validate,
        timing=tuple(_timed(table, faults) for table in top.take("timing", TABLES, ())),
        timing_batch=batch,
        notes=top.take("notes", list[str], ()),
        **numbers,
    )
    top.finish()
    if measure not in MEASURES:
        faults.append(f"measure is '{measure}', known are {' and '.join(MEASURES)}")
    for figure in figures:
        if figure not in FIGURES:
            faults.append(f"there is no figure '{figure}'{nearest(figure, FIGURES)}")
    faults += [f"{key} is {value}, not 0 or more" for key, value in numbers.items() if value < 0]
    for key, value in (("validate_images", validate), ("timing_batch", batch)):
        if value is not None and value < 1:
            faults.append(f"{key} is {value}, not 1 or more")
    faults += list(_faults_of_lists(experiment))
    if faults:
        raise InputError(f"{source} is no experiment: {'; '.join(faults)}.")
    return experiment


def check_seeds(seeds: Sequence[int]) -> Iterator[str]:
    """What is wrong with a list of seeds."""
    if not seeds:
        yield "there is no seed"
    if any(seed < 0 for seed in seeds):
        yield f"seeds are {list(seeds)}, they must be 0 or more"
    if len(set(seeds)) < len(seeds):
        yield f"seeds are {list(seeds)}, each may be there once"


def _faults_of_lists(experiment: Experiment) -> Iterator[str]:
    yield from check_seeds(experiment.seeds)
    if not experiment.methods:
        yield "there are no [[methods]]"
    if not experiment.tasks:
        yield "there are no [[tasks]]"
    for kind, given in (
        ("method", [method.name for method in experiment.methods if method.name]),
        ("task", [task.name for task in experiment.tasks if task.name]),
    ):
        # --methods and --tasks take lists.
        yield from (f"the {kind} '{name}' has a comma in its name" for name in given if "," in name)
        names = [slug(name) for name in given]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"two {kind}s are called '{name}'"


def slug(name: str) -> str:
    """A name as a folder: lower case; what is no letter, figure, ., + or = becomes a hyphen.

    No name leads out of the folder that it is put into.
    """
    kept = "".join(c if c.isascii() and (c.isalnum() or c in ".+=") else "-" for c in name.lower())
    return "-".join(filter(None, kept.split("-"))).strip(".") or "-"


# --- Parts ---------------------------------------------------------------------------------------


def _methods(tables: Sequence[Mapping[str, Any]], faults: list[str]) -> tuple[Method, ...]:
    found = []
    for number, table in enumerate(tables, 1):
        reader = Reader(table, f"method {number}", faults)
        name, recipe = reader.take("name", str, ""), reader.take("recipe", str)
        options = reader.table("options")
        reader.finish()
        if not name:
            name = recipe or ""
        if recipe is not None and recipe not in RECIPES:
            faults.append(f"method '{name}': there is no recipe {recipe}{_near_recipe(recipe)}")
        elif recipe is not None:
            options = dict(_options(recipe, options, f"method '{name}'", faults))
        found.append(Method(name, recipe or "", options))
    return tuple(found)


def _near_recipe(name: str) -> str:
    return nearest(name, list(RECIPES))


def _options(
    recipe: str, values: Mapping[str, Any], where: str, faults: list[str]
) -> Iterator[tuple[str, Any]]:
    """(option, value) of each that is right in itself; then they are tried together."""
    hints = get_type_hints(RECIPES[recipe])
    kinds = {field.name: hints[field.name] for field in fields(RECIPES[recipe])}
    right = {}
    for key, value in values.items():
        if key not in kinds:
            faults.append(
                f"{where}: recipe {recipe} has no option {key}{nearest(key, list(kinds))}"
            )
        elif not fits(value, kinds[key]):
            faults.append(f"{where}: {key} is {value!r}, it must be {told(kinds[key])}")
        else:
            right[key] = plain(value, kinds[key])
    try:
        make_recipe(recipe, **right)
    except UsageError as error:
        faults.append(f"{where}: {str(error).rstrip('.')}")
        return
    yield from right.items()


def _schedule(
    values: Mapping[str, Any], where: str, base: TrainingOptions, faults: list[str]
) -> TrainingOptions:
    """``base`` with what a table says otherwise."""
    hints = get_type_hints(TrainingOptions)
    reader = Reader(values, where, faults)
    names = [field.name for field in fields(TrainingOptions) if field.name != "seed"]
    given = {}
    for name in names:
        found = reader.take(name, hints[name], None)
        if found is not None:
            given[name] = found
    reader.finish()
    try:
        return replace(base, **given)
    except UsageError as error:
        faults.append(f"{where}: {str(error).rstrip('.')}")
        return base


def _task(
    values: Mapping[str, Any],
    where: str,
    methods: Sequence[Method],
    base: TrainingOptions,
    teachers: TrainingOptions,
    folder: Path | None,
    faults: list[str],
) -> Task:
    reader = Reader(values, where, faults)
    name = reader.take("name", str)
    students = reader.take("students", list[str])
    schedule = _schedule(reader.table("schedule"), f"{where}.schedule", base, faults)
    told_teacher = reader.take("teacher", dict, None)
    teacher = None
    if told_teacher is not None:
        teacher = _teacher(told_teacher, f"{where}.teacher", teachers, folder, faults)
    images = reader.take("images", dict, None)
    task = Task(
        name=name or where,
        data=reader.take("data", str, ""),
        validation=reader.take("validation", int, None),
        limit_train=reader.take("limit_train", int, None),
        images=None if images is None else _images(images, f"{where}.images", faults),
        students=students or (),
        schedule=schedule,
        teacher=teacher,
        paper=dict(_paper(reader.table("paper"), where, students or (), methods, faults)),
    )
    reader.finish()
    if students == ():
        reader.fault("has no students")
    for student in task.students:
        faults += check_network(student, where)
    for key, value in (("validation", task.validation), ("limit_train", task.limit_train)):
        if value is not None and value < 1:
            reader.fault(f"{key} is {value}, it must be 1 or more")
    needy = [m.name for m in methods if m.recipe in RECIPES and m.make().teacher_outputs]
    if needy and teacher is None:
        reader.fault(f"has no teacher, and {', '.join(needy)} need one")
    return task


def check_network(name: str, where: str) -> list[str]:
    """What is wrong with a network's name."""
    try:
        ModelSpec.parse(name)
    except UsageError as error:
        return [f"{where}: {str(error).rstrip('.')}"]
    return []


def _teacher(
    values: Mapping[str, Any],
    where: str,
    base: TrainingOptions,
    folder: Path | None,
    faults: list[str],
) -> Teacher:
    reader = Reader(values, where, faults)
    arch, file = reader.take("arch", str, ""), reader.take("file", str, None)
    teacher = Teacher(
        arch=arch,
        file=None if file is None else (folder or Path()) / file,
        normalize=reader.take("normalize", str, None),
        schedule=_schedule(reader.table("schedule"), f"{where}.schedule", base, faults),
        paper=reader.take("paper", float, None),
    )
    reader.finish()
    if arch:
        faults += check_network(arch, where)
    elif file is None:
        reader.fault("has neither arch nor file")
    return teacher


def _images(values: Mapping[str, Any], where: str, faults: list[str]) -> Images | None:
    reader = Reader(values, where, faults)
    counts = [reader.take(key, int) for key in ("train", "test", "classes")]
    shape = reader.take("shape", list[int])
    reader.finish()
    if shape is None or None in counts:
        return None
    if len(shape) != 3 or min(*counts, *shape) < 1:
        reader.fault("must have positive counts and a shape of channels, height, width")
        return None
    return Images(counts[0], counts[1], counts[2], (shape[0], shape[1], shape[2]))


def _paper(
    tables: Mapping[str, Any],
    where: str,
    students: Sequence[str],
    methods: Sequence[Method],
    faults: list[str],
) -> Iterator[tuple[tuple[str, str], float]]:
    names = [method.name for method in methods]
    for student, row in tables.items():
        if student not in students:
            faults.append(f"{where}.paper: {student} is no student{nearest(student, students)}")
        if not isinstance(row, dict):
            faults.append(f"{where}.paper: {student} is {row!r}, it must be a table")
            continue
        for method, figure in row.items():
            if method not in names:
                faults.append(f"{where}.paper: {method} is no method{nearest(method, names)}")
            elif not fits(figure, float) or not 0 <= figure <= 100:
                faults.append(f"{where}.paper: {student} {method} is {figure!r}, not in 0 to 100")
            else:
                yield (student, method), float(figure)


def _timed(values: Mapping[str, Any], faults: list[str]) -> Timed:
    reader = Reader(values, "timing", faults)
    timed = Timed(reader.take("network", str, ""), reader.take("paper_s", float, None))
    reader.finish()
    faults += check_network(timed.network, "timing")
    if timed.paper_s is not None and timed.paper_s <= 0:
        reader.fault(f"paper_s is {timed.paper_s}, it must be positive")
    return timed
