r"""Does a recipe beat training on the labels alone? The same student, data, epochs and seeds.

    python benchmarks/recipes_against_supervised.py --teacher resnet56.th --data cifar10.npz \\
        --student wrn-10-1 --limit-train 10000 --validation 5000 --epochs 12 \\
        --recipes supervised,kd,logit-gan --seeds 0,1,2 --runs runs/recipes --output RESULT.md

Every run is a `compress distill`; one that is finished is not run again, so the program can be
stopped and started. The table has the last epoch's accuracy of each exported file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("--teacher", "--data", "--student"):
        parser.add_argument(name, required=True)
    parser.add_argument("--limit-train", type=int)
    parser.add_argument("--validation", type=int, default=5000)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--recipes", default="supervised,kd,logit-gan")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the run folders")
    parser.add_argument("--output", type=Path, required=True, help="a Markdown file")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in seeds:
        for recipe in options.recipes.split(","):
            found.setdefault(recipe, []).append(run(options, recipe, seed))
    text = report(options, found, seeds)
    options.output.write_text(text, encoding="utf-8")
    print(text)


def run(options: argparse.Namespace, recipe: str, seed: int) -> dict[str, Any]:
    """One `compress distill`; "logit-gan:l1=mean" gives a recipe an option."""
    name, *extra = recipe.split(":")
    command = [
        *(sys.executable, "-m", "compress", "distill", "--json"),
        *("--teacher", options.teacher, "--data", options.data, "--student", options.student),
        *("--validation", options.validation, "--epochs", options.epochs),
        *("--dropout", options.dropout, "--recipe", name, "--seed", seed),
        *("--out", options.runs / f"{recipe.replace(':', '-')}-seed{seed}"),
    ]
    if options.limit_train:
        command += ["--limit-train", options.limit_train]
    for setting in extra:
        key, value = setting.split("=")
        command += [f"--{key}", value]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def report(
    options: argparse.Namespace, found: dict[str, list[dict[str, Any]]], seeds: list[int]
) -> str:
    """The table as Markdown."""
    any_result = next(iter(found.values()))[0]
    n, machine = any_result["data"]["n"], any_result["machine"]
    lines = [
        f"# {any_result['student']['name']} from {any_result['teacher']['name']} on "
        f"{Path(any_result['data']['name']).stem}",
        "",
        f"{time.strftime('%Y-%m-%d')}, {machine['cpu']}, {machine['cpus']} CPUs, torch "
        f"{machine['engines'].get('torch', '?')}. {n['train']:,} training images (stratified "
        f"subset), {n['validation']:,} validation, {n['test']:,} test; {options.epochs} epochs, "
        f"dropout {options.dropout:g}, other options the defaults, last epoch; seeds "
        f"{', '.join(map(str, seeds))}. Mean and standard deviation over the seeds, in %.",
        "",
        f"The teacher: {100 * any_result['teacher']['accuracy']['test']:.2f} on the test images.",
        "",
        "| recipe | validation | test | test, each seed |",
        "|---|---|---|---|",
    ]
    for recipe, results in found.items():
        cells = []
        for split in ("validation", "test"):
            values = [100 * each["student"]["accuracy"][split] for each in results]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}")
        single = ", ".join(f"{100 * each['student']['accuracy']['test']:.2f}" for each in results)
        lines.append(f"| {recipe} | {' | '.join(cells)} | {single} |")
    lines += ["", "Command: `python " + " ".join(sys.argv) + "`", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
