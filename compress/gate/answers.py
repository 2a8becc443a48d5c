"""Which images the baseline's model has right, here and now, and the candidate beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from compress.data.dataset import Dataset
from compress.gate.accuracy import AccuracyRule, Paired, compare_accuracy
from compress.gate.baseline import Baseline
from compress.gate.evaluation import score
from compress.gate.measuring import Settings
from compress.gate.verdict import Comparison, Outcome
from compress.results import Machine


@dataclass(frozen=True)
class Theirs:
    """What the baseline's model has right.

    Attributes:
        right: of the test images [n].
        what: they are called in a sentence.
        doubt: why nothing can be decided by them; empty where it can.
        warnings: what makes them less than they seem, a sentence each.
    """

    right: tuple[bool, ...]
    what: str = "the baseline"
    doubt: str = ""
    warnings: tuple[str, ...] = ()


def own_answers(baseline: Baseline) -> Comparison:
    """The comparison of the baseline's file with itself."""
    return Comparison(
        "accuracy",
        Outcome.PASS,
        "the candidate is the baseline's own file",
        {"baseline": baseline.accuracy, "n": len(baseline.right), "drop": {"value": 0.0}},
    )


def answers_of_baseline(
    baseline: Baseline,
    model: Path | None,
    here: Machine,
    data: Dataset,
    settings: Settings,
    say: Callable[[str], None],
) -> Theirs:
    """The stored answers, or those that the model gives here where they may be others.

    Args:
        baseline: that they are of.
        model: its file, where it is there.
        here: this machine.
        data: the evaluation set.
        settings: how models are run.
        say: is told what is being done.
    """
    isa = sorted(here.isa) != sorted(baseline.machine["isa"])
    others = baseline.engine_differences(here)
    if (isa or others) and model is not None:
        say("Scoring the baseline's model here too: the machine or the engine is another.")
        again = score(model, data, settings, baseline.normalization)
        return Theirs(tuple(again.right.tolist()), "the baseline, scored here")
    if isa:
        return Theirs(
            baseline.right,
            doubt="the baseline was scored with other instruction sets "
            f"({' '.join(baseline.machine['isa'])}), with which int8 rounds otherwise, and its "
            "model is not there to be scored here",
        )
    if others:
        warning = (
            f"The baseline was scored by another version of the engine ({'; '.join(others)}), "
            "which may answer otherwise."
        )
        return Theirs(baseline.right, warnings=(warning,))
    return Theirs(baseline.right)


def judge_accuracy(right: Tensor, theirs: Theirs, rule: AccuracyRule) -> Comparison:
    """The candidate's answers beside the baseline's.

    Args:
        right: whether the candidate has each test image right, bool [n].
        theirs: the same of the baseline.
        rule: what is allowed.
    """
    found = compare_accuracy(Paired.of(right.tolist(), theirs.right), rule, theirs.what)
    if theirs.doubt:
        reason = f"{found.reason}; but {theirs.doubt}"
        return replace(found, outcome=Outcome.INCONCLUSIVE, reason=reason)
    return found
