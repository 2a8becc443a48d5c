"""Timing a candidate beside another model, in a process that does nothing else.

``compress.gate.child`` is that process. It ends as soon as the rules can decide.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from compress import defaults, limits, schema
from compress.errors import NothingMeasured, UsageError
from compress.gate.latency import LatencyRule, combine, ratio_of
from compress.gate.limits import compare_budget
from compress.gate.verdict import Comparison, Outcome
from compress.limits import Judgement
from compress.profiling.estimates import calls_needed
from compress.profiling.fresh import ask
from compress.profiling.inputs import Sample
from compress.results import Estimate
from compress.schema.rules import Batch, Name, Percentile, Shape, Threads

# No further round begins after so many seconds, in one process.
MAX_S = defaults.MAX_SECONDS

# By how much more than the teacher's a candidate's calls may differ among themselves to pass by way
# of it.
UNEVEN = 0.25

CHILD = "compress.gate.child"


@dataclass(frozen=True)
class Settings:
    """How models are timed and scored.

    Attributes:
        runtime: one that reads ONNX files.
        threads: of each session.
        batch: images a call.
        shape: channels, height and width, where a file leaves them open.
        percentile: that a budget is for.
        output: of a file, that its answers are, where several could be.
    """

    runtime: Name = "onnxruntime"
    threads: Threads = 1
    batch: Batch = 1
    shape: Shape | None = None
    percentile: Percentile = 50.0
    output: Name | None = None

    def __post_init__(self) -> None:
        if faults := schema.faults_of(self):
            raise UsageError(f"No model can be timed with these settings: {'; '.join(faults)}.")


@dataclass(frozen=True)
class Trial:
    """What is to be timed, and what for.

    Attributes:
        candidate: an ONNX file.
        against: another, timed in the same rounds; None: the candidate alone.
        settings: how.
        rule: rounds end where it decides the ratio of the two.
        stored: time(baseline) / time(against) of earlier runs, where ``against`` is not the
            baseline; the rule is then for the ratio to the baseline.
        limit_s: the candidate alone fails where its median is shown to be above this; None: nothing
            is known that it could be.
        budget_s: rounds do not end before the candidate's latency is clear of it.
        rounds: exactly so many, whatever they say; None: as many as it takes.
        max_s: no further round begins after so many seconds.
        sample: images that the candidate is called with; None: seeded noise.
        against_sample: the same images as the other model takes them.
        seed: of inputs and orders.
    """

    candidate: Path
    against: Path | None = None
    settings: Settings = Settings()
    rule: LatencyRule | None = None
    stored: tuple[float, ...] = ()
    limit_s: float | None = None
    budget_s: float | None = None
    rounds: int | None = None
    max_s: float = MAX_S
    sample: Sample | None = None
    against_sample: Sample | None = None
    seed: int = 0


@dataclass(frozen=True)
class Rounds:
    """What the process found.

    Attributes:
        candidate_s: a fast call of each round, the lower decile of those that were not disturbed
            [rounds].
        against_s: the same of the other model; empty where there was none.
        candidate_all_s: the geometric mean of all calls of each round, interruptions left out
            [rounds].
        against_all_s: the same of the other model; empty where there was none.
        latency: of the candidate, at the percentile; None where it is not known.
        median: of the candidate.
        all_calls_s: the median of all of the candidate's calls, those that were disturbed too.
        calls: of the candidate.
        seconds: that it took, the start of the process included.
        rounds_s: of those, what the rounds took.
        load_s: what making a session of the candidate takes, the median over rounds.
        against_load_s: the same of the other model; None where there was none.
        warnings: a sentence each.
    """

    candidate_s: tuple[float, ...]
    against_s: tuple[float, ...]
    candidate_all_s: tuple[float, ...]
    against_all_s: tuple[float, ...]
    latency: Estimate | None
    median: Estimate
    all_calls_s: float
    calls: int
    seconds: float
    rounds_s: float
    load_s: float
    against_load_s: float | None
    warnings: tuple[str, ...]

    def ratio(self, stored: tuple[float, ...] = ()) -> Estimate:
        """time(candidate) / time(against) of fast calls, or to the baseline by stored ratios.

        Raises:
            NothingMeasured: the candidate was timed alone.
        """
        if not self.against_s:
            raise NothingMeasured("The candidate was timed alone, so there is no ratio.")
        found = ratio_of(self.candidate_s, self.against_s)
        return combine(found, stored) if stored else found

    def ratio_of_all(self) -> Estimate:
        """time(candidate) / time(against) of all calls.

        Raises:
            NothingMeasured: the candidate was timed alone.
        """
        if not self.against_all_s:
            raise NothingMeasured("The candidate was timed alone, so there is no ratio.")
        return ratio_of(self.candidate_all_s, self.against_all_s)

    def unevenness(self) -> Estimate:
        """How much further all calls are from the fast ones than those of the other model.

        1.25 is a quarter. What the two models take does not matter to it.
        """
        ours, theirs = (
            [whole / fast for whole, fast in zip(*each, strict=True)]
            for each in (
                (self.candidate_all_s, self.candidate_s),
                (self.against_all_s, self.against_s),
            )
        )
        return ratio_of(ours, theirs)


@dataclass(frozen=True)
class Judged:
    """What a trial came to.

    Attributes:
        latency, budget: outcomes; None where nothing was asked.
        first, second: what was found; the second is there where the first one failed.
    """

    latency: Outcome | None
    budget: Outcome | None
    first: Rounds
    second: Rounds | None = None

    @property
    def seconds(self) -> float:
        """What measuring took."""
        return self.first.seconds + (self.second.seconds if self.second else 0.0)


def measure(trial: Trial) -> Rounds:
    """Times a trial in a fresh process.

    Raises:
        CompressError: what loading or running a model raised.
        NothingMeasured: the process died.
    """
    begun = time.perf_counter()
    plain = replace(
        trial,
        candidate=trial.candidate.absolute(),
        against=None if trial.against is None else trial.against.absolute(),
    )
    answer = ask(CHILD, plain, trial.candidate.name)
    return decode(answer | {"seconds": time.perf_counter() - begun})


def judge(trial: Trial, say: Callable[[str], None] = lambda _: None) -> Judged:
    """Times a trial, and once more in another process where something fails.

    A second process has its memory elsewhere and comes at another moment. What fails in one of
    them alone is not decided.

    Raises:
        CompressError: as ``measure``.
    """
    first = measure(trial)
    latency, budget = outcomes(trial, first)
    if Outcome.FAIL not in (latency, budget):
        return Judged(latency, budget, first)
    say("It fails; measuring again in another process to confirm this.")
    second = measure(replace(trial, seed=trial.seed + 1))
    again = outcomes(trial, second)
    return Judged(_confirmed(latency, again[0]), _confirmed(budget, again[1]), first, second)


def outcomes(trial: Trial, found: Rounds) -> tuple[Outcome | None, Outcome | None]:
    """What was found says of latency and budget; None for what was not asked."""
    latency = None
    if trial.rule is not None:
        latency = _latency(trial, trial.rule, found)
    elif trial.limit_s is not None:
        far = limits.judge(found.median, trial.limit_s) is Judgement.MISSED
        latency = Outcome.FAIL if far else Outcome.INCONCLUSIVE
    budget = None if trial.budget_s is None else budget_of(trial, found).outcome
    return latency, budget


def _latency(trial: Trial, rule: LatencyRule, found: Rounds) -> Outcome:
    if not trial.stored:
        return rule.decide(found.ratio(), found.ratio_of_all())
    # What was stored is of fast calls. How far all calls are from them depends on how busy a
    # machine is and on how long a call takes, so it is compared here, and only with a wide margin.
    outcome = rule.decide(found.ratio(trial.stored))
    uneven = found.unevenness().high > 1 + UNEVEN
    return Outcome.INCONCLUSIVE if outcome is Outcome.PASS and uneven else outcome


def budget_of(trial: Trial, found: Rounds) -> Comparison:
    """The budget beside what was found."""
    percentile = trial.settings.percentile
    needed = 0 if percentile == 50 else calls_needed(percentile)
    return compare_budget(
        found.latency,
        trial.budget_s or math.nan,
        percentile,
        found.calls,
        needed,
        all_calls_s=found.all_calls_s if percentile == 50 else None,
    )


def encode(found: Rounds) -> dict[str, Any]:
    """Plain values of an answer."""
    return asdict(found)


def decode(answer: dict[str, Any]) -> Rounds:
    """The inverse of ``encode``.

    Raises:
        NothingMeasured: it is not.
    """
    where = "The measuring process gave a broken answer"
    return schema.decode(Rounds, answer, where, error=NothingMeasured)


def _confirmed(first: Outcome | None, second: Outcome | None) -> Outcome | None:
    failed_once = first is Outcome.FAIL and second is not Outcome.FAIL
    return Outcome.INCONCLUSIVE if failed_once else first
