"""reproduce.settings: what a user asks otherwise is done, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.errors import UnknownName, UsageError
from compress.pipelines.reproduce.experiment import load_experiment, read_experiment
from compress.pipelines.reproduce.settings import Adapted, Overrides, adapt
from tests.pipelines.reproduce.tiny import EXPERIMENT

DECLARED = read_experiment(EXPERIMENT, "it", None)


def asked(**values: Any) -> Adapted:
    return adapt(DECLARED, Overrides(**values))


def test_nothing_asked_changes_nothing() -> None:
    found = asked()
    assert found.experiment == DECLARED
    assert found.differences == ()
    assert found.fraction == 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seeds": (3, 4)}, "seeds 3, 4 instead of 0, 1"),
        ({"epochs": 5}, "epochs 5 instead of 2"),
        ({"schedule": "one-cycle"}, "schedule one-cycle instead of steps"),
        ({"autocast": "bf16"}, "autocast bf16 instead of off"),
        ({"limit_train": 50}, "training images: 50"),
        ({"validation": 12}, "validation images: 12"),
        ({"students": ("wrn-16-1",)}, "students: wrn-16-1"),
        ({"methods": ("student",)}, "left out: KD T=5, logit-GAN"),
        ({"data": {"": "there/other.npz"}}, "stripes: --data other.npz"),
        ({"teachers": {"stripes": Path("a/b.pt")}}, "stripes: the teacher is the file b.pt"),
    ],
)
def test_what_differs_is_said(values: dict[str, Any], words: str) -> None:
    assert words in "; ".join(asked(**values).differences)


def test_a_trained_teacher_is_scaled_too_and_a_given_one_is_not_spoken_of() -> None:
    said = "; ".join(asked(epochs=5).differences)
    assert "the teacher: epochs 5 instead of 2" in said
    assert "the teacher: epochs" not in "; ".join(
        asked(epochs=5, teachers={"": Path("b.pt")}).differences
    )


def test_scale() -> None:
    found = asked(scale=0.5)
    assert found.experiment.seeds == (0,)
    assert found.experiment.tasks[0].schedule.epochs == 1
    assert found.fraction == 0.5
    # What is said outright wins.
    found = asked(scale=0.5, seeds=(0, 1, 2), epochs=7, limit_train=60)
    assert found.experiment.seeds == (0, 1, 2)
    assert found.experiment.tasks[0].schedule.epochs == 7
    assert found.fraction == 1


def test_faults_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        asked(scale=2.0, seeds=(-1,), epochs=0, limit_train=0, students=("vgg",), schedule="linear")
    for words in (
        "--scale is 2",
        "seeds are [-1]",
        "--epochs is 0",
        "--limit-train is 0",
        "vgg",
        "'linear'",
    ):
        assert words in str(caught.value)


def test_unknown_names() -> None:
    for values in (
        {"methods": ("logit-gam",)},
        {"tasks": ("stripe",)},
        {"data": {"stripe": "a.npz"}},
        {"teachers": {"stripe": Path("a.pt")}},
    ):
        with pytest.raises(UnknownName, match="Did you mean"):
            adapt(DECLARED, Overrides(**values))


def test_a_method_may_be_written_small() -> None:
    (method,) = asked(methods=("logit-gan",)).experiment.methods
    assert method.name == "logit-GAN"


def test_data_of_one_task_among_several_has_to_say_of_which() -> None:
    declared = load_experiment("logit-gan/table2")
    with pytest.raises(UsageError, match=r"--data x\.npz could be for cifar10, cifar100"):
        adapt(declared, Overrides(data={"": "x.npz"}))
    with pytest.raises(UsageError, match=r"--teacher t\.pt could be for"):
        adapt(declared, Overrides(teachers={"": Path("t.pt")}))
    found = adapt(declared, Overrides(data={"": "x.npz"}, tasks=("cifar10",)))
    assert [task.data for task in found.experiment.tasks] == ["x.npz"]
    found = adapt(declared, Overrides(data={"cifar100": "x.npz"}))
    assert [task.data for task in found.experiment.tasks] == ["cifar10", "x.npz"]


def test_a_task_without_data_is_left_out_and_said() -> None:
    declared = load_experiment("logit-gan/table2")
    found = adapt(declared, Overrides())
    assert [task.name for task in found.experiment.tasks] == ["cifar10", "cifar100"]
    assert any("--data imagenet32=FILE" in text for text in found.differences)
    found = adapt(declared, Overrides(data={"imagenet32": "i.npz"}))
    assert [task.name for task in found.experiment.tasks][-1] == "imagenet32"
    with pytest.raises(UsageError, match="There is no data for imagenet32"):
        adapt(declared, Overrides(tasks=("imagenet32",)))
