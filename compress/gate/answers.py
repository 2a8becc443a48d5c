"""What the baseline's model says of the images, here and now, and the candidate beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compress.data.dataset import Dataset
from compress.gate.accuracy import AccuracyRule, compare_accuracy
from compress.gate.baseline import Baseline
from compress.gate.evaluation import score
from compress.gate.measuring import Settings
from compress.gate.verdict import Comparison, Outcome
from compress.results import Machine
from compress.tasks.task import Evidence, Outputs

# Of an evaluation set of more, so many are scored again at each check, others each time.
SAMPLE = 500


@dataclass(frozen=True)
class Theirs:
    """What the baseline's model says.

    Attributes:
        evidence: what each test image contributes to its score.
        what: they are called in a sentence.
        doubt: why nothing can be decided by them; empty where it can.
        warnings: what makes them less than they seem, a sentence each.
        index: of the images that the model was scored on here [k]; None: it is not there.
        outputs: its answers to them; None as well.
    """

    evidence: Evidence
    what: str = "the baseline"
    doubt: str = ""
    warnings: tuple[str, ...] = ()
    index: Tensor | None = None
    outputs: Outputs | None = None


def own_answers(baseline: Baseline) -> Comparison:
    """The comparison of the baseline's file with itself."""
    return Comparison(
        baseline.metric.name,
        Outcome.PASS,
        "the candidate is the baseline's own file",
        {"baseline": baseline.evidence.value, "n": len(baseline.evidence), "drop": {"value": 0.0}},
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
        all_images: whether the answers to all are needed.
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
        if not found.evidence.differing(baseline.evidence.take(chosen)):
            return Theirs(baseline.evidence, index=chosen, outputs=found.outputs)
    say(f"Scoring the baseline's model on all {count:,} test images again.")
    found = score(model, data, settings, baseline.normalization)
    differing = found.evidence.differing(baseline.evidence)
    warnings: tuple[str, ...] = ()
    if differing and not (isa or others):
        warnings = (
            f"The baseline's file and its model disagree about {differing:,} of {count:,} test "
            "images, on the same machine and engine. The model's answers are used. Make the "
            "baseline again, or find out who changed it.",
        )
    what = "the baseline, scored here" if isa or others or differing else "the baseline"
    everything = torch.arange(count)
    return Theirs(found.evidence, what, warnings=warnings, index=everything, outputs=found.outputs)


def _believed(baseline: Baseline, others: Sequence[str], *, isa: bool) -> Theirs:
    """The stored answers, where there is no model to ask."""
    if isa:
        return Theirs(
            baseline.evidence,
            doubt="the baseline was scored with other instruction sets "
            f"({' '.join(baseline.machine['isa'])}), with which int8 rounds differently, "
            "and its model is missing, so it cannot be scored here",
        )
    if others:
        warning = (
            f"The baseline was scored by another version of the engine ({'; '.join(others)}), "
            "which may answer differently."
        )
        return Theirs(baseline.evidence, warnings=(warning,))
    return Theirs(baseline.evidence)


def judge_accuracy(evidence: Evidence, theirs: Theirs, rule: AccuracyRule) -> Comparison:
    """The candidate's answers beside the baseline's.

    Args:
        evidence: what each test image contributes to the candidate's score.
        theirs: the same of the baseline.
        rule: what is allowed.
    """
    found = compare_accuracy(evidence.against(theirs.evidence), rule, theirs.what)
    if theirs.doubt:
        reason = f"{found.reason}; but {theirs.doubt}"
        return replace(found, outcome=Outcome.INCONCLUSIVE, reason=reason)
    return found
