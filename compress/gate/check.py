"""A candidate beside a baseline: latency, size, accuracy, and parity and budget where asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress.data.classes import named
from compress.data.dataset import Dataset
from compress.data.normalization import normalize
from compress.errors import (
    ModelFileError,
    NothingMeasured,
    ParityError,
    UsageError,
)
from compress.exporting import read_artifact
from compress.exporting.parity import verify
from compress.files import sha256_of
from compress.gate.accuracy import AccuracyRule
from compress.gate.answers import Theirs, answers_of_baseline, judge_accuracy, own_answers
from compress.gate.baseline import FILE, Baseline, read_baseline
from compress.gate.calibration import (
    CalibrationRule,
    compare_calibration,
    told_calibration,
)
from compress.gate.consistency import compare_consistency
from compress.gate.evaluation import data_of, score
from compress.gate.latency import STORED_RUNS, LatencyRule
from compress.gate.limits import SizeRule, compare_parity, compare_size
from compress.gate.measuring import MAX_S, Trial, judge
from compress.gate.naming import compare_classes
from compress.gate.signature import signature_of
from compress.gate.slowdown import (
    FAR,
    compare_confirmed_budget,
    compare_latency,
    compare_with_stored,
    no_slower_than_itself,
    slow_to_load,
    told_loading,
    unsteady,
)
from compress.gate.verdict import Comparison, Outcome, Verdict
from compress.onnx_file import is_onnx
from compress.profiling.inputs import Sample
from compress.profiling.machine import fingerprint
from compress.profiling.runtime import input_of_onnx
from compress.results import SCHEMA_VERSION, Artifact, Machine
from compress.spec import Normalization
from compress.tasks.task import Outputs, rows_at
from compress.training.evaluation import stratified_sample, timing_sample
from compress.training.identification import identify

PARITY_IMAGES = 500
# What `compress distill` leaves beside the file that it exports.
CHECKPOINT = "student.safetensors"


@dataclass(frozen=True)
class CheckRequest:
    """What is to be checked.

    Attributes:
        candidate: an ONNX file.
        baseline: of the same task.
        latency, size, accuracy: what is allowed.
        budget_s: what a call may take; None: not asked.
        percentile: that the budget is for; None: the baseline's.
        shape: channels, height and width, where a file leaves them open; None: the baseline's.
        checkpoint: that the candidate was exported from, to prove that both are the same function.
            None: the one of its run folder, where it lies there; else parity is not judged.
        teacher: where the baseline's teacher is, if not where it was.
        data: where the evaluation set is, if not where it was.
        data_dir, image_size: as for ``load_dataset``.
        normalization: of the candidate, where the file does not say it.
        output_name: of the candidate, that its answers are; None: as the baseline's.
        max_s: no further round of timing begins after so many seconds.
        calibration: how much worse calibrated it may be; None: it is told and not judged.
        seed: of inputs and orders.
    """

    candidate: Path
    baseline: Path = FILE
    latency: LatencyRule = field(default_factory=LatencyRule)
    size: SizeRule = field(default_factory=SizeRule)
    accuracy: AccuracyRule = field(default_factory=AccuracyRule)
    calibration: CalibrationRule | None = None
    budget_s: float | None = None
    percentile: float | None = None
    shape: tuple[int, ...] | None = None
    checkpoint: Path | None = None
    teacher: Path | None = None
    data: str | None = None
    data_dir: Path | None = None
    image_size: int | None = None
    normalization: Normalization | None = None
    output_name: str | None = None
    max_s: float = MAX_S
    seed: int = 0

    def __post_init__(self) -> None:
        if self.budget_s is not None and not (np.isfinite(self.budget_s) and self.budget_s > 0):
            raise UsageError(
                f"--budget-ms is {self.budget_s * 1e3:g}; it must be a positive number."
            )
        if self.percentile is not None and self.budget_s is None:
            raise UsageError("--percentile needs a budget. Give --budget-ms, too.")


def check(request: CheckRequest, say: Callable[[str], None] = lambda _: None) -> Verdict:
    """Judges a candidate.

    Whatever is wrong with what was given is found before anything is timed.

    Args:
        request: what is to be checked.
        say: is told what is being done.

    Raises:
        InputError: the candidate, the baseline or the evaluation set cannot be used.
        UsageError: they are not of the same task, or an option cannot be.
    """
    return _Check(request, say).run()


class _Check:
    """One check; an object because its comparisons share what was read."""

    def __init__(self, request: CheckRequest, say: Callable[[str], None]) -> None:
        self.request = request
        self.say = say
        self.warnings: list[str] = []
        self.not_judged: list[str] = []
        self.begun = time.monotonic()
        self.baseline: Baseline = read_baseline(request.baseline)
        self.artifact: Artifact = read_artifact(_onnx(request.candidate))
        self.normalization = request.normalization or self.artifact.normalization
        self.settings = self.baseline.settings
        if request.percentile is not None:
            self.settings = replace(self.settings, percentile=request.percentile)
        if request.shape is not None:
            self.settings = replace(self.settings, shape=request.shape)
        self.model = self.baseline.model_path
        self.here: Machine = fingerprint()
        #: The candidate may call its answers otherwise than the baseline's model.
        self.asked = replace(self.settings, output=request.output_name or self.settings.output)
        there = self.baseline.signature
        found = signature_of(request.candidate, self.asked, there.task)
        if found != there:
            raise UsageError(
                f"{request.baseline} is for another task: its model takes {there}, but "
                f"{request.candidate} takes {found}. Give its baseline with --baseline, "
                "or make one with `compress baseline update`."
            )
        self.say(f"Reading the evaluation set, {self.baseline.evaluation_set.name}.")
        self.data: Dataset = data_of(
            self.baseline,
            request.data,
            data_dir=request.data_dir,
            image_size=request.image_size,
            say=say,
        )
        # Of the same bytes there is nothing to compare.
        self.own = self.artifact.sha256 == self.baseline.model.sha256
        if self.model is None and not self.own:
            self.warnings.append(
                f"The baseline's model {self.baseline.model.file} is not beside "
                f"{request.baseline}, so it is not timed and not scored again."
            )
        if self.settings.threads > self.here.cpus:
            self.warnings.append(
                f"The baseline uses {self.settings.threads} threads, but this machine has "
                f"{self.here.cpus} CPUs, so the threads wait for each other."
            )

    def run(self) -> Verdict:
        baseline, request = self.baseline, self.request
        size = compare_size(self.artifact.size_bytes, baseline.model.size_bytes, request.size)
        parity, answers = self._parity(), self._answers()
        latency = self._latency()
        comparisons = (*latency[:1], size, *answers, *self._classes(), *parity, *latency[1:])
        return Verdict(
            comparisons,
            tuple(dict.fromkeys(self.warnings)),
            self._about(),
            tuple(self.not_judged),
        )

    # --- latency and budget ----------------------------------------------------------------------

    def _latency(self) -> tuple[Comparison, ...]:
        """The comparison of latencies, and that with the budget where there is one."""
        request = self.request
        trial = Trial(
            request.candidate,
            settings=self.settings,
            budget_s=request.budget_s,
            max_s=request.max_s,
            seed=request.seed,
            sample=self._sample(self.normalization),
        )
        why, differences = "", self.baseline.differences(self.here)
        if self.model is not None:
            trial = replace(
                trial,
                against=self.model,
                rule=request.latency,
                against_sample=self._sample(self.baseline.normalization),
            )
            self.say(f"Timing {request.candidate.name} and the baseline's model in turns.")
        elif self.own:
            if request.budget_s is None:
                return (no_slower_than_itself(),)
            self.say(f"Timing {request.candidate.name} alone.")
        else:
            teacher, why = self._teacher()
            if teacher is not None and self.baseline.teacher is not None:
                trial = replace(
                    trial,
                    against=teacher,
                    rule=request.latency,
                    stored=self.baseline.teacher.values,
                    against_sample=self._sample(read_artifact(teacher).normalization),
                )
                self.say(f"Timing {request.candidate.name} and {teacher.name} in turns.")
            else:
                if not differences:
                    trial = replace(trial, limit_s=FAR * self.baseline.latency.high)
                self.say(f"Timing {request.candidate.name} alone.")
        try:
            judged = judge(trial, self.say)
        except NothingMeasured as error:
            asked = ("latency",) if request.budget_s is None else ("latency", "budget")
            return tuple(Comparison(name, Outcome.NOT_MEASURED, str(error)) for name in asked)
        self.not_judged.append(told_loading(judged.first))
        self.warnings.extend(slow_to_load(judged.first))
        for found in (judged.first, judged.second):
            self.warnings.extend(() if found is None else found.warnings)
        if judged.latency is Outcome.INCONCLUSIVE and trial.settings.threads > 1:
            self.warnings.extend(unsteady(judged.first.against_s, trial.settings.threads))
        if trial.rule is not None:
            latency = compare_latency(trial, judged, trial.rule)
        elif self.own:
            latency = no_slower_than_itself()
        else:
            latency = compare_with_stored(judged, self.baseline.latency, differences, why)
        budget = () if judged.budget is None else (compare_confirmed_budget(trial, judged),)
        return (latency, *budget)

    def _sample(self, normalization: Normalization | None) -> Sample | None:
        """Images of the evaluation set to time a model on, as it takes them.

        Where its normalisation is not known they go through that of the data, with which their
        values are those of images, too.
        """
        data = self.data
        return timing_sample(data, data.test, normalization or data.normalization)

    def _teacher(self) -> tuple[Path | None, str]:
        """A model to be timed beside in the baseline's place, or why there is none."""
        stored = self.baseline.teacher
        if stored is None:
            return None, "the baseline has no ratio to a teacher"
        if len(stored.ratios) < STORED_RUNS:
            return None, f"{len(stored.ratios)} stored ratios are too few; {STORED_RUNS} are needed"
        differences = self.baseline.differences(self.here, ("cpu", "isa", "gpu"))
        if differences:
            return None, f"the ratio to a teacher is of another machine ({'; '.join(differences)})"
        given = self.request.teacher
        if given is not None and sha256_of(given) != stored.sha256:
            raise UsageError(
                f"{given} is not the teacher that {self.request.baseline} was timed with: its "
                f"SHA-256 is not {stored.sha256[:12]}..."
            )
        path = given or self.baseline.teacher_path
        if path is None:
            return None, f"the teacher {stored.file} is missing (give it with --teacher)"
        return path, ""

    # --- accuracy, consistency and parity --------------------------------------------------------

    def _answers(self) -> tuple[Comparison, ...]:
        """What follows from the candidate's answers and the baseline's."""
        request = self.request
        if self.own:
            return (own_answers(self.baseline),)
        self.say(f"Scoring {request.candidate.name} on {len(self.data.test):,} test images.")
        scored = score(request.candidate, self.data, self.asked, request.normalization)
        self.normalization = scored.normalization
        self.warnings.extend(scored.notes)
        theirs = answers_of_baseline(
            self.baseline,
            self.model,
            self.here,
            self.data,
            self.settings,
            self.say,
            all_images=request.calibration is not None,
        )
        self.warnings.extend(theirs.warnings)
        batch = self.settings.batch
        self.say(f"Comparing its answers with those at batch size {batch}, at which it is timed.")
        consistency = compare_consistency(request.candidate, self.data, self.asked, scored)
        return (
            judge_accuracy(scored.evidence, theirs, request.accuracy),
            *(() if consistency is None else (consistency,)),
            *self._calibration(scored.outputs, theirs),
        )

    def _calibration(self, outputs: Outputs, theirs: Theirs) -> tuple[Comparison, ...]:
        """How sure both are, judged where that is asked for.

        Raises:
            UsageError: it is asked for, and the answers of this task do not say it.
        """
        rule, task = self.request.calibration, self.data.task
        index, targets = theirs.index, self.data.test.targets.cpu()
        if index is not None:
            outputs, targets = rows_at(outputs, index), targets[index]
        ours, other = task.confidence(outputs, targets), None
        if ours is None:
            if rule is None:
                return ()
            raise UsageError(
                "--max-calibration-drop is for models that say how sure they are; the answers of "
                f"{task.name} do not. Leave it out."
            )
        if theirs.outputs is not None:
            other = task.confidence(theirs.outputs, targets)
        if rule is None:
            self.not_judged.append(told_calibration(ours, other, len(targets)))
            return ()
        if other is None:
            why = "the baseline's model is missing, and its calibration error is not stored"
            return (Comparison("calibration", Outcome.INCONCLUSIVE, why),)
        return (compare_calibration(ours, other, len(targets), rule),)

    def _classes(self) -> tuple[Comparison, ...]:
        """The names of the outputs, where both files have some."""
        if self.own or not self.data.task.classes:
            return ()
        theirs = () if self.model is None else read_artifact(self.model).classes
        found = compare_classes(self.artifact.classes, theirs)
        if found is not None:
            return (found,)
        has_some = {
            "the candidate's file": named(self.artifact.classes),
            "the baseline's file": named(theirs),
        }
        without = " and ".join(name for name, some in has_some.items() if not some)
        gone = "" if self.model is not None else ", which is missing"
        self.not_judged.append(f"class names: there are none in {without}{gone}")
        return ()

    def _parity(self) -> tuple[Comparison, ...]:
        """Whether the candidate is its own checkpoint; nothing where that is not known."""
        request = self.request
        path = request.checkpoint or self._own_checkpoint()
        if path is None:
            return ()
        self.say(f"Comparing {request.candidate.name} with its checkpoint {path.name}.")
        found = identify(
            path,
            self.data,
            normalization=request.normalization or self.artifact.normalization,
            arch=None,
            device=torch.device("cpu"),
        )
        sample = stratified_sample(self.data.test, self.data.task, PARITY_IMAGES)
        images = normalize(self.data.test.images[sample], found.normalization)
        try:
            batch = input_of_onnx(request.candidate).shape[0]
            parity = verify(
                found.network,
                request.candidate,
                images,
                task=self.data.task,
                batch=batch if isinstance(batch, int) else None,
            )
            return (compare_parity(parity, path.name, self.data.task),)
        except ParityError as error:
            return (Comparison("parity", Outcome.FAIL, str(error), {"checkpoint": path.name}),)

    def _own_checkpoint(self) -> Path | None:
        """The checkpoint of the candidate's run folder, if it is the one that it came from."""
        path = self.request.candidate.parent / CHECKPOINT
        stated = self.artifact.source.get("checkpoint_sha256")
        if stated is None or self.artifact.precision != "fp32" or not path.is_file():
            return None
        found = sha256_of(path)
        if found == stated:
            return path
        self.warnings.append(
            f"{path} is not the checkpoint that {self.request.candidate.name} was exported from: "
            f"its SHA-256 is {found[:12]}..., not {stated[:12]}... Parity is not judged. Give the "
            "right file with --checkpoint."
        )
        return None

    def _about(self) -> dict[str, Any]:
        baseline, artifact = self.baseline, self.artifact
        return {
            "schema_version": SCHEMA_VERSION,
            "candidate": {
                "path": str(artifact.path),
                "file": artifact.path.name,
                "sha256": artifact.sha256,
                "size_bytes": artifact.size_bytes,
                "precision": artifact.precision,
            },
            "baseline": {
                "path": str(self.request.baseline),
                "file": self.request.baseline.name,
                "model": baseline.model.name,
                "model_sha256": baseline.model.sha256,
                "created": baseline.created,
                "reason": baseline.reason,
            },
            "settings": asdict(self.settings),
            "inputs": f"images of {self.data.name}, drawn again for each round",
            "machine": self.here.to_dict(),
            "seconds": time.monotonic() - self.begun,
        }


def _onnx(path: Path) -> Path:
    if not is_onnx(path):
        raise ModelFileError(
            f"{path} is not an ONNX file. Export the checkpoint first: compress export {path} "
            f"--output {path.with_suffix('.onnx').name}."
        )
    return path
