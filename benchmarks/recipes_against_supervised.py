r"""Does a recipe beat training on the labels alone, for the student that a budget chooses?

    python benchmarks/recipes_against_supervised.py --recipes supervised,dist --seeds 0,1,2 \
        --runs runs/recipes --output RESULT.md -- \
        --teacher resnet56.th --data cifar10.npz --budget-ms 0.4 --threads 1 --epochs 15

What follows `--` goes to `compress distill` as it is. The first run chooses the student; the
others train the same one on the same data, by each recipe with each seed. A run that is finished
is not run again, so the program can be stopped and started. Accuracies are the last epoch's, of
the exported files.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

Found = dict[str, list[dict[str, Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipes", default="supervised,kd", help="kd:temperature=2 sets options")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the run folders")
    parser.add_argument("--output", type=Path, required=True, help="a Markdown file")
    parser.add_argument("distill", nargs="+", help="options of compress distill")
    options = parser.parse_args()
    recipes, seeds = options.recipes.split(","), options.seeds.split(",")
    chosen = run(options, recipes[-1], seeds[0], [])
    student = ["--student", chosen["student"]["name"]]
    found: Found = {recipe: [] for recipe in recipes}
    for seed in seeds:
        for recipe in recipes:
            first = (recipe, seed) == (recipes[-1], seeds[0])
            found[recipe].append(chosen if first else run(options, recipe, seed, student))
    text = report(options, found, chosen)
    options.output.write_text(text, encoding="utf-8")
    print(text)


def run(options: argparse.Namespace, recipe: str, seed: str, student: list[str]) -> dict[str, Any]:
    """One `compress distill`; exit status 1, a missed budget, is a result too."""
    name, *settings = recipe.split(":")
    command = [sys.executable, "-m", "compress", "distill", "--json", *options.distill, *student]
    command += ["--recipe", name, "--seed", seed, "--out", str(folder(options, recipe, seed))]
    for setting in settings:
        command += ["--set", setting]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1) or not done.stdout:
        sys.exit(f"{shlex.join(command)} ended with {done.returncode}.")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def folder(options: argparse.Namespace, recipe: str, seed: str) -> Path:
    """Of one run."""
    runs: Path = options.runs
    return runs / f"{recipe.replace(':', '-')}-seed{seed}"


def report(options: argparse.Namespace, found: Found, chosen: dict[str, Any]) -> str:
    """Both tables as Markdown."""
    n, machine, target = chosen["data"]["n"], chosen["machine"], chosen["target"]
    student, teacher, faster = chosen["student"], chosen["teacher"], chosen["speedup"]
    recipes, seeds = list(found), options.seeds.split(",")
    lines = [
        f"# A student of {teacher['name']} on {Path(chosen['data']['name']).stem}: "
        f"{student['name']}",
        "",
        f"{time.strftime('%Y-%m-%d')}, {machine['cpu']}, {machine['cpus']} CPUs, torch "
        f"{machine['engines'].get('torch', '?')}. {n['train']:,} training images, "
        f"{n['validation']:,} validation, {n['test']:,} test. Seeds {', '.join(seeds)}, last "
        "epoch of each. Every run:",
        "",
        f"    compress distill {shlex.join(options.distill)}",
        "",
        f"The choice, by the run of {recipes[-1]} with seed {seeds[0]}; the others name it "
        f"with --student. {target['runtime']}, {target['precision']}, batch "
        f"{chosen['budget']['batch']}, {target['threads']} threads:",
        "",
        "| candidate | parameters | MACs | latency, ms (95%) | bytes | predicted error | |",
        "|---|---|---|---|---|---|---|",
        *choice_rows(folder(options, recipes[-1], seeds[0]) / "tradeoff.csv"),
        "",
        f"The teacher: {100 * teacher['accuracy']['test']:.2f}% of the test images. The student's "
        f"file: {faster['value']:.2f} ({faster['low']:.2f} to {faster['high']:.2f}) times faster, "
        f"{teacher['size_bytes'] / student['size_bytes']:.1f} times smaller; budget kept: "
        f"{chosen['budget']['kept']}.",
        "",
        "Mean and standard deviation over the seeds, in %:",
        "",
        "| recipe | validation | test | test, each seed | agreement with the file | times faster |",
        "|---|---|---|---|---|---|",
        *(recipe_row(recipe, results) for recipe, results in found.items()),
        "",
        f"Program: `python benchmarks/{Path(__file__).name} --recipes {options.recipes} --seeds "
        f"{options.seeds}` with the options above after `--`.",
        "",
    ]
    return "\n".join(lines)


def choice_rows(table: Path) -> list[str]:
    """The candidates that were timed, from tradeoff.csv."""
    text = [line for line in table.read_text().splitlines() if not line.startswith("#")]
    return [
        f"| {row['candidate']} | {int(row['params']):,} | {int(row['macs']):,} | "
        f"{float(row['latency_ms']):.3f} ({float(row['latency_low_ms']):.3f} to "
        f"{float(row['latency_high_ms']):.3f}) | {int(row['size_bytes']):,} | "
        f"{100 * float(row['predicted_error']):.1f}% | {row['status']} |"
        for row in csv.DictReader(text)
        if row["latency_ms"]
    ]


def recipe_row(recipe: str, results: list[dict[str, Any]]) -> str:
    """Accuracy, parity and ratio of one recipe's runs."""
    cells = []
    for split in ("validation", "test"):
        values = [100 * each["student"]["accuracy"][split] for each in results]
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.2f}{spread}")
    cells.append(", ".join(f"{100 * each['student']['accuracy']['test']:.2f}" for each in results))
    parity = min(each["student"]["parity"]["top1_agreement"] for each in results)
    cells.append(f"{100 * parity:.2f}%")
    cells.append(", ".join(f"{each['speedup']['value']:.2f}" for each in results))
    return f"| {recipe} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
