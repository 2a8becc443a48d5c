"""What result.json says of a run, and the one look at the test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compress.data.dataset import Dataset
from compress.files import sha256_of
from compress.gate.accuracy import AccuracyRule, compare_accuracy
from compress.gate.verdict import Comparison
from compress.limits import Judgement, judge, worst
from compress.models.network import Network
from compress.pipelines.distill.names import STUDENT_ONNX, TEACHER_ONNX
from compress.pipelines.distill.request import NOT_JUDGED, Request
from compress.profiling.costs import costs_of_module
from compress.profiling.fresh import FreshTiming
from compress.profiling.machine import fingerprint
from compress.profiling.timing import ModelTiming
from compress.results import Parity
from compress.spec import Budget, ModelSpec, Target
from compress.tasks.classification import Paired
from compress.tasks.task import Pair, Standing
from compress.tradeoff import RuntimeChoice
from compress.training.evaluation import answers_to, evaluate, file_predictor
from compress.training.teacher import Teacher
from compress.units import format_time


@dataclass(frozen=True)
class Scores:
    """How the student's and the teacher's files score.

    Attributes:
        student: accuracy by split, as a fraction of 1.
        teacher: the same; on validation images its checkpoint's.
        pair: both on the same test images.
        chance: the student beside a guess on the test images: ``standing`` and ``text``.
    """

    student: dict[str, float]
    teacher: dict[str, float]
    pair: Pair
    chance: dict[str, str]


def score(
    student: Path, teacher: Teacher, teacher_onnx: Path, data: Dataset, target: Target
) -> Scores:
    """Scores both files as the target runs them."""
    task, test = data.task, data.test
    with file_predictor(student, target, task, made_here=True) as predict:
        validation = evaluate(predict, task, data.validation, data.normalization)
        outputs = answers_to(predict, test.images, data.normalization)
    with file_predictor(teacher_onnx, target, task, made_here=True) as predict:
        theirs = task.evidence(
            answers_to(predict, test.images, teacher.normalization), test.targets
        )
    ours, chance = task.evidence(outputs, test.targets), task.chance(outputs, test.targets)
    return Scores(
        student={"validation": validation, "test": ours.value},
        teacher={"validation": teacher.accuracy, "test": theirs.value},
        pair=ours.against(theirs),
        chance={"standing": chance.standing.value, "text": chance.text},
    )


def drop_of(pair: Pair) -> dict[str, Any]:
    """How much accuracy the student loses against the teacher, fractions of 1, 95% interval."""
    return {
        **pair.interval().to_dict(),
        **pair.to_dict(),
        "allowed": None,
        "outcome": None,
        "reason": None,
    }


def judged(result: dict[str, Any], allowed: float | None) -> dict[str, Any]:
    """A result with the answer to what the student may lose against the teacher.

    Args:
        result: what result.json says.
        allowed: of accuracy on the test images, as a fraction of 1; None where nobody asks.

    """
    drop = result["accuracy_drop"]
    answer = None if allowed is None else compare_drop(drop, allowed)
    return result | {
        "accuracy_drop": drop
        | {
            "allowed": allowed,
            "outcome": None if answer is None else answer.outcome.value,
            "reason": None if answer is None else answer.reason,
        }
    }


def compare_drop(drop: dict[str, Any], allowed: float) -> Comparison:
    """The gate's answer, from the counts that result.json keeps."""
    pair = Paired(**{name: drop[name] for name in ("n", "lost", "won", "right")})
    return compare_accuracy(pair, AccuracyRule(allowed), "the teacher")


def make_result(
    request: Request,
    budget: Budget,
    *,
    runtime: RuntimeChoice | None,
    teacher: Teacher,
    teacher_onnx: Path,
    more_teachers: Sequence[Teacher],
    student: Network,
    parity: Parity,
    timing: FreshTiming,
    scores: Scores,
    precisions: dict[str, dict[str, Any]],
    more_images: str,
    elsewhere: bool,
) -> dict[str, Any]:
    """result.json.

    Args:
        request: of the run.
        budget: the request's, its runtime and precision decided.
        runtime: why it is that one, where it was chosen.
        teacher: that the student is compared with.
        teacher_onnx: its file.
        more_teachers: that the student learnt from.
        student: after its training.
        parity: of its float32 file to it.
        timing: of both files.
        scores: of both files.
        precisions: what the student is in fewer bits.
        more_images: how to decide what those cost, a sentence; empty where it is decided.
        elsewhere: the student was chosen by the figures of another machine.
    """
    data = request.data
    student_onnx = request.out / STUDENT_ONNX
    size_bytes = student_onnx.stat().st_size
    outcome = _outcome(budget, size_bytes, None if elsewhere else timing)
    warnings = _warnings(budget, timing)
    if elsewhere:
        warnings.insert(
            0,
            "The student was chosen by a table from another machine, so its latency there is not "
            "verified. Run `compress profile student.onnx` there.",
        )
    lost = precisions.get(budget.target.precision)
    if lost is not None and lost["outcome"] != Judgement.KEPT:
        warnings.append(
            f"The student may lose more in {budget.target.precision} than --max-precision-loss "
            f"allows: {lost['why']}." + more_images
        )
    if scores.chance["standing"] != Standing.BETTER.value:
        warnings.append(f"On the test images the student is {scores.chance['text']}")
    return {
        "budget": {
            "latency_ms": _scaled(budget.latency_s, 1e3),
            "size_mb": _scaled(budget.size_bytes, 1e-6),
            "speedup": budget.speedup,
            "batch": budget.batch,
            "percentile": budget.percentile,
            "headroom": budget.headroom,
            "measured_ms": _estimate(timing.model, 1e3),
            "outcome": outcome,
        },
        "target": asdict(budget.target),
        "runtime_choice": None if runtime is None else runtime.to_dict(),
        "teacher": {
            **_costs(teacher.network, teacher.spec, data.input_shape),
            "size_bytes": teacher_onnx.stat().st_size,
            "accuracy": scores.teacher,
            "latency_ms": _latency(timing.against),
            "file": TEACHER_ONNX,
            "sha256": sha256_of(teacher_onnx),
        },
        "more_teachers": [
            {"name": each.spec.name, "sha256": each.sha256, "validation": each.accuracy}
            for each in more_teachers
        ],
        "student": {
            **_costs(student, student.spec, data.input_shape),
            "size_bytes": size_bytes,
            "accuracy": scores.student,
            "latency_ms": _latency(timing.model),
            "parity": {
                "top1_agreement": parity.top1_agreement,
                "max_abs_diff": parity.max_abs_diff,
                "images": parity.images,
            },
            "chance": scores.chance,
            "precision": budget.target.precision,
            "file": STUDENT_ONNX,
            "sha256": sha256_of(student_onnx),
        },
        "accuracy_drop": drop_of(scores.pair),
        "precisions": precisions,
        "speedup": timing.speedup.to_dict() if timing.speedup else None,
        "load_ms": timing.loading.load_s * 1e3,
        "first_ms": timing.loading.first_s * 1e3,
        "memory_bytes": timing.loading.memory_bytes,
        "recipe": request.recipe.name,
        "recipe_options": request.recipe.to_dict(),
        "epochs": request.options.epochs,
        "seed": request.options.seed,
        "data": {
            "name": data.name,
            "sha256": data.sha256,
            "n": {
                "train": len(data.train),
                "validation": len(data.validation),
                "test": len(data.test),
            },
        },
        "machine": fingerprint().to_dict(),
        "warnings": warnings,
    }


def _outcome(budget: Budget, size_bytes: int, timing: FreshTiming | None) -> str:
    """What became of the budget: that of the worst of its limits.

    Args:
        budget: what was asked for.
        size_bytes: of the student's file.
        timing: of both files; None where this machine does not decide.
    """
    judged = []
    if budget.latency_s is not None:
        model = timing.model if timing else None
        judged.append(model.judge(budget.latency_s) if model else None)
    if budget.speedup is not None:
        ratio = timing.speedup if timing else None
        judged.append(judge(ratio, budget.speedup, at_least=True) if ratio else None)
    if budget.size_bytes is not None:
        kept = size_bytes <= budget.size_bytes
        judged.append(Judgement.KEPT if kept else Judgement.MISSED)
    found = worst(each for each in judged if each is not None)
    return NOT_JUDGED if found is Judgement.KEPT and (None in judged or not judged) else found.value


def _warnings(budget: Budget, timing: FreshTiming) -> list[str]:
    """What is to be known about the last timing, a sentence each."""
    warnings = []
    model, ratio = timing.model, timing.speedup
    limit_s, least = budget.latency_s, budget.speedup
    if limit_s is not None and model.judge(limit_s) is Judgement.UNDECIDED:
        low, high = (format_time(end) for end in (model.latency.low, model.latency.high))
        why = f"its interval, {low} to {high}, holds {format_time(limit_s)}"
        if model.latency.high <= limit_s:
            median = format_time(model.all_calls_s or 0)
            why = f"with the calls that others disturbed its median is {median}"
        warnings.append(f"Whether the student keeps the time is not decided: {why}.")
    if ratio and least is not None and judge(ratio, least, at_least=True) is Judgement.UNDECIDED:
        warnings.append(
            f"Whether the student is {least:g} times faster is not decided: the interval is "
            f"{ratio.low:.2f} to {ratio.high:.2f}."
        )
    for role, each in (("student", timing.model), ("teacher", timing.against)):
        said = () if each is None else each.warnings
        warnings += [f"Timing the {role}: {text}" for text in said]
    return warnings


def _costs(network: Network, spec: ModelSpec, input_shape: tuple[int, int, int]) -> dict[str, Any]:
    costs = costs_of_module(network, input_shape)
    return {"name": spec.name, "params": costs.params, "macs": costs.macs}


def _latency(timing: ModelTiming | None) -> dict[str, float] | None:
    return None if timing is None else timing.median.to_dict(1e3, "median")


def _estimate(timing: ModelTiming | None, scale: float) -> dict[str, float] | None:
    return None if timing is None else timing.latency.to_dict(scale)


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale
