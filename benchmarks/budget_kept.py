r"""Is a budget kept by what `compress select` chose for it, and was there nothing better?

    python -m benchmarks.budget_kept --trials runs/budget --threads 1 --minutes 60 \
        --output benchmarks/results/budget_kept.md

First every candidate is timed. Then budgets are drawn between what the fastest and the slowest
take, and for each the choice is made as `compress select` makes it, with nothing remembered. Last,
the chosen networks' files are timed again, each in a fresh process, and held against their budgets.

A choice leaves a part of the budget free, the headroom, for a machine that is slower later. It was
right if no candidate that is predicted better surely keeps what is left, and if it may keep the
budget itself: what has the limit inside its interval, in the table of all or when the choice was
made, counts either way. A shared machine is not always as fast as it was when all were timed. So
what speaks against a choice by that table is timed once more, straight after the choice, and has to
say so again. Everything that was timed is a line of a file in the folder of trials, so the program
can be stopped and started.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.trials import append, clopper_pearson, read
from compress.errors import NoStudentFits
from compress.exporting.to_onnx import onnx_for_timing
from compress.models.registry import spec_of
from compress.profiling.fresh import LoadingRequest, TimingRequest, time_in_fresh_process
from compress.profiling.machine import default_headroom, fingerprint
from compress.profiling.runtime import Subject
from compress.results import Estimate
from compress.spec import Budget, Target
from compress.tradeoff import table_for
from compress.tradeoff.candidates import Candidate, dominates, grid
from compress.tradeoff.choice import UNDECIDED
from compress.tradeoff.measure import time_untrained, untrained

TRIALS = "budget.jsonl"
TASK: dict[str, Any] = {"num_classes": 10, "input_shape": (3, 32, 32)}
# Between the fastest and the slowest there is a candidate for every budget; a little beyond them
# is asked for too.
BEYOND = 1.2


@dataclass(frozen=True)
class Selection:
    """What was chosen for a budget.

    Attributes:
        budget_s: of a call, the median.
        chosen: None where no candidate was said to keep it.
        order: all candidates, the best predicted first.
        straddled: those that had the budget inside their interval when the choice was made.
        at_once: what spoke against the choice, timed once more.
        headroom: the share of the budget that was left free.
    """

    budget_s: float
    chosen: str | None
    order: tuple[str, ...]
    straddled: tuple[str, ...] = ()
    at_once: Mapping[str, Estimate] = field(default_factory=dict)
    headroom: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=Path, required=True, help="a folder")
    parser.add_argument("--output", type=Path, required=True, help="a Markdown file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--selections", type=int, default=30)
    parser.add_argument("--slowest-ms", type=float, default=10.0, help="no candidate beyond this")
    parser.add_argument("--headroom", type=float, default=default_headroom(), help="a share")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf)
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    options.trials.mkdir(parents=True, exist_ok=True)
    file = options.trials / TRIALS
    about = {
        "machine": fingerprint().digest,
        "threads": options.threads,
        "headroom": options.headroom,
    }
    for each in read(file):
        if any(each[key] != value for key, value in about.items()):
            sys.exit(f"{file} is of another machine, threads or headroom; name another.")
    while time.monotonic() < end:
        found = step(read(file), options)
        if found is None:
            break
        print(found, flush=True)
        append(file, {**about, **found})
    text = "\n".join(markdown(read(file), options.threads, options.headroom))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text, encoding="utf-8")
    print(text)


def step(done: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any] | None:
    """The next thing that is missing; None where nothing is."""
    target = Target(threads=options.threads)
    timed = {each["candidate"]: estimate(each) for each in done if "candidate" in each}
    limit_s = options.slowest_ms / 1e3
    for candidate in by_size():
        if candidate.name not in timed and not any(
            timed[name].low > limit_s for name in timed if smaller(name, candidate)
        ):
            found = time_untrained(candidate.spec, Budget(target=target), None)
            return {"candidate": candidate.name, "latency_s": found.latency.to_dict()}
    budgets = drawn_budgets(timed, options)
    selected = [each for each in done if "budget_s" in each and "order" in each]
    if len(selected) < len(budgets):
        choice = select(budgets[len(selected)], options.headroom, target)
        return choice | {"at_once": again_at_once(selection_of(choice), timed, target)}
    again = [each for each in done if "again_s" in each]
    shipped = [each for each in selected if each["chosen"] is not None]
    if len(again) < len(shipped):
        return time_again(shipped[len(again)], options)
    return None


def by_size() -> list[Candidate]:
    """All candidates, what computes least first."""
    return sorted(grid(**TASK), key=lambda each: each.costs.macs)


def smaller(name: str, candidate: Candidate) -> bool:
    """Whether a network of that name computes less than the candidate, in the same family."""
    spec = spec_of(name, **TASK)
    return spec == candidate.spec or dominates(candidate.spec, spec)


def drawn_budgets(timed: dict[str, Estimate], options: argparse.Namespace) -> list[float]:
    """As many as selections are asked for, their logarithms even between the ends."""
    fastest = min(each.value for each in timed.values()) / BEYOND
    slowest = min(options.slowest_ms / 1e3, max(each.value for each in timed.values()) * BEYOND)
    order = random.Random(options.seed)
    return [
        math.exp(order.uniform(math.log(fastest), math.log(slowest)))
        for _ in range(options.selections)
    ]


def select(budget_s: float, headroom: float, target: Target) -> dict[str, Any]:
    """The choice, as `compress select --no-cache` makes it, and what it took."""
    table = table_for(**TASK, cache=False)
    begun = time.monotonic()
    try:
        choice = table.select(Budget(latency_s=budget_s, headroom=headroom, target=target))
    except NoStudentFits as error:
        found: dict[str, Any] = {"chosen": None, "order": [], "said": str(error)}
    else:
        found = {
            "chosen": choice.spec.name,
            "order": [row.name for row in choice.rows],
            "straddled": [row.name for row in choice.rows if row.status == UNDECIDED],
        }
    found |= {"seconds": time.monotonic() - begun}
    return {"budget_s": budget_s, "headroom": headroom, **found}


def again_at_once(
    selection: Selection, timed: dict[str, Estimate], target: Target
) -> dict[str, dict[str, float]]:
    """Times what speaks against a choice once more, as all were timed."""
    return {
        name: time_untrained(spec_of(name, **TASK), Budget(target=target), None).latency.to_dict()
        for name in against(selection, timed)
    }


def time_again(selection: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The file that would ship, in a fresh process."""
    spec = spec_of(selection["chosen"], **TASK)
    path: Path = options.trials / f"{spec.name}.onnx"
    if not path.exists():
        onnx_for_timing(untrained(spec), path, spec=spec)
    subject = Subject(path.name, path=path.absolute())
    loading = LoadingRequest(subject, threads=options.threads, seed=1)
    found = time_in_fresh_process(TimingRequest(loading, budget_s=selection["budget_s"]))
    return {
        "again_of": selection["budget_s"],
        "chosen": spec.name,
        "again_s": found.model.latency.to_dict(),
    }


def against(selection: Selection, timed: Mapping[str, Estimate]) -> list[str]:
    """What speaks against a choice: candidates that timing all of them would have chosen instead.

    The chosen one itself is among them where it surely does not keep the budget.

    Args:
        selection: the choice.
        timed: every candidate that may keep the budget; what is not in it is too slow.
    """

    def surely(name: str) -> bool:
        return name in timed and timed[name].high <= selection.budget_s * (1 - selection.headroom)

    if selection.chosen is None:
        return sorted(filter(surely, timed), key=lambda name: timed[name].value)[:1]
    place = selection.order.index(selection.chosen)
    better = [name for name in selection.order[:place] if name not in selection.straddled]
    found = list(filter(surely, better))
    if selection.chosen not in timed or timed[selection.chosen].low > selection.budget_s:
        found.append(selection.chosen)
    return found


def was_right(selection: Selection, timed: Mapping[str, Estimate]) -> bool:
    """Whether nothing speaks against a choice, or what does said otherwise straight after it."""
    at_once = selection.at_once
    return not any(name in at_once for name in against(selection, {**timed, **at_once})) and all(
        name in at_once for name in against(selection, timed)
    )


def selection_of(line: dict[str, Any]) -> Selection:
    """A choice as it was written down."""
    return Selection(
        line["budget_s"],
        line["chosen"],
        tuple(line["order"]),
        tuple(line.get("straddled", ())),
        {name: Estimate(**found) for name, found in line.get("at_once", {}).items()},
        line["headroom"],
    )


def estimate(line: dict[str, Any], key: str = "latency_s") -> Estimate:
    return Estimate(**line[key])


def markdown(done: list[dict[str, Any]], threads: int, headroom: float) -> list[str]:
    """The page, of whatever there is."""
    machine = fingerprint()
    timed = {each["candidate"]: estimate(each) for each in done if "candidate" in each}
    selections = [selection_of(each) for each in done if "order" in each]
    again = {each["again_of"]: estimate(each, "again_s") for each in done if "again_s" in each}
    lines = [
        "# Budgets that are kept, and choices that were the best",
        "",
        f"{time.strftime('%Y-%m-%d')}, {machine.cpu}, {machine.cpus} CPUs, ONNX Runtime "
        f"{machine.engines.get('onnxruntime', '?')}, {threads} thread(s), batch 1; "
        f"{headroom:.0%} of each budget left free; {len(timed)} candidates timed; "
        "`python -m benchmarks.budget_kept`.",
        "",
        "| budget, ms | chosen | when it was chosen from, ms | again, ms | kept | best |",
        "|---|---|---|---|---|---|",
    ]
    for each in selections:
        first, later = timed.get(each.chosen or ""), again.get(each.budget_s)
        outcome = "" if later is None else held(later, each.budget_s)
        lines.append(
            f"| {each.budget_s * 1e3:.3f} | {each.chosen or 'none fits'} | {shown(first)} | "
            f"{shown(later)} | {outcome} | {'yes' if was_right(each, timed) else 'NO'} |"
        )
    kept = [each for each in selections if each.budget_s in again]
    by_median = sum(again[each.budget_s].value <= each.budget_s for each in kept)
    by_bound = sum(again[each.budget_s].high <= each.budget_s for each in kept)
    right = sum(was_right(each, timed) for each in selections)
    strictly = sum(not against(each, timed) for each in selections)
    lines += [
        "",
        f"- kept by the median of a later, fresh process: {told(by_median, len(kept))}",
        f"- kept by its upper bound: {told(by_bound, len(kept))}",
        f"- as timing the whole grid would have it: {told(right, len(selections))}; of {strictly} "
        "the table alone says so",
        "",
    ]
    return lines


def held(latency: Estimate, budget_s: float) -> str:
    if latency.high <= budget_s:
        return "yes"
    return "NO" if latency.low > budget_s else "within its interval"


def shown(latency: Estimate | None) -> str:
    if latency is None:
        return ""
    value, low, high = (end * 1e3 for end in (latency.value, latency.low, latency.high))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def told(successes: int, trials: int) -> str:
    if not trials:
        return "none yet"
    low, high = clopper_pearson(successes, trials)
    return f"{successes} of {trials} (95%: {low:.0%} to {high:.0%})"


if __name__ == "__main__":
    main()
