"""A verdict as people and machines read it: lines, Markdown, JUnit XML, GitHub's annotations."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from pathlib import Path
from xml.etree import ElementTree

from compress.errors import CompressError
from compress.files import atomic_path
from compress.gate.verdict import Comparison, Outcome, Verdict

TITLE = "compress check"

# Set by GitHub Actions; see "Variables reference" and "Workflow commands" of its documentation.
ON_GITHUB, SUMMARY = "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"

# What XML 1.0 cannot hold, escaped or not.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def unusable(error: CompressError, candidate: Path | None, baseline: Path) -> Verdict:
    """A verdict about something that could not be judged at all, for reports to have a word.

    Args:
        error: why.
        candidate: that was given, if one was.
        baseline: the same.
    """
    about = {"candidate": {"path": str(candidate or "")}, "baseline": {"path": str(baseline)}}
    return Verdict((Comparison("check", Outcome.NOT_MEASURED, str(error)),), about=about)


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
            f"{' '.join(filter(None, (runtime, version)))}, {threads} "
            f"thread{'s' if threads > 1 else ''}, batch {settings['batch']}"
        )
    if "inputs" in verdict.about:
        found["timed on"] = verdict.about["inputs"]
    return {name: _line(text) for name, text in found.items() if text}


def lines(verdict: Verdict) -> Iterator[str]:
    """One line a comparison, then the warnings, then the outcome."""
    for one in verdict.comparisons:
        yield f"{one.name:<11} {one.outcome.upper():<13} {_line(one.reason)}"
    if "inputs" in verdict.about:
        yield f"timed on {_line(verdict.about['inputs'])}"
    for text in verdict.not_judged:
        yield f"not judged: {_line(text)}"
    for warning in verdict.warnings:
        yield f"warning: {_line(warning)}"
    yield f"outcome: {verdict.outcome.upper()}"


def markdown(verdict: Verdict) -> str:
    """A heading, tables of the outcomes, the figures and what they are of; the warnings.

    It ends with a line break.
    """
    model = _name(verdict)
    rows = [f"### {TITLE}: {verdict.outcome.upper()}{f' for {_text(model)}' if model else ''}"]
    rows += ["", "| | outcome | |", "|---|---|---|"]
    rows += [
        f"| {one.name} | **{one.outcome.upper()}** | {_cell(one.reason)} |"
        for one in verdict.comparisons
    ]
    figures = [(one.name, one.figures) for one in verdict.comparisons if one.figures is not None]
    if figures:
        rows += ["", "| | baseline | candidate | change | allowed |", "|---|---:|---:|---:|---:|"]
        rows += [
            f"| {name} | {' | '.join(_cell(value) for value in astuple(each))} |"
            for name, each in figures
        ]
    known = identity(verdict)
    if known:
        rows += ["", *(f"- {name}: {_text(text)}" for name, text in known.items())]
    if verdict.not_judged:
        rows += ["", *(f"- not judged: {_text(text)}" for text in verdict.not_judged)]
    if verdict.warnings:
        rows += ["", *(f"- {_cell(warning)}" for warning in verdict.warnings)]
    return "\n".join([*rows, ""])


def junit(verdict: Verdict) -> bytes:
    """JUnit XML: a test case a comparison; not decided is skipped, not measured is an error."""
    tags = {
        Outcome.FAIL: "failure",
        Outcome.NOT_MEASURED: "error",
        Outcome.INCONCLUSIVE: "skipped",
    }
    found = [one.outcome for one in verdict.comparisons]
    counts = {
        "tests": str(len(found)),
        "failures": str(found.count(Outcome.FAIL)),
        "errors": str(found.count(Outcome.NOT_MEASURED)),
        "skipped": str(found.count(Outcome.INCONCLUSIVE)),
    }
    model = _xml(_name(verdict))
    root = ElementTree.Element("testsuites", {"name": TITLE, **counts})
    suite = ElementTree.SubElement(
        root, "testsuite", {"name": f"{TITLE} {model}".strip(), **counts}
    )
    if "seconds" in verdict.about:
        suite.set("time", f"{verdict.about['seconds']:.3f}")
    known = identity(verdict)
    if known:
        properties = ElementTree.SubElement(suite, "properties")
        for name, text in known.items():
            ElementTree.SubElement(properties, "property", {"name": name, "value": _xml(text)})
    for one in verdict.comparisons:
        # Those who show test cases sort them by class and know no other name of a suite.
        attributes = {"classname": f"compress.check {model}".strip(), "name": one.name}
        case = ElementTree.SubElement(suite, "testcase", attributes)
        if one.outcome in tags:
            message = {"message": _xml(one.reason)}
            ElementTree.SubElement(case, tags[one.outcome], message)
        else:
            ElementTree.SubElement(case, "system-out").text = _xml(one.reason)
    if verdict.not_judged:
        told = _xml("\n".join(f"not judged: {_line(text)}" for text in verdict.not_judged))
        ElementTree.SubElement(suite, "system-out").text = told
    if verdict.warnings:
        ElementTree.SubElement(suite, "system-err").text = _xml("\n".join(verdict.warnings))
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def workflow_commands(verdict: Verdict, *, inconclusive_passes: bool = False) -> Iterator[str]:
    """GitHub's workflow commands: one for each comparison that does not pass, or one notice.

    Args:
        verdict: what to tell.
        inconclusive_passes: whether what is not decided is only warned of.
    """
    levels = {
        Outcome.FAIL: "error",
        Outcome.NOT_MEASURED: "error",
        Outcome.INCONCLUSIVE: "warning" if inconclusive_passes else "error",
    }
    model = _name(verdict)
    of = f" [{model}]" if model else ""
    for one in verdict.comparisons:
        if one.outcome in levels:
            title = f"{TITLE}: {one.name} {one.outcome}"
            yield f"::{levels[one.outcome]} title={_property(title)}::{_data(one.reason + of)}"
    for warning in verdict.warnings:
        yield f"::warning title={_property(TITLE)}::{_data(warning + of)}"
    if verdict.outcome is Outcome.PASS:
        told = "; ".join(f"{one.name}: {one.reason}" for one in verdict.comparisons)
        yield f"::notice title={_property(f'{TITLE}: pass')}::{_data(told + of)}"


def write_junit(path: Path, verdict: Verdict) -> None:
    """Writes ``junit`` whole or not at all.

    Raises:
        UsageError: the folder cannot be written to.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(junit(verdict))


def add_to_summary(verdict: Verdict, environment: Mapping[str, str]) -> None:
    """Adds the Markdown to the step's summary, where GitHub says that there is one.

    Raises:
        OSError: it cannot be written to.
    """
    if environment.get(SUMMARY):
        with Path(environment[SUMMARY]).open("a", encoding="utf-8") as summary:
            summary.write(markdown(verdict))


def workflow_commands_of(
    verdict: Verdict, environment: Mapping[str, str], *, inconclusive_passes: bool = False
) -> list[str]:
    """The annotations to be printed on GitHub; none elsewhere.

    Args:
        verdict: what to tell.
        environment: of the process.
        inconclusive_passes: whether what is not decided is only warned of.
    """
    if environment.get(ON_GITHUB) != "true":
        return []
    return list(workflow_commands(verdict, inconclusive_passes=inconclusive_passes))


def _name(verdict: Verdict) -> str:
    """What the candidate was called; empty where that is not known."""
    return _line(verdict.about.get("candidate", {}).get("path", ""))


def _text(text: str) -> str:
    """Text in Markdown: no line and no tag of its own."""
    return html.escape(_line(text), quote=False)


def _cell(text: str) -> str:
    """The same in a cell of a table: no column of its own either."""
    return _text(text).replace("|", "\\|")


def _line(text: str) -> str:
    """Text without line breaks: a line of its own might be a command to what reads it."""
    return " ".join(text.split())


def _xml(text: str) -> str:
    return _NOT_XML.sub("?", text)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
