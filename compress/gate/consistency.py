"""Whether a file answers at the batch that is timed as it does in the batches that are scored.

Accuracy is measured in large batches, for that takes minutes less, and latency at the batch that is
served. A file that answers otherwise there would pass both and serve neither.

An answer differs where one of an image's logits does by more than ``TOLERANCE`` of the distance
between its largest and its smallest; what is added to all of them alike changes no answer. In
float32 another batch adds the same products in another order, which is less than a hundred
thousandth of it. Files in fewer bits round: activations that are scaled by the batch that they are
in (DynamicQuantizeLinear) move by per cents.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor

from compress.data.dataset import Dataset
from compress.data.normalization import normalize
from compress.exporting import read_artifact
from compress.gate.measuring import Settings
from compress.gate.verdict import Comparison, Figures, Outcome
from compress.profiling.runtime import input_of_onnx
from compress.spec import Target
from compress.training.evaluation import EVALUATION_BATCH, stratified_sample
from compress.training.scoring import Scored, answering
from compress.units import format_percent

IMAGES = 256
# Of slow models fewer: no further batch begins after so many seconds, once there are so many.
MAX_S, LEAST_IMAGES = 20.0, 32

TOLERANCE = {"fp32": 1e-3, "fp64": 1e-3}
TOLERANCE_OF_FEWER_BITS = 0.1
# Where all logits of an image are the same.
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
    chosen = _whole(
        stratified_sample(data.test.labels, max(IMAGES, settings.batch)), settings.batch
    )
    target = Target(runtime=settings.runtime, threads=settings.threads)
    with answering(artifact, data, target, settings.output) as (predict, _):
        found: list[Tensor] = []
        end = time.monotonic() + MAX_S
        for part in chosen.split(settings.batch):
            if time.monotonic() > end and len(found) * settings.batch >= LEAST_IMAGES:
                break
            images = normalize(data.test.images[part], scored.normalization)
            found.append(predict(images))
    alone = torch.cat(found)
    chosen = chosen[: len(alone)]
    batched = scored.logits[chosen]
    allowed = TOLERANCE.get(artifact.precision, TOLERANCE_OF_FEWER_BITS)
    return judge(alone, batched, data.test.labels.cpu()[chosen], allowed, settings.batch)


def _whole(index: Tensor, batch: int) -> Tensor:
    """Positions in whole batches: a smaller one at the end is none that is timed."""
    count = max(batch, len(index) - len(index) % batch)
    return index.repeat(-(-count // len(index)))[:count]


def judge(alone: Tensor, batched: Tensor, labels: Tensor, allowed: float, batch: int) -> Comparison:
    """The rule.

    Args:
        alone: logits at the timed batch [n, C].
        batched: of the same images in large batches [n, C].
        labels: of the images [n].
        allowed: difference, as a share of the distance of an image's logits.
        batch: images a call, of the first.
    """
    distance = batched.amax(dim=1) - batched.amin(dim=1)
    moved = alone - batched
    differences = (moved - moved.mean(dim=1, keepdim=True)).abs().amax(dim=1)
    # Not (a > b), so that what is not a number counts as different.
    differing = int((~(differences <= allowed * distance + NOTHING)).sum())
    other = int((alone.argmax(dim=1) != batched.argmax(dim=1)).sum())
    right = [float((each.argmax(dim=1) == labels).double().mean()) for each in (alone, batched)]
    count = len(alone)
    how = "one by one" if batch == 1 else f"{batch} a call"
    evidence = {
        "images": count,
        "batch": batch,
        "scored_batch": EVALUATION_BATCH,
        "differing": differing,
        "other_class": other,
        "right": right[0],
        "right_in_large_batches": right[1],
        "max_abs_diff": float(differences.max()),
        "tolerance": allowed,
    }
    figures = Figures(
        candidate=f"{differing} of {count} differ", allowed=f"0, by more than {allowed:.1%}"
    )
    if not differing:
        reason = (
            f"the same answers {how} as in batches of {EVALUATION_BATCH} on {count} images, "
            f"largest difference of a logit {float(differences.max()):.1e}"
        )
        return Comparison("consistency", Outcome.PASS, reason, evidence, figures)
    reason = (
        f"{differing} of {count} images get other answers {how} (as timed) than in batches of "
        f"{EVALUATION_BATCH} (as scored); {other} get another class, and "
        f"{format_percent(right[0])} and {format_percent(right[1])} are right"
    )
    return Comparison("consistency", Outcome.FAIL, reason, evidence, figures)
