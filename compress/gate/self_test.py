"""What the latency rule can tell on this machine: a model beside itself, then beside slower ones.

First the A/A comparison: 48 rounds of a model beside itself. Rounds drawn from these, and made
slower by a factor, go through the rule many times over, as a check would: that says which slowdown
is found 95 times of 100, and how long it takes. Then the model gets real extra work, a quarter more
than that, and the rule has to find it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress.errors import Inconclusive
from compress.gate.extra_work import Slowed, slow_down
from compress.gate.latency import LatencyRule, in_percent, percent, ratio_of
from compress.gate.measuring import MAX_S, Judged, Rounds, Settings, Trial, judge, measure
from compress.gate.verdict import Outcome
from compress.profiling.estimates import Array
from compress.profiling.machine import fingerprint
from compress.profiling.protocol import LOOKS
from compress.results import SCHEMA_VERSION, Estimate
from compress.scratch import scratch_folder
from compress.units import format_duration, format_time

CONFIDENCE = 0.95
DRAWS = 300
# Slowdowns are looked for among these; what is slower needs no gate to be seen.
SMALLEST, LARGEST = 0.005, 1.0
BISECTIONS = 7
CHECKS = 3
# What is put into the model is so much more than what is found 19 times of 20, to be found always.
MARGIN = 1.25


@dataclass(frozen=True)
class Power:
    """What the rule does, by drawing from the rounds of an A/A comparison.

    Attributes:
        slowdown: of the model that is drawn, 0 for A/A.
        passes, fails: shares of the checks.
        rounds: that a check takes on average, those of the second process among them.
    """

    slowdown: float
    passes: float
    fails: float
    rounds: float


@dataclass(frozen=True)
class SelfTest:
    """What was found.

    Attributes:
        model: name of its file.
        latency_s: of a call.
        rule: what was tested.
        same: the model beside itself in fast calls, 48 rounds.
        same_of_all: the same in all calls.
        scatter, scatter_of_all: standard deviation of one round's ratio, as a fraction.
        nothing: the rule where nothing changed.
        detectable: the rule at the smallest slowdown that is found; None: none is.
        seconds_a_round: of wall time.
        start_s: what a process takes beside its rounds.
        slowed: the model with extra work; None where none was tried.
        checks: what the rule said of it.
    """

    model: str
    latency_s: float
    rule: LatencyRule
    settings: Settings
    same: Estimate
    same_of_all: Estimate
    scatter: float
    scatter_of_all: float
    nothing: Power
    detectable: Power | None
    seconds_a_round: float
    start_s: float
    slowed: Slowed | None
    checks: tuple[Judged, ...]

    @property
    def outcome(self) -> Outcome:
        """FAIL where the model is slower than itself, PASS where the slowdown is always found."""
        if self.rule.decide(self.same, self.same_of_all) is Outcome.FAIL:
            return Outcome.FAIL
        found = [one.latency is Outcome.FAIL for one in self.checks]
        return Outcome.PASS if found and all(found) else Outcome.INCONCLUSIVE

    def seconds(self, power: Power) -> float:
        """What a check takes on average; a second process starts where the first one fails."""
        return self.start_s * (1 + power.fails) + power.rounds * self.seconds_a_round

    def lines(self) -> tuple[str, ...]:
        """What was found, for people."""
        threads = self.settings.threads
        found = [
            f"{self.model}, {format_time(self.latency_s)} a call, {threads} "
            f"thread{'s' if threads > 1 else ''}; {percent(1 + self.rule.allowed)} allowed.",
            f"A/A, the model beside itself: {in_percent(self.same)} in fast calls and "
            f"{in_percent(self.same_of_all)} in all, {LOOKS[-1]} rounds of seeded noise; one "
            f"round's ratios scatter by {self.scatter:.1%} and {self.scatter_of_all:.1%}.",
            f"Without a change, {self.nothing.passes:.1%} of checks pass and "
            f"{self.nothing.fails:.1%} fail, after {self.seconds(self.nothing):.1f} s on average "
            f"({DRAWS} checks drawn from those rounds).",
        ]
        if self.detectable is None:
            found.append(
                f"No slowdown up to {percent(1 + LARGEST)} is found {CONFIDENCE:.0%} of the time: "
                "this machine is too busy."
            )
        else:
            found.append(
                f"The smallest slowdown found {CONFIDENCE:.0%} of the time: "
                f"{percent(1 + self.detectable.slowdown)}, after "
                f"{self.seconds(self.detectable):.1f} s on average."
            )
        if self.slowed is None:
            found.append("No real extra work of that size was tried.")
        else:
            said = ", ".join(str(one.latency).upper() for one in self.checks)
            taken_s = sum(one.seconds for one in self.checks) / len(self.checks)
            found.append(
                f"Real extra work in the model, {in_percent(self.slowed.ratio)}: {said}; "
                f"{format_duration(taken_s)} each."
            )
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""

        def power(one: Power) -> dict[str, float]:
            return {
                "slowdown": one.slowdown,
                "passes": one.passes,
                "fails": one.fails,
                "rounds": one.rounds,
                "seconds": self.seconds(one),
            }

        return {
            "schema_version": SCHEMA_VERSION,
            "outcome": self.outcome.value,
            "model": self.model,
            "latency_ms": self.latency_s * 1e3,
            "threads": self.settings.threads,
            "allowed": self.rule.allowed,
            "same": self.same.to_dict(),
            "same_of_all": self.same_of_all.to_dict(),
            "scatter": self.scatter,
            "scatter_of_all": self.scatter_of_all,
            "nothing_changed": power(self.nothing),
            "confidence": CONFIDENCE,
            "detectable": None if self.detectable is None else power(self.detectable),
            "extra_work": None if self.slowed is None else self.slowed.ratio.to_dict(),
            "checks": [
                {"outcome": str(one.latency), "seconds": one.seconds} for one in self.checks
            ],
            "machine": fingerprint().to_dict(),
        }


def self_test(
    model: Path,
    *,
    rule: LatencyRule,
    settings: Settings,
    max_s: float = MAX_S,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> SelfTest:
    """Tests the latency rule with a model.

    Args:
        model: an ONNX file.
        rule: what is tested.
        settings: how models are measured.
        max_s: no further round begins after so many seconds, in each process.
        seed: of everything that is drawn.
        say: is told what is being done.

    Raises:
        ModelFileError, UsageError: the model cannot be used.
        NothingMeasured: a measuring process died.
    """
    with scratch_folder("self-test") as folder:
        say(f"A/A: timing {model.name} beside itself, {LOOKS[-1]} rounds.")
        same = measure(
            Trial(model, model, settings=settings, rounds=LOOKS[-1], max_s=max_s, seed=seed)
        )
        logs = logs_of(same)
        # Either copy could have been the numerator.
        pool = np.concatenate([logs, -logs])
        say("Simulating slower models from these rounds.")
        detectable = smallest_detectable(pool, rule, seed)
        slowed, checks = None, []
        if detectable is not None:
            amount = MARGIN * detectable.slowdown
            say(f"Adding extra work of {percent(1 + amount)} to the model.")
            path = folder / f"slower-{model.name}"
            try:
                slowed = slow_down(model, amount, path, settings=settings, say=say)
            except Inconclusive as error:
                say(str(error))
            else:
                for number in range(CHECKS):
                    say(f"Checking it, {number + 1} of {CHECKS}.")
                    again = Trial(
                        path, model, settings=settings, rule=rule, max_s=max_s, seed=seed + number
                    )
                    checks.append(judge(again))
        return SelfTest(
            model=model.name,
            latency_s=same.median.value,
            rule=rule,
            settings=settings,
            same=same.ratio(),
            same_of_all=same.ratio_of_all(),
            scatter=float(np.std(logs[:, 0], ddof=1)),
            scatter_of_all=float(np.std(logs[:, 1], ddof=1)),
            nothing=power_at(0.0, pool, rule, seed),
            detectable=detectable,
            seconds_a_round=same.rounds_s / len(logs),
            start_s=same.seconds - same.rounds_s,
            slowed=slowed,
            checks=tuple(checks),
        )


def logs_of(rounds: Rounds) -> Array:
    """Logarithms of the ratios of each round's figures: of fast calls, and of all [rounds, 2]."""
    pairs = (
        (rounds.candidate_s, rounds.against_s),
        (rounds.candidate_all_s, rounds.against_all_s),
    )
    return np.stack([np.log(np.array(ours) / np.array(theirs)) for ours, theirs in pairs], axis=1)


def smallest_detectable(pool: Array, rule: LatencyRule, seed: int) -> Power | None:
    """The smallest slowdown that the rule finds with ``CONFIDENCE``; None where it finds none.

    Args:
        pool: logarithms of the ratios of A/A rounds [n], or of each of their figures [n, figures].
        rule: what is asked.
        seed: of the drawing.
    """
    if power_at(LARGEST, pool, rule, seed).fails < CONFIDENCE:
        return None
    low, high = math.log(SMALLEST), math.log(LARGEST)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if power_at(math.exp(middle), pool, rule, seed).fails >= CONFIDENCE:
            high = middle
        else:
            low = middle
    return power_at(math.exp(high), pool, rule, seed)


def power_at(slowdown: float, pool: Array, rule: LatencyRule, seed: int) -> Power:
    """How checks of a model that is so much slower end, rounds being drawn from a pool.

    What fails is drawn once more, as a check measures it once more.
    """
    generator = np.random.default_rng(seed)
    passes = fails = rounds = 0
    for _ in range(DRAWS):
        outcome, taken = _drawn(slowdown, pool, rule, generator)
        if outcome is Outcome.FAIL:
            outcome, more = _drawn(slowdown, pool, rule, generator)
            taken += more
            fails += outcome is Outcome.FAIL
        else:
            passes += outcome is Outcome.PASS
        rounds += taken
    return Power(slowdown, passes / DRAWS, fails / DRAWS, rounds / DRAWS)


def _drawn(
    slowdown: float, pool: Array, rule: LatencyRule, generator: np.random.Generator
) -> tuple[Outcome, int]:
    """What the rule says of drawn rounds, and how many it took."""
    # The figures of a round stay together.
    drawn = generator.choice(pool.reshape(len(pool), -1), LOOKS[-1], axis=0)
    ratios = np.exp(drawn) * (1 + slowdown)
    outcome = Outcome.INCONCLUSIVE
    for look in LOOKS:
        outcome = rule.decide(*(ratio_of(each, np.ones(look)) for each in ratios[:look].T))
        if outcome is not Outcome.INCONCLUSIVE:
            return outcome, look
    return outcome, LOOKS[-1]
