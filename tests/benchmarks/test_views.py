"""benchmarks/views.py: losses are paired by seed, and judged by the seeds' spread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.views import found_in, losses, markdown, verdict
from compress.pipelines.reproduce.experiment import load_experiment


def results(**validation: list[float]) -> dict[str, Any]:
    """An experiment's results: views0=[accuracy of each seed, ...], ..."""
    return {
        "title": "Views",
        "made": "2026-01-01T00:00:00",
        "machine": {"gpu": "", "cpu": "a CPU"},
        "versions": {"torch": "2"},
        "finished": 1,
        "planned": 2,
        "tasks": [
            {
                "training": {
                    "views": int(name.removeprefix("views")),
                    "epochs": 12,
                    "schedule": "one-cycle",
                },
                "data": {"n": {"train": 10000, "validation": 5000, "test": 2000}},
                "trainings": [
                    {"method": "KD", "seed": seed, "last": {"validation": value, "test": 0.5}}
                    for seed, value in enumerate(values)
                ],
            }
            for name, values in validation.items()
        ],
    }


def test_losses_are_of_the_same_seed() -> None:
    found = found_in(results(views0=[0.70, 0.80, 0.75], views1=[0.69, 0.78]))
    assert losses(found, "KD", 1) == pytest.approx([1.0, 2.0])


@pytest.mark.parametrize(
    ("lost", "said"), [([2.1, 2.1], "costs accuracy"), ([0.9, 0.9], "no loss"), ([-3, -3], "no lo")]
)
def test_a_loss_counts_beyond_the_spread_of_the_seeds(lost: list[float], said: str) -> None:
    assert verdict(lost, [70.0, 72.0]).startswith(said)  # a deviation of 1.41


def test_the_page_says_what_reuse_costs() -> None:
    given = results(views0=[0.70, 0.72], views1=[0.68, 0.68], views4=[0.70, 0.72])
    page = "\n".join(markdown(given, found_in(given)))
    assert "| KD | 1 | 68.00 ± 0.00 | 50.00 ± 0.00 | 3.00 ± 1.41 | 1.41 | 2 |" in page
    assert "- KD, 1: costs accuracy beyond the seeds' spread." in page
    assert "- KD, 4: no loss beyond the seeds' spread." in page
    assert "12 epochs (one-cycle) on 10,000 images; 5,000 validation images and 2,000" in page
    assert "one seed says nothing" in "\n".join(
        markdown(given, found_in(results(views0=[0.7], views1=[0.6])))
    )
    with pytest.raises(SystemExit):
        markdown(given, {})


def test_the_experiment_varies_the_views_and_nothing_else() -> None:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "cifar10_views.toml"
    tasks = load_experiment(str(path)).tasks
    schedules = [task.schedule.to_dict() for task in tasks]
    assert [each.pop("views") for each in schedules] == [0, 1, 2, 4, 8]
    assert all(each == schedules[0] for each in schedules)
    assert len({(task.limit_train, task.validation, task.students) for task in tasks}) == 1
