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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any

from compress.errors import InputError, UnknownName, UsageError
from compress.files import read_text
from compress.models.registry import spec_of
from compress.recipes.recipe import Recipe
from compress.recipes.registry import RECIPES, make_recipe
from compress.schema import Decoder, decode, parse_toml
from compress.schema.rules import (
    Batch,
    Between,
    Check,
    Classes,
    Count,
    FilePath,
    ImageShape,
    Length,
    Name,
    Number,
    PartOf,
    Percent,
    Positive,
    Seed,
    known,
)
from compress.schema.words import nearest, shown
from compress.training.options import TrainingOptions

MEASURES = ("error", "accuracy")
FIGURES = ("curves", "tradeoff", "scores")


def no_network(name: str) -> str:
    """What is wrong with a network's name; empty where nothing is."""
    try:
        spec_of(name)
    except UsageError as error:
        return f"is {shown(name)}: {str(error).rstrip('.')}"
    return ""


Network = Annotated[str, Check(no_network)]


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

    train: Number
    test: Number
    classes: Classes
    shape: ImageShape


@dataclass(frozen=True)
class ExperimentTeacher:
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
class ExperimentTask:
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
    teacher: ExperimentTeacher | None
    paper: Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class Timed:
    """A network's time in the paper.

    Attributes:
        network: its name.
        paper_s: seconds for a batch.
    """

    network: Network
    paper_s: Positive | None = None


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
    tasks: tuple[ExperimentTask, ...]
    figures: tuple[str, ...]
    score_class: int
    curve_images: int
    validate_images: int | None
    timing: tuple[Timed, ...]
    timing_batch: int
    notes: tuple[str, ...]

    def task(self, name: str) -> ExperimentTask:
        """The task of that name."""
        return next(task for task in self.tasks if task.name == name)


def known_experiments() -> dict[str, Traversable]:
    """Name -> file of the experiments inside the package."""
    root = files("compress.pipelines.reproduce") / "experiments"
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
    if not path.exists():
        if path.suffix == ".toml":
            raise InputError(f"There is no file {path}. Known by name: {', '.join(known)}.")
        raise UnknownName("experiment", name, known)
    return read_experiment(read_text(path, "an experiment"), str(path), path.parent)


def read_experiment(text: str, source: str, folder: Path | None) -> Experiment:
    """A TOML text -> the experiment.

    Args:
        text: of the file.
        source: what to call it in messages.
        folder: that a teacher's file is looked for in; None for the current one.

    Raises:
        InputError: with everything that is wrong.
    """
    where = f"{source} is not an experiment"
    declared = decode(_Declared, parse_toml(text, source), where)
    faults: list[str] = []
    base = _schedule(declared.schedule, "schedule", TrainingOptions(), faults)
    teachers = _schedule(declared.teacher_schedule, "teacher_schedule", base, faults)
    experiment = Experiment(
        name=declared.name,
        title=declared.title,
        source=declared.source,
        statistic=declared.statistic,
        measure=declared.measure,
        seeds=declared.seeds,
        split_seed=declared.split_seed,
        methods=tuple(
            Method(each.name or each.recipe, each.recipe, each.options) for each in declared.methods
        ),
        tasks=tuple(
            _task(each, declared.methods, base, teachers, folder, faults) for each in declared.tasks
        ),
        figures=declared.figures,
        score_class=declared.score_class,
        curve_images=declared.curve_images,
        validate_images=declared.validate_images,
        timing=declared.timing,
        timing_batch=declared.timing_batch,
        notes=declared.notes,
    )
    faults += list(_faults_of_lists(experiment))
    if faults:
        raise InputError(f"{where}: {'; '.join(faults)}.")
    return experiment


def check_seeds(seeds: Sequence[int]) -> Iterator[str]:
    """What is wrong with a list of seeds."""
    if not seeds:
        yield "there is no seed in seeds"
    if any(seed < 0 for seed in seeds):
        yield f"seeds are {list(seeds)}, they must be 0 or more"
    if len(set(seeds)) < len(seeds):
        yield f"seeds are {list(seeds)}, each may occur only once"


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


def _schedule(
    given: Mapping[str, Any], where: str, base: TrainingOptions, faults: list[str]
) -> TrainingOptions:
    """``base`` with what a table says otherwise."""
    try:
        return replace(base, **given)
    except UsageError as error:
        faults.append(f"{where}: {str(error).rstrip('.')}")
        return base


def _task(
    declared: _Task,
    methods: Sequence[_Method],
    base: TrainingOptions,
    teachers: TrainingOptions,
    folder: Path | None,
    faults: list[str],
) -> ExperimentTask:
    where, theirs, teacher = f"task {declared.name}", declared.teacher, None
    if theirs is not None:
        teacher = ExperimentTeacher(
            arch=theirs.arch or "",
            file=None if theirs.file is None else (folder or Path()) / theirs.file,
            normalize=theirs.normalize,
            schedule=_schedule(theirs.schedule, f"{where}.teacher.schedule", teachers, faults),
            paper=theirs.paper,
        )
    needy = [m.name or m.recipe for m in methods if m.make().teacher_outputs]
    if needy and teacher is None:
        faults.append(f"{where} has no teacher, but {', '.join(needy)} need one")
    return ExperimentTask(
        name=declared.name,
        data=declared.data,
        validation=declared.validation,
        limit_train=declared.limit_train,
        images=declared.images,
        students=declared.students,
        schedule=_schedule(declared.schedule, f"{where}.schedule", base, faults),
        teacher=teacher,
        paper=dict(_paper(declared, [m.name or m.recipe for m in methods], faults)),
    )


def _paper(
    declared: _Task, methods: Sequence[str], faults: list[str]
) -> Iterator[tuple[tuple[str, str], float]]:
    where, students = f"task {declared.name}.paper", declared.students
    for student, row in declared.paper.items():
        if student not in students:
            faults.append(f"{where}: {student} is not a student{nearest(student, students)}")
        for method, figure in row.items():
            if method not in methods:
                faults.append(f"{where}: {method} is not a method{nearest(method, methods)}")
            else:
                yield (student, method), figure


def check_network(name: str, where: str) -> list[str]:
    """What is wrong with a network's name."""
    fault = no_network(name)
    return [f"{where} {fault}"] if fault else []


# --- The file's layout ---------------------------------------------------------------------------


ScheduleTable = Annotated[dict[str, Any], PartOf(TrainingOptions, without=("seed",))]


@dataclass(frozen=True)
class _Method:
    recipe: Annotated[str, known(*RECIPES)]
    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        decoder = Decoder()
        options = decoder.fields(RECIPES[self.recipe], self.options, "options")
        decoder.refuse(f"recipe {self.recipe}", error=UsageError)
        object.__setattr__(self, "options", options)
        self.make()

    def make(self) -> Recipe:
        """The recipe with its options.

        Raises:
            UsageError: they do not go together.
        """
        return make_recipe(self.recipe, **self.options)


@dataclass(frozen=True)
class _Teacher:
    arch: Network | None = None
    file: FilePath | None = None
    normalize: str | None = None
    schedule: ScheduleTable = field(default_factory=dict)
    paper: Percent | None = None

    def __post_init__(self) -> None:
        if not self.arch and self.file is None:
            raise ValueError("it has neither arch nor file")


@dataclass(frozen=True)
class _Task:
    name: Name
    students: Annotated[tuple[Network, ...], Length(1, 1000)]
    data: str = ""
    validation: Number | None = None
    limit_train: Number | None = None
    images: Images | None = None
    schedule: ScheduleTable = field(default_factory=dict)
    teacher: _Teacher | None = None
    paper: dict[str, dict[str, Percent]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Declared:
    name: str = ""
    title: str = ""
    source: str = ""
    statistic: str = ""
    measure: Annotated[str, known(*MEASURES)] = "accuracy"
    seeds: tuple[Seed, ...] = (0,)
    split_seed: Seed = 0
    schedule: ScheduleTable = field(default_factory=dict)
    teacher_schedule: ScheduleTable = field(default_factory=dict)
    methods: tuple[_Method, ...] = ()
    tasks: tuple[_Task, ...] = ()
    figures: tuple[Annotated[str, known(*FIGURES)], ...] = ()
    score_class: Annotated[int, Between(0, 1_000_000)] = 0
    curve_images: Count = 0
    validate_images: Number | None = None
    timing: tuple[Timed, ...] = ()
    timing_batch: Batch = 1
    notes: tuple[str, ...] = ()
