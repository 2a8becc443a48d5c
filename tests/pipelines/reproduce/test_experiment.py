"""reproduce.experiment: what is declared is read, and everything wrong is told at once."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from compress.errors import InputError, UnknownName
from compress.models.families.wrn import Wrn
from compress.pipelines.reproduce.experiment import (
    known_experiments,
    load_experiment,
    read_experiment,
    slug,
)
from tests.pipelines.reproduce.tiny import EXPERIMENT
from tests.schema.broken import answers, as_toml, broken_toml

NAMES = (
    "crd/wrn-40-2_wrn-16-2",
    "crd/wrn-40-2_wrn-40-1",
    "ktan/table1",
    "logit-gan/table2",
    "logit-gan/table3",
    "logit-gan/table4",
    "logit-gan/table5",
)


def test_the_known_experiments() -> None:
    assert tuple(known_experiments()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_known_experiment_can_be_run(name: str) -> None:
    """Every recipe, option and network in it is registered, and every cell has a figure."""
    experiment = load_experiment(name)
    assert experiment.name == name
    assert experiment.title
    assert "arXiv" in experiment.source
    for task in experiment.tasks:
        assert task.images is not None
        assert task.teacher is not None
        assert task.teacher.paper is not None
        assert set(task.paper) == {
            (student, method.name) for student in task.students for method in experiment.methods
        }


def test_table_5_has_the_figures_that_the_predictor_has() -> None:
    *students, teacher = Wrn.published.errors.items()
    experiment = load_experiment("logit-gan/table5")
    (task,) = experiment.tasks
    columns = {"student": "supervised", "KD T=5": "kd", "logit-GAN": "logit-gan"}
    for name, errors in students:
        for method, recipe in columns.items():
            assert task.paper[name, method] == errors[recipe]
    assert task.teacher is not None
    assert task.teacher.paper == teacher[1]["supervised"]
    assert [each.network for each in experiment.timing] == list(Wrn.published.errors)
    assert experiment.timing_batch == 100


def test_what_is_declared_is_read() -> None:
    experiment = read_experiment(EXPERIMENT, "it", None)
    assert experiment.seeds == (0, 1)
    assert [method.name for method in experiment.methods] == ["student", "KD T=5", "logit-GAN"]
    assert experiment.methods[1].make().to_dict()["temperature"] == 5.0
    (task,) = experiment.tasks
    assert (task.schedule.epochs, task.schedule.lr, task.schedule.momentum) == (2, 0.05, 0.9)
    assert task.teacher is not None
    assert task.teacher.schedule == task.schedule
    assert task.paper == {("wrn-10-0.5", "student"): 7.46, ("wrn-10-0.5", "KD T=5"): 7.0}


def test_schedules_of_tasks_and_teachers() -> None:
    text = EXPERIMENT.replace("[[tasks]]", "[teacher_schedule]\nepochs = 9\n[[tasks]]").replace(
        'teacher = { arch = "wrn-10-1", paper = 1.5 }',
        "schedule = { epochs = 4, milestones = [0.5] }\n"
        'teacher = { arch = "wrn-10-1", schedule = { lr = 1 } }',
    )
    (task,) = read_experiment(text, "it", None).tasks
    assert (task.schedule.epochs, task.schedule.milestones) == (4, (0.5,))
    assert task.teacher is not None
    assert (task.teacher.schedule.epochs, task.teacher.schedule.lr) == (9, 1.0)
    assert task.teacher.schedule.batch_size == 32


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("measure =", "mesure =", "has no key mesure (did you mean measure?)"),
        ("seeds = [0, 1]", "seeds = [0, 0]", "each may occur only once"),
        ("seeds = [0, 1]", "seeds = 3", "seeds is 3, it must be a list, each a whole number"),
        ("seeds = [0, 1]", "seeds = []", "there is no seed"),
        ('"error"', '"errors"', "measure is 'errors'"),
        ("epochs = 2", "epochs = 2.5", "schedule.epochs is 2.5, it must be a whole number"),
        ("epochs = 2", "epochs = 0", "epochs is 0, it must be 1 or more"),
        ("epochs = 2", "seed = 2", "schedule has no key seed"),
        ("lr = 0.05", 'lr = "high"', "lr is 'high', it must be a number"),
        ('recipe = "kd"', 'recipe = "kdd"', "recipe is 'kdd', known are supervised, kd"),
        (
            "temperature = 5",
            "temprature = 5",
            "has no key temprature (did you mean temperature?)",
        ),
        ("temperature = 5", "temperature = -5", "The temperature is -5.0"),
        ("temperature = 5", "temperature = true", "temperature is True, it must be a number"),
        ('students = ["wrn-10-0.5"]', 'students = ["wrn-11-1"]', "depth is 11"),
        ('students = ["wrn-10-0.5"]', "students = []", "students is empty"),
        ('"wrn-10-1", paper', '"vgg", paper', "'vgg' is not the name of a network"),
        ("student = 7.46", "students = 7.46", "students is not a method (did you mean student?)"),
        ("student = 7.46", "student = 746", "student is 746.0, it must be from 0 to 100"),
        ('name = "logit-GAN"', 'name = "Student"', "two methods are called 'student'"),
        ('name = "logit-GAN"', 'name = "a,b"', "the method 'a,b' has a comma in its name"),
        ('teacher = { arch = "wrn-10-1", paper = 1.5 }\n', "", "has no teacher, but KD T=5, logit"),
        ('arch = "wrn-10-1"', "normalize = 'cifar10'", "has neither arch nor file"),
        ("validation = 30", "validation = 0", "validation is 0, it must be 1 or more"),
        (
            "title =",
            'figures = ["curve"]\ntitle =',
            "is 'curve', known are curves, ",
        ),
        ("[[tasks]]", "[[tasks", "is not a TOML file"),
    ],
)
def test_what_is_wrong_is_told(before: str, after: str, words: str) -> None:
    assert before in EXPERIMENT
    with pytest.raises(InputError) as caught:
        read_experiment(EXPERIMENT.replace(before, after), "it.toml", None)
    assert words in str(caught.value)
    assert "it.toml" in str(caught.value)


def test_faults_are_told_at_once() -> None:
    text = EXPERIMENT.replace("epochs = 2", "epoch = 2").replace('"kd"', '"kdd"')
    with pytest.raises(InputError) as caught:
        read_experiment(text.replace("wrn-10-0.5", "wrn-11-1"), "it", None)
    for words in ("no key epoch", "recipe is 'kdd'", "depth is 11"):
        assert words in str(caught.value)


def test_an_empty_file_is_no_experiment() -> None:
    with pytest.raises(InputError) as caught:
        read_experiment("", "it", None)
    assert "there are no [[methods]]; there are no [[tasks]]" in str(caught.value)


def test_names_and_files(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'logit-gan/table2'"):
        load_experiment("logit-gan/tabel2")
    with pytest.raises(InputError, match="There is no file"):
        load_experiment(str(tmp_path / "mine.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="it is not text"):
        load_experiment(str(tmp_path / "bytes.toml"))
    (tmp_path / "mine.toml").write_text(
        EXPERIMENT.replace('arch = "wrn-10-1"', 'file = "teacher.pt"'), encoding="utf-8"
    )
    teacher = load_experiment(str(tmp_path / "mine.toml")).tasks[0].teacher
    assert teacher is not None
    assert teacher.file == tmp_path / "teacher.pt"


def test_the_experiments_of_the_benchmarks_can_be_read() -> None:
    root = Path(__file__).resolve().parents[3]
    paths = sorted((root / "benchmarks").glob("*.toml"))
    assert paths
    for path in paths:
        assert load_experiment(str(path)).methods


def test_names_as_folders() -> None:
    assert slug("KD T=5") == "kd-t=5"
    assert slug("L_S + L_L1") == "l-s-+-l-l1"
    assert slug("..") == slug("/") == "-"
    assert slug("../etc") == "-etc"


def test_every_value_of_a_file_is_read_or_told(tmp_path: Path) -> None:
    document = tomllib.loads(EXPERIMENT) | {
        "split_seed": 1,
        "score_class": 1,
        "curve_images": 10,
        "validate_images": 10,
        "timing_batch": 8,
        "timing": [{"network": "wrn-10-1", "paper_s": 0.5}],
        "figures": ["curves"],
        "notes": ["a note"],
        "teacher_schedule": {"epochs": 3, "milestones": [0.5]},
    }
    document["tasks"][0] |= {
        "limit_train": 50,
        "images": {"train": 100, "test": 50, "classes": 4, "shape": [1, 8, 8]},
        "schedule": {"lr": 0.1, "views": 1, "tf32": True},
    }
    path = tmp_path / "mine.toml"

    def read(text: str) -> None:
        path.write_text(text)
        found = load_experiment(str(path))
        assert found.timing_batch <= 65_536
        assert all(task.schedule.epochs <= 1_000_000 for task in found.tasks)

    read(as_toml(document))
    elsewhere = ("is not a method", "is not a student", "need one")
    counts = answers(broken_toml(document), read, InputError, elsewhere=elsewhere)
    assert min(counts.values()) > 100


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "lfs.toml").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(InputError, match="git lfs pull"):
        load_experiment(str(tmp_path / "lfs.toml"))
    with (tmp_path / "large.toml").open("wb") as file:
        file.truncate(5 << 30)
    with pytest.raises(InputError, match=r"has 5\.37 GB, but an experiment may have at most"):
        load_experiment(str(tmp_path / "large.toml"))
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(InputError, match="is a named pipe"):
        load_experiment(str(tmp_path / "pipe.toml"))
