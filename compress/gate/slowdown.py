"""What timing came to, in words: a ratio to the baseline, or a stored figure, and a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compress.gate.latency import LatencyRule, in_percent, percent, spread_of
from compress.gate.measuring import UNEVEN, Judged, Rounds, Trial, budget_of, outcomes
from compress.gate.verdict import Comparison, Figures, Outcome
from compress.results import Estimate
from compress.units import format_time

# Deciles of the rounds of one model further apart than this are no noise of clocks and caches.
UNSTEADY = 1.2
# A median so many times that of another day, on the same machine, is no busy machine either.
FAR = 2.0
# Loading is warned of where it takes so many times as long, and so many seconds longer.
LOAD_TIMES, LOAD_S = 2.0, 0.25


def compare_latency(trial: Trial, judged: Judged, rule: LatencyRule) -> Comparison:
    """The ratios of fast calls and of all calls to the baseline's, measured here.

    Args:
        trial: with another model beside the candidate.
        judged: what it came to.
        rule: that judged it.
    """
    if trial.stored:
        return _by_way_of_teacher(trial, judged, rule)
    first, second = judged.first, judged.second
    fast, whole = first.ratio(), first.ratio_of_all()
    ours_s, theirs_s, all_s, their_all_s = _medians(judged)
    allowed, allowed_of_all = percent(1 + rule.allowed), percent(1 + rule.allowed_of_all)
    reason = (
        f"{in_percent(fast)} in fast calls and {in_percent(whole)} in all against the baseline, "
        f"{allowed} and {allowed_of_all} allowed; fast calls take {format_time(ours_s)} and "
        f"{format_time(theirs_s)}, all {format_time(all_s)} and {format_time(their_all_s)} "
        f"(geometric mean), {len(first.candidate_s)} rounds"
    )
    if second is not None:
        reason += (
            f"; in a second process {in_percent(second.ratio())} and "
            f"{in_percent(second.ratio_of_all())}"
        )
    return Comparison(
        "latency",
        judged.latency or Outcome.INCONCLUSIVE,
        reason + _undecided(trial, judged),
        {
            "slowdown": fast.to_dict(),
            "slowdown_of_all": whole.to_dict(),
            "again": None if second is None else second.ratio().to_dict(),
            "again_of_all": None if second is None else second.ratio_of_all().to_dict(),
            "allowed_of_all": rule.allowed_of_all,
            **_evidence(judged, rule),
            "against": "baseline",
        },
        Figures(
            f"{format_time(theirs_s)}, all {format_time(their_all_s)}",
            f"{format_time(ours_s)}, all {format_time(all_s)}",
            f"{percent(fast.value)}, all {percent(whole.value)}",
            f"{allowed}, all {allowed_of_all}",
        ),
    )


def _by_way_of_teacher(trial: Trial, judged: Judged, rule: LatencyRule) -> Comparison:
    """The ratio of fast calls to the baseline's, by way of what was stored."""
    first, second = judged.first, judged.second
    fast, uneven = first.ratio(trial.stored), first.unevenness()
    ours_s, theirs_s, all_s, their_all_s = _medians(judged)
    name = "" if trial.against is None else trial.against.name
    reason = (
        f"{in_percent(fast)} in fast calls against the baseline by way of {name} "
        f"({len(trial.stored)} stored ratios, spread {spread_of(trial.stored):.2%}), "
        f"{percent(1 + rule.allowed)} allowed; fast calls take {format_time(ours_s)} and "
        f"{format_time(theirs_s)}, all {format_time(all_s)} and {format_time(their_all_s)} "
        f"(geometric mean), {len(first.candidate_s)} rounds"
    )
    if uneven.high > 1 + UNEVEN:
        reason += (
            f"; its calls vary more than those of {name}: {in_percent(uneven)}, "
            f"{percent(1 + UNEVEN)} allowed"
        )
    if second is not None:
        reason += f"; in a second process {in_percent(second.ratio(trial.stored))}"
    return Comparison(
        "latency",
        judged.latency or Outcome.INCONCLUSIVE,
        reason + _undecided(trial, judged),
        {
            "slowdown": fast.to_dict(),
            "unevenness": uneven.to_dict(),
            "again": None if second is None else second.ratio(trial.stored).to_dict(),
            **_evidence(judged, rule),
            "against": "teacher",
        },
        Figures(
            candidate=f"{format_time(ours_s)}, all {format_time(all_s)}",
            change=percent(fast.value),
            allowed=percent(1 + rule.allowed),
        ),
    )


def compare_with_stored(
    judged: Judged, then: Estimate, differences: Sequence[str], why: str
) -> Comparison:
    """What is left where the candidate could only be timed alone.

    Milliseconds of another day are advice. On the same machine they are more where the candidate
    takes ``FAR`` times as long, which it fails for.

    Args:
        judged: what timing it alone came to.
        then: the baseline's median when it was made.
        differences: of the machine then and the one here.
        why: there was nothing to time it beside.
    """
    now = judged.first.median
    if differences:
        told = f"its {format_time(then.value)} are of another machine ({differences[0]})"
    else:
        told = (
            f"{format_time(now.value)} here against {format_time(then.value)} then, on a machine "
            f"like this one, is {percent(now.value / then.value)}"
        )
        if judged.latency is Outcome.FAIL:
            told += f": no noise makes a call take {FAR:g} times as long, in two processes"
        else:
            told += ", which is advice and not a verdict"
    return Comparison(
        "latency",
        judged.latency or Outcome.INCONCLUSIVE,
        f"the baseline's model is missing and {why}; {told}",
        {
            "candidate_ms": now.to_dict(1e3),
            "stored_ms": then.to_dict(1e3),
            "differences": list(differences),
        },
        Figures(format_time(then.value), format_time(now.value)),
    )


def told_loading(rounds: Rounds) -> str:
    """What making a session takes, of both models."""
    ours = f"loading takes {format_time(rounds.load_s)}"
    if rounds.against_load_s is None:
        return ours
    return f"{ours} against {format_time(rounds.against_load_s)}"


def slow_to_load(rounds: Rounds) -> list[str]:
    """A warning where somebody would wait for it; loading is too unsteady to be judged."""
    then = rounds.against_load_s
    if then is None or rounds.load_s < LOAD_TIMES * then or rounds.load_s < then + LOAD_S:
        return []
    return [
        f"The candidate takes {format_time(rounds.load_s)} to load, and the other model "
        f"{format_time(then)}. Load time is not judged."
    ]


def no_slower_than_itself() -> Comparison:
    """The candidate beside a baseline that it is, byte for byte, and that lies nowhere else."""
    return Comparison(
        "latency",
        Outcome.PASS,
        "the candidate is the baseline's own file, byte for byte, so there is nothing to compare",
    )


def compare_confirmed_budget(trial: Trial, judged: Judged) -> Comparison:
    """The candidate beside the budget, with what a second process said of it."""
    budget = budget_of(trial, judged.first)
    if judged.second is not None and budget.outcome is Outcome.FAIL:
        again = budget_of(trial, judged.second)
        said = {
            Outcome.PASS: "a second process kept it",
            Outcome.FAIL: "a second process missed it too",
            Outcome.INCONCLUSIVE: "a second process is undecided",
        }
        budget = replace(budget, reason=f"{budget.reason}; {said[again.outcome]}")
    return replace(budget, outcome=judged.budget or Outcome.INCONCLUSIVE)


def unsteady(rounds_s: Sequence[float], threads: int) -> list[str]:
    """That rounds of one model differ by where its threads were put, and what to do.

    Short calls of several threads take long where the scheduler wakes another core for them, and
    less where it leaves them all on one; it keeps to either for seconds.

    Args:
        rounds_s: of the model that is there in every check.
        threads: of its sessions.
    """
    low, high = np.quantile(rounds_s, (0.1, 0.9))
    if high <= UNSTEADY * low:
        return []
    return [
        f"Rounds of the same model took {format_time(float(low))} to {format_time(float(high))} "
        f"(deciles): such short calls depend on the cores that the {threads} threads run on. A "
        "baseline made with --threads 1 is decided sooner."
    ]


def _medians(judged: Judged) -> tuple[float, float, float, float]:
    """Over the rounds, in seconds: fast calls of both, then all calls of both."""
    first = judged.first
    ours, theirs, whole, their_whole = (
        float(np.median(each))
        for each in (
            first.candidate_s,
            first.against_s,
            first.candidate_all_s,
            first.against_all_s,
        )
    )
    return ours, theirs, whole, their_whole


def _evidence(judged: Judged, rule: LatencyRule) -> dict[str, float]:
    ours_s, theirs_s, all_s, their_all_s = _medians(judged)
    return {
        "allowed": rule.allowed,
        "noise": rule.noise,
        "candidate_ms": ours_s * 1e3,
        "against_ms": theirs_s * 1e3,
        "candidate_all_ms": all_s * 1e3,
        "against_all_ms": their_all_s * 1e3,
        "rounds": len(judged.first.candidate_s),
        "seconds": judged.seconds,
    }


def _undecided(trial: Trial, judged: Judged) -> str:
    if judged.latency is not Outcome.INCONCLUSIVE:
        return ""
    failed_once = outcomes(trial, judged.first)[0] is Outcome.FAIL
    return "; they do not agree" if failed_once else "; that does not decide"
