r"""Does it cost accuracy to reuse the teacher's outputs of a few views of each image?

    compress reproduce benchmarks/cifar10_views.toml $(for v in 0 1 2 4 8; do
        echo --data views-$v=cifar10.npz --teacher views-$v=resnet56.th; done)
    python -m benchmarks.views runs/reproduce/cifar10_views --output RESULT.md

Compares the tasks of an experiment that differ in nothing but the number of views with the one of
0, where every epoch has its own crop and the teacher runs in every step. Seeds are paired. The
verdict is by validation images: whether the mean loss is larger than the standard deviation over
the seeds of 0.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.files import read_json

# (method, views) -> seed -> accuracies by split
Found = dict[tuple[str, int], dict[int, Mapping[str, float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="of the experiment")
    parser.add_argument("--output", type=Path, required=True, help="a Markdown file")
    asked = parser.parse_args()
    results = read_json(asked.folder / "results.json")
    text = "\n".join(markdown(results, found_in(results)))
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(text, encoding="utf-8")
    print(text)


def found_in(results: Mapping[str, Any]) -> Found:
    """The last epoch of each training that is finished."""
    found: Found = {}
    for task in results["tasks"]:
        for each in task["trainings"]:
            key = each["method"], int(task["training"]["views"])
            found.setdefault(key, {})[each["seed"]] = each["last"]
    return found


def losses(found: Found, method: str, views: int) -> list[float]:
    """Points of validation accuracy that each seed has less than with 0 views."""
    here, base = found[method, views], found.get((method, 0), {})
    return [
        100 * (base[seed]["validation"] - here[seed]["validation"])
        for seed in sorted(here.keys() & base.keys())
    ]


def markdown(results: Mapping[str, Any], found: Found) -> list[str]:
    """The table and what it says, of whatever is finished."""
    if not found:
        sys.exit("No training is finished.")
    machine = results["machine"]
    page = [
        f"# {results['title']}",
        "",
        f"{results['made'][:10]}, {machine['gpu'] or machine['cpu']}, torch "
        f"{results['versions']['torch']}; {results['finished']} of {results['planned']} trainings; "
        f"`python -m benchmarks.views`. {how(results['tasks'][0])} Last epoch, mean and standard "
        "deviation over the seeds. "
        "0 views: a new crop in every epoch, and the teacher runs in every step. 1: the teacher's "
        "outputs of the images as they are. The loss is of the same seed's validation accuracy "
        "with 0 views.",
        "",
        "| method | views | validation, % | test, % | loss against 0, points | seeds' deviation "
        "with 0 | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    verdicts = []
    for (method, views), seeds in sorted(found.items()):
        lost = losses(found, method, views)
        base = [100 * each["validation"] for each in found.get((method, 0), {}).values()]
        spread = f"{deviation(base):.2f}" if base else "-"
        loss = f"{statistics.mean(lost):.2f} ± {deviation(lost):.2f}" if lost and views else "-"
        page.append(
            f"| {method} | {views} | {cell(seeds, 'validation')} | {cell(seeds, 'test')} | {loss} "
            f"| {spread} | {len(seeds)} |"
        )
        if views and lost:
            verdicts.append(f"- {method}, {views}: {verdict(lost, base)}.")
    return [*page, "", *verdicts, ""]


def how(task: Mapping[str, Any]) -> str:
    """On what and for how long each student was trained."""
    training, n = task["training"], task["data"]["n"]
    return (
        f"{training['epochs']} epochs ({training['schedule']}) on {n['train']:,} images; "
        f"{n['validation']:,} validation images and {n['test']:,} test images."
    )


def verdict(lost: Sequence[float], base: Sequence[float]) -> str:
    """Whether the mean of the losses is beyond the deviation of what it is a loss from."""
    if len(base) < 2:
        return "one seed says nothing of the seeds' spread"
    beyond = statistics.mean(lost) > deviation(base)
    return f"{'costs accuracy' if beyond else 'no loss'} beyond the seeds' spread"


def cell(seeds: Mapping[int, Mapping[str, float]], split: str) -> str:
    """Mean and deviation of an accuracy in %."""
    values = [100 * each[split] for each in seeds.values()]
    return f"{statistics.mean(values):.2f} ± {deviation(values):.2f}"


def deviation(values: Sequence[float]) -> float:
    """0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
