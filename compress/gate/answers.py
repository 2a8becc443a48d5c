"""Which images the baseline's model has right, here and now, and the candidate beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compress.data.dataset import Dataset
from compress.gate.accuracy import AccuracyRule, Paired, compare_accuracy
from compress.gate.baseline import Baseline
from compress.gate.evaluation import score
from compress.gate.measuring import Settings
from compress.gate.verdict import Comparison, Outcome
from compress.results import Machine

# Of an evaluation set of more, so many are scored again at each check, others each time.
SAMPLE = 500


@dataclass(frozen=True)
class Theirs:
    """What the baseline's model has right.

    Attributes:
        right: of the test images [n].
        what: they are called in a sentence.
        doubt: why nothing can be decided by them; empty where it can.
        warnings: what makes them less than they seem, a sentence each.
        index: of the images that the model was scored on here [k]; None: it is not there.
        logits: what it said of them, float32 [k, C]; None as well.
    """

    right: tuple[bool, ...]
    what: str = "the baseline"
    doubt: str = ""
    warnings: tuple[str, ...] = ()
    index: Tensor | None = None
    logits: Tensor | None = None


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
    *,
    all_images: bool = False,
) -> Theirs:
    """The stored answers, or those that the model gives here where they are or may be others.

    Whoever can write the baseline's file can write its digest, too. So the model is scored again:
    on some images, that nobody knows beforehand, and on all where one of these answers is not the
    stored one, where the machine or the engine is another, or where all are asked for.

    Args:
        baseline: that they are of.
        model: its file, where it is there.
        here: this machine.
        data: the evaluation set.
        settings: how models are run.
        say: is told what is being done.
        all_images: whether the logits of all are needed.
    """
    isa = sorted(here.isa) != sorted(baseline.machine["isa"])
    others = baseline.engine_differences(here)
    if model is None:
        return _believed(baseline, others, isa=isa)
    count = len(data.test)
    if not (isa or others or all_images) and count > SAMPLE:
        # Not of the seed: who knows which images these are could leave their answers as they were.
        chosen = torch.from_numpy(np.sort(np.random.default_rng().choice(count, SAMPLE, False)))
        say(f"Scoring the baseline's model on {SAMPLE} of the test images again.")
        part = replace(data, test=data.test.take(chosen))
        found = score(model, part, settings, baseline.normalization)
        if found.right.tolist() == [baseline.right[place] for place in chosen.tolist()]:
            return Theirs(baseline.right, index=chosen, logits=found.logits)
    say(f"Scoring the baseline's model on all {count:,} test images again.")
    found = score(model, data, settings, baseline.normalization)
    right = tuple(found.right.tolist())
    differing = sum(ours != stored for ours, stored in zip(right, baseline.right, strict=True))
    warnings: tuple[str, ...] = ()
    if differing and not (isa or others):
        warnings = (
            f"The baseline's file and its model disagree about {differing:,} of {count:,} test "
            "images, on the same machine and engine. The model's answers are used. Make the "
            "baseline again, or find out who changed it.",
        )
    what = "the baseline, scored here" if isa or others or differing else "the baseline"
    return Theirs(right, what, warnings=warnings, index=torch.arange(count), logits=found.logits)


def _believed(baseline: Baseline, others: Sequence[str], *, isa: bool) -> Theirs:
    """The stored answers, where there is no model to ask."""
    if isa:
        return Theirs(
            baseline.right,
            doubt="the baseline was scored with other instruction sets "
            f"({' '.join(baseline.machine['isa'])}), with which int8 rounds differently, "
            "and its model is missing, so it cannot be scored here",
        )
    if others:
        warning = (
            f"The baseline was scored by another version of the engine ({'; '.join(others)}), "
            "which may answer differently."
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
