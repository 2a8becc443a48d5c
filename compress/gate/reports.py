"""A verdict as machines read it: JUnit XML, GitHub's annotations and its summary of a step."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from compress.files import atomic_path
from compress.gate.report import LEVEL, TITLE, document_of, identity, name_of
from compress.gate.verdict import Outcome, Verdict
from compress.report import markdown
from compress.report.values import plain

# Set by GitHub Actions; see "Variables reference" and "Workflow commands" of its documentation.
ON_GITHUB, SUMMARY = "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"

# What XML 1.0 cannot hold, escaped or not.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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
    model = _xml(name_of(verdict))
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
        told = _xml("\n".join(f"not judged: {plain(text)}" for text in verdict.not_judged))
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
    model = name_of(verdict)
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
            summary.write(markdown.render(document_of(verdict), LEVEL))


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


def _xml(text: str) -> str:
    return _NOT_XML.sub("?", text)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
