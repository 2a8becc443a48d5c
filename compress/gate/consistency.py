"""Whether a file answers at the batch that is timed as it does in the batches that are scored.

Accuracy is measured in large batches, for that takes minutes less, and latency at the batch that is
served. A file that answers otherwise there would pass both and serve neither.

An answer differs where one of an image's numbers does by more than ``TOLERANCE`` of the distance
between its largest and its smallest (of logits, to all of which may be added what changes no
answer; other tasks say in ``Agreement`` what moved beside what). In float32 another batch adds the
same products in another order, which is less than a hundred thousandth of it. Files in reduced
precision round: activations that are scaled by the batch that they are in (DynamicQuantizeLinear)
move by per cents.
"""

from __future__ import annotations

import time
from pathlib import Path

from torch import Tensor

from compress.data.dataset import Dataset
from compress.data.normalization import normalize
from compress.exporting import read_artifact
from compress.gate.measuring import Settings
from compress.gate.verdict import Comparison, Figures, Outcome
from compress.profiling.runtime import input_of_onnx
from compress.spec import Target
from compress.tasks.task import Outputs, Targets, Task, arrays_of, joined, rows_at
from compress.training.evaluation import EVALUATION_BATCH, stratified_sample
from compress.training.scoring import Scored, answering

IMAGES = 256
# Of slow models fewer: no further batch begins after so many seconds, once there are so many.
MAX_S, LEAST_IMAGES = 20.0, 32

TOLERANCE = {"fp32": 1e-3, "fp64": 1e-3}
TOLERANCE_OF_FEWER_BITS = 0.1
# Where all numbers of an image are the same.
NOTHING = 1e-6


def compare_consistency(
    path: Path, data: Dataset, settings: Settings, scored: Scored
) -> Comparison | None:
    """The answers at the timed batch beside those of large batches.

    Args:
        path: the file.
        data: its test images were scored.
        settings: say the batch, the runtime and the threads.
        scored: what the file says of them in large batches.

    Returns:
        None where it was scored at the timed batch already.
    """
    artifact = read_artifact(path)
    if isinstance(input_of_onnx(path).shape[0], int) or settings.batch == EVALUATION_BATCH:
        return None
    count = max(IMAGES, settings.batch)
    chosen = _whole(stratified_sample(data.test, data.task, count), settings.batch)
    target = Target(runtime=settings.runtime, threads=settings.threads)
    with answering(artifact, data, target, settings.output) as (predict, _):
        found: list[Outputs] = []
        end = time.monotonic() + MAX_S
        for part in chosen.split(settings.batch):
            if time.monotonic() > end and len(found) * settings.batch >= LEAST_IMAGES:
                break
            images = normalize(data.test.images[part], scored.normalization)
            found.append(predict(images))
    chosen = chosen[: len(found) * settings.batch]
    allowed = TOLERANCE.get(artifact.precision, TOLERANCE_OF_FEWER_BITS)
    batched, targets = rows_at(scored.outputs, chosen), data.test.targets.cpu()[chosen]
    return judge(data.task, joined(found), batched, targets, allowed, settings.batch)


def _whole(index: Tensor, batch: int) -> Tensor:
    """Positions in whole batches: a smaller one at the end is none that is timed."""
    count = max(batch, len(index) - len(index) % batch)
    return index.repeat(-(-count // len(index)))[:count]


def judge(
    task: Task, alone: Outputs, batched: Outputs, targets: Targets, allowed: float, batch: int
) -> Comparison:
    """The rule.

    Args:
        task: of the images.
        alone: answers at the timed batch.
        batched: to the same images in large batches.
        targets: of the images [n].
        allowed: difference, as a share of the distance of an image's numbers.
        batch: images a call, of the first.
    """
    found = task.agreement(arrays_of(batched), arrays_of(alone))
    differing = int(found.moved_beyond(allowed, NOTHING).sum())
    other, largest = int(found.other.sum()), float(found.moved.max())
    scores = [task.evidence(each, targets).value for each in (alone, batched)]
    count = len(targets)
    how = "one by one" if batch == 1 else f"{batch} a call"
    evidence = {
        "images": count,
        "batch": batch,
        "scored_batch": EVALUATION_BATCH,
        "differing": differing,
        f"other_{task.answer}": other,
        task.metric.name: scores[0],
        f"{task.metric.name}_in_large_batches": scores[1],
        "max_abs_diff": largest,
        "tolerance": allowed,
    }
    figures = Figures(
        candidate=f"{differing} of {count} differ", allowed=f"0, by more than {allowed:.1%}"
    )
    if not differing:
        reason = (
            f"the same answers {how} as in batches of {EVALUATION_BATCH} on {count} images, "
            f"largest difference of a {task.number} {largest:.1e}"
        )
        return Comparison("consistency", Outcome.PASS, reason, evidence, figures)
    reason = (
        f"{differing} of {count} images get other answers {how} (as timed) than in batches of "
        f"{EVALUATION_BATCH} (as scored); {other} get another {task.answer}, {task.metric.name} "
        f"{task.metric.text(scores[0])} there and {task.metric.text(scores[1])} here"
    )
    return Comparison("consistency", Outcome.FAIL, reason, evidence, figures)
