"""A verdict as a document: each outcome with its reason, the figures, and what they are of."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

from compress.errors import CompressError
from compress.gate.baseline import Baseline
from compress.gate.verdict import Comparison, Outcome, Verdict
from compress.report import values
from compress.report.document import (
    Column,
    Document,
    Facts,
    Key,
    Marked,
    Part,
    Table,
    Text,
    Tone,
    names,
    numbers,
)
from compress.report.values import plain
from compress.units import format_bytes

TITLE = "compress check"
# Of its heading in Markdown: it is a part of somebody's page.
LEVEL = 3
TONES = {
    Outcome.PASS: Tone.GOOD,
    Outcome.FAIL: Tone.BAD,
    Outcome.NOT_MEASURED: Tone.BAD,
    Outcome.INCONCLUSIVE: Tone.UNDECIDED,
}


def document_of(verdict: Verdict) -> Document:
    """A table of outcomes, one of figures, what was compared, and what makes them less."""
    model = name_of(verdict)
    outcomes = tuple(
        (one.name, Marked(one.outcome.upper(), TONES[one.outcome]), one.reason)
        for one in verdict.comparisons
    )
    parts: list[Part] = [Table((*names("", "outcome"), Column("why")), outcomes)]
    figures = [(one.name, *astuple(one.figures)) for one in verdict.comparisons if one.figures]
    if figures:
        columns = (*names(""), *numbers("baseline", "candidate", "change", "allowed"))
        parts.append(Table(columns, tuple(figures)))
    known = identity(verdict)
    if known:
        parts.append(Facts(tuple(known.items())))
    parts += [Text(text, "not judged") for text in verdict.not_judged]
    parts += [Text(text, "warning") for text in verdict.warnings]
    said = verdict.outcome.upper()
    return Document(
        tuple(parts),
        f"{TITLE}: {said}{f' for {model}' if model else ''}",
        (Key("outcome", said, tone=TONES[verdict.outcome]),),
    )


def baseline_document(found: Baseline) -> Document:
    """What a baseline says."""
    model, settings = found.model, found.settings
    facts = {
        "baseline": str(found.path),
        "model": f"{model.name}, {found.signature}, {model.precision}, "
        f"{format_bytes(model.size_bytes)}, {model.file} ({model.sha256[:12]}...)",
        found.metric.name: f"{found.metric.text(found.evidence.value)} of "
        f"{len(found.evidence):,} test images of {found.evaluation_set.name}",
        "latency": f"{values.time_of(found.latency)}; {settings.runtime}, "
        f"{values.threads(settings.threads)}, batch {settings.batch}, {found.machine['cpu']}",
        "teacher": "" if found.teacher is None else str(found.teacher),
        "made": f"{found.created}: {found.reason}",
    }
    return Document((Facts(tuple((name, text) for name, text in facts.items() if text)),))


def name_of(verdict: Verdict) -> str:
    """What the candidate was called; empty where that is not known."""
    return plain(verdict.about.get("candidate", {}).get("path", ""))


def identity(verdict: Verdict) -> dict[str, str]:
    """What was compared with what, where and how: name -> a few words; only what is known.

    Two checks of one change are told apart by this.
    """
    candidate, baseline = (verdict.about.get(key, {}) for key in ("candidate", "baseline"))
    found = {"model": candidate.get("path", "")}
    if "sha256" in candidate:
        found["model"] += f" ({candidate['precision']}, SHA-256 {candidate['sha256'][:12]}...)"
    found["baseline"] = baseline.get("path", "")
    if "model_sha256" in baseline:
        found["baseline"] += (
            f" ({baseline['model']}, SHA-256 {baseline['model_sha256'][:12]}..., "
            f"made {baseline['created']})"
        )
        found["reason for the baseline"] = baseline["reason"]
    if "machine" in verdict.about:
        machine, settings = verdict.about["machine"], verdict.about["settings"]
        runtime, threads = settings["runtime"], settings["threads"]
        version = machine["engines"].get(runtime.partition("-")[0], "")
        found["machine"] = f"{machine['cpu']}, {machine['cpus']} CPUs" + (
            f", {machine['gpu']}" if machine.get("gpu") else ""
        )
        found["timed with"] = (
            f"{' '.join(filter(None, (runtime, version)))}, {values.threads(threads)}, "
            f"batch {settings['batch']}"
        )
    if "inputs" in verdict.about:
        found["timed on"] = verdict.about["inputs"]
    return {name: plain(text) for name, text in found.items() if text}


def unusable(error: CompressError, candidate: Path | None, baseline: Path) -> Verdict:
    """A verdict about something that could not be judged at all, for reports to have a word.

    Args:
        error: why.
        candidate: that was given, if one was.
        baseline: the same.
    """
    about = {"candidate": {"path": str(candidate or "")}, "baseline": {"path": str(baseline)}}
    return Verdict((Comparison("check", Outcome.NOT_MEASURED, str(error)),), about=about)
