"""Holds the rules of `compress check` to what they promise, with models that really are slower.

    python -m benchmarks.gate latency student.onnx --data data.npz --trials runs/gate --minutes 60
    python -m benchmarks.gate fooled student.onnx --data data.npz --trials runs/gate --minutes 60
    python -m benchmarks.gate accuracy first.onnx second.onnx --data data.npz --trials runs/gate
    python -m benchmarks.gate report --trials runs/gate --output benchmarks/results/gate.md

`latency` gives the gate a copy of the model (A/A), and the model with extra nodes in its graph that
make it 5% and 10% slower; how many, is found by measuring. Each is checked at 1 and 2 threads, with
and without a process that keeps a core busy. Every check is a line of a file in the folder of
trials, so the program can be stopped and started, and --minutes ends it. Beside each check stands
the naive rule: the mean of 100 calls is more than 5% above one that was stored.

`fooled` gives it models that do their work where a careless gate does not look
(benchmarks/fooling.py): on images and not on noise, in 85% and in 45% of the calls at random, and
one that answers wrongly where it is called with one image. None of them may pass.

`accuracy` draws images with replacement from what two real models have right. Where only one of
them is right, a coin says which one is the candidate: that makes a pair of models that are as good
as each other and differ as real ones do. A biased coin makes a candidate that is worse by so much.
FIRST and SECOND are ONNX files, or .npz files with an array `right`, which `score` writes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import fooling
from benchmarks.neighbour import neighbour
from benchmarks.trials import append, read, share
from compress.data.dataset import Dataset, Split, load_dataset
from compress.errors import CompressError
from compress.exporting import read_artifact
from compress.files import sha256_of
from compress.gate.accuracy import AccuracyRule, compare_accuracy
from compress.gate.consistency import compare_consistency
from compress.gate.evaluation import score
from compress.gate.extra_work import slow_down
from compress.gate.latency import LatencyRule
from compress.gate.measuring import Judged, Settings, Trial, judge
from compress.gate.self_test import logs_of, power_at
from compress.gate.verdict import Outcome
from compress.profiling import estimates
from compress.profiling.inputs import Sample, make_input
from compress.profiling.machine import fingerprint
from compress.profiling.protocol import LOOKS
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Subject
from compress.tasks.classification import LOGITS, Paired
from compress.training.evaluation import timing_sample

LATENCY, FOOLED, ACCURACY = "latency.jsonl", "fooled.jsonl", "accuracy.jsonl"
SLOWDOWNS = (0.0, 0.05, 0.1)
# Case -> what makes the model, from the honest one.
ONE_BY_ONE = "wrong one by one"
FOOLING: dict[str, Callable[[Path, Path], Path]] = {
    # The darkest pixels of CIFAR-10 are -1.99, the lowest of 3,072 normal numbers below -3.
    "slow on images": partial(fooling.slow_on_images, above=-2.5),
    "slow in 85% of calls": partial(fooling.slow_at_random, share=0.85),
    "slow in 45% of calls": partial(fooling.slow_at_random, share=0.45),
    ONE_BY_ONE: fooling.wrong_one_by_one,
}
# Of the test images; where a model is scored at each check.
FOOLED_IMAGES = 1000
NAIVE_CALLS, NAIVE_LIMIT = 100, 1.05
DROPS = (0.0, 0.005, 0.01, 0.02, 0.03)
SIZES = (1000, 2000, 5000, 10_000)


@dataclass(frozen=True)
class Condition:
    """What checks are repeated under."""

    threads: int
    busy: bool
    slowdown: float

    def of(self, trial: dict[str, Any]) -> bool:
        """Whether a trial was made under it."""
        return (trial["threads"], trial["busy"], trial["slowdown"]) == (
            self.threads,
            self.busy,
            self.slowdown,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    latency = commands.add_parser("latency")
    latency.add_argument("model", type=Path)
    latency.add_argument("--trials", type=Path, required=True, help="a folder")
    latency.add_argument("--data", help="images to time on; without, seeded noise")
    latency.add_argument("--same", type=int, default=300, help="A/A checks of each condition")
    latency.add_argument("--slower", type=int, default=100, help="others of each condition")
    latency.add_argument("--threads", default="1,2")
    latency.add_argument(
        "--processes", type=int, default=5, help="in which extra work is measured beforehand"
    )
    latency.add_argument("--minutes", type=float, default=math.inf)
    fooled = commands.add_parser("fooled")
    fooled.add_argument("model", type=Path)
    fooled.add_argument("--data", required=True)
    fooled.add_argument("--trials", type=Path, required=True, help="a folder")
    fooled.add_argument("--checks", type=int, default=100, help="of each condition")
    fooled.add_argument("--threads", default="1,2")
    fooled.add_argument("--minutes", type=float, default=math.inf)
    accuracy = commands.add_parser("accuracy")
    accuracy.add_argument("first", type=Path)
    accuracy.add_argument("second", type=Path)
    accuracy.add_argument("--data", help="where they are scored, if they are ONNX files")
    accuracy.add_argument("--trials", type=Path, required=True, help="a folder")
    accuracy.add_argument("--draws", type=int, default=10_000)
    score = commands.add_parser("score")
    score.add_argument("model", type=Path)
    score.add_argument("--data", required=True)
    score.add_argument("--output", type=Path, required=True, help="an .npz file")
    report = commands.add_parser("report")
    report.add_argument("--trials", type=Path, required=True)
    report.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    if options.command == "latency":
        check_latency(options)
    elif options.command == "fooled":
        check_fooled(options)
    elif options.command == "accuracy":
        check_accuracy(options)
    elif options.command == "score":
        np.savez(options.output, right=right_of(options.model, options.data))
    else:
        text = "\n".join(markdown(options.trials))
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text, encoding="utf-8")
        print(text)


# --- latency -------------------------------------------------------------------------------------


def check_latency(options: argparse.Namespace) -> None:
    """Makes the trials that are missing, those first of which there are fewest."""
    end = time.monotonic() + 60 * options.minutes
    folder: Path = options.trials
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LATENCY
    origin = origin_of(options.model, file)
    sample = None if options.data is None else sample_for(options.model, load_dataset(options.data))
    threads = [int(each) for each in options.threads.split(",")]
    conditions = [
        Condition(count, busy, slowdown)
        for count in threads
        for busy in (False, True)
        for slowdown in SLOWDOWNS
    ]
    wanted = {each: options.slower if each.slowdown else options.same for each in conditions}
    candidates = {
        (count, slowdown): candidate(options.model, count, slowdown, folder, options.processes)
        for count in threads
        for slowdown in SLOWDOWNS
    }
    while time.monotonic() < end:
        done = {
            each: sum(each.of(trial) for trial in read(file) if "outcome" in trial)
            for each in conditions
        }
        condition = min(conditions, key=lambda each: done[each] / wanted[each])
        if done[condition] >= wanted[condition]:
            return
        path = candidates[condition.threads, condition.slowdown]
        stored = stored_mean(file, condition, options.model, origin)
        found = checked(condition, path, options.model, stored, sample)
        append(file, {**found, **origin})


def origin_of(model: Path, file: Path) -> dict[str, str]:
    """Machine and model that trials are of; ends where those of the file are of others."""
    origin = {"machine": str(fingerprint().to_dict()["digest"]), "model": sha256_of(model)}
    for trial in read(file):
        if any(trial[key] != value for key, value in origin.items()):
            sys.exit(f"{file} is of another machine or model; name another folder.")
    return origin


def sample_for(model: Path, data: Dataset) -> Sample | None:
    """Test images for the model and what is made of it, as it takes them."""
    normalization = read_artifact(model).normalization or data.normalization
    return timing_sample(data, data.test, normalization)


# --- models that fool a careless gate ------------------------------------------------------------


def check_fooled(options: argparse.Namespace) -> None:
    """Makes the trials that are missing, those first of which there are fewest."""
    end = time.monotonic() + 60 * options.minutes
    folder: Path = options.trials
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FOOLED
    origin = origin_of(options.model, file)
    data = load_dataset(options.data)
    fewer = Split(data.test.images[:FOOLED_IMAGES], data.test.targets[:FOOLED_IMAGES])
    data = replace(data, test=fewer)
    sample = sample_for(options.model, data)
    paths = {
        case: make(options.model, folder / f"fooled-{place}.onnx")
        for place, (case, make) in enumerate(FOOLING.items())
    }
    conditions = [
        (case, int(threads), busy)
        for case in FOOLING
        for threads in options.threads.split(",")
        for busy in (False, True)
    ]
    while time.monotonic() < end:
        trials = [(each["case"], each["threads"], each["busy"]) for each in read(file)]
        condition = min(conditions, key=trials.count)
        if trials.count(condition) >= options.checks:
            return
        case, threads, busy = condition
        settings = Settings(threads=threads)
        seed = random.SystemRandom().randrange(2**31)
        found: dict[str, Any] = {"case": case, "threads": threads, "busy": busy, "seed": seed}
        with neighbour(busy):
            begun = time.perf_counter()
            if case == ONE_BY_ONE:
                scored = score(paths[case], data, settings, None)
                compared = compare_consistency(paths[case], data, settings, scored)
                found["outcome"] = "none" if compared is None else str(compared.outcome)
            else:
                trial = Trial(
                    paths[case],
                    options.model,
                    settings=settings,
                    rule=LatencyRule(),
                    sample=sample,
                    against_sample=sample,
                    seed=seed,
                )
                found |= facts_of(judge(trial))
            found["seconds"] = time.perf_counter() - begun
        print(f"{condition}: {found['outcome']}, {found['seconds']:.1f} s", flush=True)
        append(file, {**found, **origin})


def candidate(model: Path, threads: int, slowdown: float, folder: Path, processes: int) -> Path:
    """A copy of the model, or one with extra work; made once, with what it was measured to be."""
    if not slowdown:
        path = folder / "copy.onnx"
        shutil.copyfile(model, path)
        return path
    path = folder / f"slower-{slowdown:.0%}-{threads}.onnx"
    facts = path.with_suffix(".json")
    if not facts.exists():
        settings = Settings(threads=threads)
        found = slow_down(model, slowdown, path, settings=settings, processes=processes, say=print)
        facts.write_text(
            json.dumps({"rows": found.rows, "ratio": found.ratio.to_dict()}), encoding="utf-8"
        )
    return path


def checked(
    condition: Condition, path: Path, model: Path, stored_s: float, sample: Sample | None
) -> dict[str, Any]:
    """One check, and what the naive rule says."""
    seed = random.SystemRandom().randrange(2**31)
    settings = Settings(threads=condition.threads)
    trial = Trial(
        path,
        model,
        settings=settings,
        rule=LatencyRule(),
        sample=sample,
        against_sample=sample,
        seed=seed,
    )
    found: dict[str, Any] = {
        "threads": condition.threads,
        "busy": condition.busy,
        "slowdown": condition.slowdown,
        "when": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "seed": seed,
        "load": os.getloadavg()[0],
    }
    with neighbour(condition.busy):
        mean_s = mean_call_s(path, condition.threads)
        begun = time.perf_counter()
        try:
            judged = judge(trial)
        except CompressError as error:
            return {**found, "outcome": Outcome.NOT_MEASURED.value, "error": str(error)}
        seconds = time.perf_counter() - begun
    line = f"{condition}: {judged.latency}, {judged.first.ratio().value - 1:+.1%}, {seconds:.1f} s"
    print(line, flush=True)
    return {**found, **facts_of(judged), "seconds": seconds, "naive": mean_s / stored_s}


def facts_of(judged: Judged) -> dict[str, Any]:
    """What is kept of a check; logarithms of its rounds' ratios among it."""
    first = judged.first
    fast, whole = first.ratio(), first.ratio_of_all()
    return {
        "outcome": str(judged.latency),
        "first": LatencyRule().decide(fast, whole).value,
        "ratio": fast.to_dict(),
        "ratio_of_all": whole.to_dict(),
        "rounds": len(first.candidate_s),
        "logs": [[round(float(each), 5) for each in pair] for pair in logs_of(first)],
        "latency_ms": first.median.value * 1e3,
    }


def stored_mean(file: Path, condition: Condition, model: Path, origin: dict[str, str]) -> float:
    """The naive rule's baseline: measured once under each condition, and kept."""
    for trial in read(file):
        if "stored_s" in trial and (trial["threads"], trial["busy"]) == (
            condition.threads,
            condition.busy,
        ):
            return float(trial["stored_s"])
    with neighbour(condition.busy):
        mean_s = mean_call_s(model, condition.threads)
    kept = {"threads": condition.threads, "busy": condition.busy, "slowdown": None}
    append(file, {**kept, "stored_s": mean_s, **origin})
    return mean_s


def mean_call_s(path: Path, threads: int) -> float:
    """Mean of calls of one session after a tenth as many, as one would write it in an hour."""
    runtime, subject = runtime_named("onnxruntime"), Subject(path.name, path=path)
    images = make_input(runtime, subject, batch=1)
    session = runtime.load(subject, threads=threads)
    try:
        for _ in range(NAIVE_CALLS // 10):
            session.infer(images)
        begun = time.perf_counter()
        for _ in range(NAIVE_CALLS):
            session.infer(images)
        return (time.perf_counter() - begun) / NAIVE_CALLS
    finally:
        session.close()


# --- accuracy ------------------------------------------------------------------------------------


def check_accuracy(options: argparse.Namespace) -> None:
    """Draws evaluations for every size and drop that the two models' differences allow."""
    folder: Path = options.trials
    folder.mkdir(parents=True, exist_ok=True)
    first, second = (right_of(path, options.data) for path in (options.first, options.second))
    if len(first) != len(second):
        sys.exit(f"{len(first)} and {len(second)} images: these are not of the same data.")
    pair = Paired.of(first.tolist(), second.tolist())
    names = [f"{path.parent.name}/{path.name}" for path in (options.first, options.second)]
    lines = [{"pair": vars(pair), "names": names}]
    for n in SIZES:
        for drop in DROPS:
            if drop <= pair.discordant:
                lines.append(drawn(n, drop, pair, options.draws))
                print(lines[-1], flush=True)
    (folder / ACCURACY).write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def drawn(n: int, drop: float, pair: Paired, draws: int) -> dict[str, Any]:
    """What the rule, and a plain limit of half a point, say of evaluations of n images."""
    generator = np.random.default_rng(n + round(1e6 * drop))
    rule = AccuracyRule()
    lost, won = ((pair.discordant + sign * drop) / 2 for sign in (1, -1))
    counts = generator.multinomial(n, [lost, won, 1 - lost - won], draws)
    found = [Paired(n, int(b), int(c), n // 2) for b, c, _ in counts]
    said = [rule.decide(each) for each in found]
    return {
        "n": n,
        "drop": drop,
        "draws": draws,
        **{each.value: said.count(each) for each in Outcome},
        "plain": sum(each.drop > rule.allowed for each in found),
    }


def right_of(path: Path, data: str | None) -> np.ndarray:
    """Whether a model has each test image right, bool [n]."""
    if path.suffix == ".npz":
        return np.asarray(np.load(path)["right"], dtype=bool)
    if data is None:
        sys.exit(f"{path} has to be scored: give --data.")
    images = load_dataset(data)
    answered = score(path, images, Settings(), None).outputs[LOGITS].argmax(dim=1)
    return np.asarray((answered == images.test.targets).numpy())


# --- report --------------------------------------------------------------------------------------


def markdown(folder: Path) -> list[str]:
    """The page, of whatever trials there are."""
    machine = fingerprint()
    lines = [
        "# What `compress check` says of models that are slower, or worse, by so much",
        "",
        f"{time.strftime('%Y-%m-%d')}, {machine.cpu}, {machine.cpus} CPUs, "
        f"ONNX Runtime {machine.engines.get('onnxruntime', '?')}; `python -m benchmarks.gate`.",
        "Brackets are exact 95% intervals of a share (Clopper and Pearson).",
    ]
    trials = [trial for trial in read(folder / LATENCY) if "outcome" in trial]
    if trials:
        lines += ["", "## Latency", "", *latency_table(trials, folder), "", *drawn_table(trials)]
    rows = read(folder / FOOLED)
    if rows:
        lines += ["", "## Models that fool a careless gate", "", *fooled_table(rows)]
    rows = read(folder / ACCURACY)
    if rows:
        lines += ["", "## Accuracy", "", *accuracy_table(rows)]
    return [*lines, ""]


def latency_table(trials: list[dict[str, Any]], folder: Path) -> list[str]:
    """A row a condition, then what all A/A checks and all others came to."""
    middle = statistics.median(trial["latency_ms"] for trial in trials if "latency_ms" in trial)
    lines = [
        f"Calls of {middle:.2f} ms (median); 3% slower is allowed. The extra work was measured "
        "beforehand: " + "; ".join(calibrations(folder)) + ".",
        "",
        "| threads | busy neighbour | extra work | checks | FAIL | PASS | not decided | found, "
        "median | s, median (p90) | naive FAIL |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    keys = sorted({(each["slowdown"], each["threads"], each["busy"]) for each in trials})
    for slowdown, threads, busy in keys:
        condition = Condition(threads, busy, slowdown)
        here = [trial for trial in trials if condition.of(trial)]
        measured = [trial for trial in here if "ratio" in trial]
        seconds = [trial["seconds"] for trial in measured]
        found = statistics.median(trial["ratio"]["value"] for trial in measured)
        naive = sum(trial["naive"] > NAIVE_LIMIT for trial in measured)
        others = len(here) - count(here, Outcome.FAIL) - count(here, Outcome.PASS)
        lines.append(
            f"| {threads} | {'yes' if busy else 'no'} | {slowdown:.0%} | {len(here)} | "
            f"{share(count(here, Outcome.FAIL), len(here))} | "
            f"{share(count(here, Outcome.PASS), len(here))} | {share(others, len(here))} | "
            f"{found - 1:+.1%} | {statistics.median(seconds):.1f} "
            f"({np.quantile(seconds, 0.9):.1f}) | {share(naive, len(measured))} |"
        )
    loads = [trial["load"] for trial in trials]
    lines += [
        "",
        "What else ran on the machine was not kept away: the load average of the minute before a "
        f"check was {statistics.median(loads):.1f} (median), {np.quantile(loads, 0.1):.1f} to "
        f"{np.quantile(loads, 0.9):.1f} (deciles); the checks themselves make 1 to 3 of it.",
        "",
    ]
    for slowdown in sorted({trial["slowdown"] for trial in trials}):
        here = [trial for trial in trials if trial["slowdown"] == slowdown]
        once = sum(trial.get("first") == Outcome.FAIL for trial in here)
        lines.append(
            f"- {slowdown:.0%} in all: FAIL {share(count(here, Outcome.FAIL), len(here))}, PASS "
            f"{share(count(here, Outcome.PASS), len(here))}; before the second process "
            f"{share(once, len(here))} failed."
        )
    return lines


def fooled_table(rows: list[dict[str, Any]]) -> list[str]:
    """A row for each case and condition."""
    lines = [
        "| model | threads | busy neighbour | checks | PASS | FAIL | fast calls | all calls | s, "
        "median |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    keys = sorted(
        {(each["case"], each["threads"], each["busy"]) for each in rows},
        key=lambda key: (list(FOOLING).index(key[0]), *key[1:]),
    )
    for case, threads, busy in keys:
        here = [
            each
            for each in rows
            if (each["case"], each["threads"], each["busy"]) == (case, threads, busy)
        ]

        def middle(key: str, trials: list[dict[str, Any]] = here) -> str:
            found = [each[key]["value"] for each in trials if key in each]
            return f"{statistics.median(found) - 1:+.1%}" if found else ""

        lines.append(
            f"| {case} | {threads} | {'yes' if busy else 'no'} | {len(here)} | "
            f"{share(count(here, Outcome.PASS), len(here))} | "
            f"{share(count(here, Outcome.FAIL), len(here))} | {middle('ratio')} | "
            f"{middle('ratio_of_all')} | "
            f"{statistics.median(each['seconds'] for each in here):.1f} |"
        )
    return lines


def calibrations(folder: Path) -> Iterator[str]:
    """What the models with extra work were measured to be when they were made."""
    for path in sorted(folder.glob("slower-*.json")):
        ratio = json.loads(path.read_text(encoding="utf-8"))["ratio"]
        name = path.stem.removeprefix("slower-").replace("-", " at ")
        yield (
            f"{name} thread(s) {ratio['value'] - 1:+.1%} ({ratio['low'] - 1:+.1%} to "
            f"{ratio['high'] - 1:+.1%})"
        )


def drawn_table(trials: list[dict[str, Any]], draws: int = 200) -> list[str]:
    """The rule and a bootstrap at each look, of rounds drawn from those of the A/A checks."""
    logs = np.concatenate(
        [each["logs"] for each in trials if each["slowdown"] == 0 and "logs" in each]
    )
    if not len(logs):
        return []
    pool = np.concatenate([logs, -logs])
    lines = [
        f"Drawn from the {len(logs):,} rounds of the A/A checks, hundreds of checks each: the "
        "rule, and one that looks at fast calls alone, fails where the lower 95% bound of a "
        "bootstrap is above 1% and passes where the upper one is below 3%, at any look.",
        "",
        "| slower by | PASS | FAIL | bootstrap: PASS | FAIL |",
        "|---|---|---|---|---|",
    ]
    for slowdown in (0.0, 0.02, 0.03, 0.05, 0.1):
        ours = power_at(slowdown, pool, LatencyRule(), 0)
        theirs = bootstrap_power(slowdown, pool[:, 0], draws)
        lines.append(
            f"| {slowdown:.0%} | {ours.passes:.1%} | {ours.fails:.1%} | {theirs[0]:.1%} | "
            f"{theirs[1]:.1%} |"
        )
    return lines


def bootstrap_power(slowdown: float, pool: np.ndarray, draws: int) -> tuple[float, float]:
    """Shares that pass and that fail, once, where each look has a bootstrap interval of 95%."""
    generator = np.random.default_rng(0)
    passes = fails = 0
    for _ in range(draws):
        logs = generator.choice(pool, LOOKS[-1]) + math.log1p(slowdown)
        for look in LOOKS:
            found = estimates.median_of_rounds(logs[:look], seed=0)
            if found is None or found.high < math.log1p(0.03):
                passes += 1
                break
            if found.low > math.log1p(0.01):
                fails += 1
                break
    return passes / draws, fails / draws


def accuracy_table(rows: list[dict[str, Any]]) -> list[str]:
    """A row for each number of images and each true drop."""
    head, *found = rows
    pair = Paired(**head["pair"])
    as_they_are = compare_accuracy(pair, AccuracyRule(), "the second")
    lines = [
        f"{' and '.join(head['names'])}: of {pair.n:,} images one alone has {pair.lost:,}, the "
        f"other alone {pair.won:,} right (q = {pair.discordant:.1%}). A drop of 0.5 points is "
        "allowed; the plain rule fails above it.",
        "",
        f"The first beside the second, as they are: {as_they_are.outcome.upper()}, "
        f"{as_they_are.reason}.",
        "",
        "| images | true drop | evaluations | FAIL | PASS | not decided | plain FAIL |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found:
        cells = (row[Outcome.FAIL], row[Outcome.PASS], row[Outcome.INCONCLUSIVE], row["plain"])
        lines.append(
            f"| {row['n']:,} | {100 * row['drop']:g} | {row['draws']:,} | "
            + " | ".join(share(each, row["draws"]) for each in cells)
            + " |"
        )
    return lines


def count(trials: list[dict[str, Any]], outcome: Outcome) -> int:
    return sum(trial["outcome"] == outcome for trial in trials)


if __name__ == "__main__":
    main()
