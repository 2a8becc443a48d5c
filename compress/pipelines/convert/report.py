"""A conversion as a document: what was made, and how far it is from what it was made of."""

from __future__ import annotations

from collections.abc import Iterator

from compress.data.normalization import describe
from compress.gate.precision import pair_of
from compress.pipelines.convert.request import Conversion
from compress.report.document import Document, Text
from compress.report.values import time_of
from compress.tasks.registry import TASKS, unstated
from compress.units import format_bytes, format_percent


def document_of(found: Conversion) -> Document:
    """The file, and the proof that it is what it was made of."""
    return Document(tuple(map(Text, _texts(found))))


def _texts(found: Conversion) -> Iterator[str]:
    artifact, one, engine = found.artifact, found.fidelity, found.engine
    task = unstated() if one is None else TASKS[one.task](1)
    known = describe(artifact.normalization) if artifact.normalization else "unknown"
    precision = "" if artifact.precision == "fp32" else f" in {artifact.precision}"
    size = format_bytes(artifact.size_bytes)
    yield f"{artifact.path}: {found.name}{precision}, {size}, normalisation {known}."
    if found.parity is not None:
        yield (
            f"It gives the {task.answer} of the checkpoint on all {found.parity.images:,} "
            f"{found.on}; the largest difference of a {task.number} is "
            f"{found.parity.max_abs_diff:.1e}."
        )
    if one is not None:
        text = (
            f"It gives the {task.answer} of float32 on {format_percent(one.top1_agreement)} of "
            f"{one.images:,} {found.on}"
        )
        if one.score is not None and one.float_score is not None:
            metric, pair = task.metric, pair_of(one)
            text += (
                f"; {metric.name} {metric.text(one.score)} against "
                f"{metric.text(one.float_score)} of float32 ({pair.details})"
            )
        yield f"{text}."
    yield from (f"In {trial.precision}: {trial.why}." for trial in found.trials[1:])
    if engine is not None:
        batches = ", ".join(map(str, engine.batches))
        yield f"Built by {engine.package} {engine.version} for batches of {batches}."
        proof = engine.fidelity
        yield (
            "It was not run: there is no GPU here."
            if proof is None
            else f"It gives the {task.answer} of the ONNX file on "
            f"{format_percent(proof.top1_agreement)} of {proof.images:,} {found.on}."
        )
    for batch, latency in found.latencies.items():
        yield f"A call of {batch} takes {time_of(latency)}, as a CUDA graph if possible."
