"""What the experiment of every method found -> what `compress recipes` shows of it.

    python benchmarks/found.py runs/reproduce/cifar10_resnet56/results.json \
        compress/recipes/found.json

Of each recipe it takes the trainings with its default options: mean and standard deviation of the
test accuracy after the last epoch, and how many seeds. compress/recipes/found.json is not edited by
hand.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from compress.files import read_json, write_json
from compress.recipes.registry import RECIPES, make_recipe


def main() -> None:
    source, output = map(Path, sys.argv[1:])
    results = read_json(source)
    write_json(output, found(results))
    print(json.dumps(found(results), indent=2))


def found(results: dict[str, Any]) -> dict[str, Any]:
    """The figures of an experiment with one task and one student, by recipe."""
    (task,) = results["tasks"]
    (student,) = {each["student"] for each in task["trainings"]}
    n, training = task["data"]["n"], task["training"]
    figures = {}
    for name in RECIPES:
        shares = [
            each["last"]["test"]
            for each in task["trainings"]
            if each["recipe"] == name
            and make_recipe(name, **each["recipe_options"]) == make_recipe(name)
        ]
        if shares:
            figures[name] = {
                "mean": round(statistics.mean(shares), 5),
                "standard_deviation": (
                    round(statistics.stdev(shares), 5) if len(shares) > 1 else None
                ),
                "n": len(shares),
            }
    return {
        "experiment": (
            f"a {student} taught by {task['teacher']['name']} on {n['train']:,} images of "
            f"{Path(task['data']['name']).stem} in {training['epochs']} epochs, "
            f"{training['schedule']}, last epoch, {n['test']:,} test images"
        ),
        "made": results["made"][:10],
        "test_accuracy": figures,
    }


if __name__ == "__main__":
    main()
