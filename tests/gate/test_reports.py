from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from compress.errors import ModelFileError
from compress.gate import reports
from compress.gate.report import document_of, unusable
from compress.gate.verdict import Comparison, Outcome, Verdict
from compress.report import markdown

NASTY = "100% a|b <b>\r\n::error::no\x00, x: y"

VERDICT = Verdict(
    (
        Comparison("latency", Outcome.FAIL, NASTY),
        Comparison("size", Outcome.PASS, "small"),
        Comparison("accuracy", Outcome.INCONCLUSIVE, "few images"),
        Comparison("budget", Outcome.NOT_MEASURED, "died"),
    ),
    ("busy\nmachine",),
    {"seconds": 1.5},
    ("loading takes\n1 s",),
)


ABOUT = {
    "candidate": {"path": "new/a<b>.onnx", "sha256": "a" * 64, "precision": "int8"},
    "baseline": {
        "path": "ci/gate.json",
        "model": "wrn-10-1",
        "model_sha256": "b" * 64,
        "created": "2026-01-02T03:04:05+00:00",
        "reason": "first\nrelease",
    },
    "settings": {"runtime": "onnxruntime", "threads": 2, "batch": 1},
    "inputs": "images of small",
    "machine": {"cpu": "Some CPU", "cpus": 4, "gpu": "", "engines": {"onnxruntime": "1.31.1"}},
}
KNOWN = {
    "model": "new/a<b>.onnx (int8, SHA-256 aaaaaaaaaaaa...)",
    "baseline": "ci/gate.json (wrn-10-1, SHA-256 bbbbbbbbbbbb..., made 2026-01-02T03:04:05+00:00)",
    "reason for the baseline": "first release",
    "machine": "Some CPU, 4 CPUs",
    "timed with": "onnxruntime 1.31.1, 2 threads, batch 1",
    "timed on": "images of small",
}


def test_junit_tells_two_checks_of_one_change_apart() -> None:
    verdict = replace(VERDICT, about=ABOUT)
    (suite,) = ElementTree.fromstring(reports.junit(verdict))
    assert suite.get("name") == "compress check new/a<b>.onnx"
    said = {one.get("name"): one.get("value") for one in suite.findall("properties/property")}
    assert said == KNOWN
    names = {case.get("classname") for case in suite.findall("testcase")}
    assert names == {"compress.check new/a<b>.onnx"}
    assert all(" [new/a<b>.onnx]" in line for line in reports.workflow_commands(verdict))


def test_junit_can_be_read_and_says_the_same() -> None:
    root = ElementTree.fromstring(reports.junit(VERDICT))
    (suite,) = root
    assert suite.attrib == {
        "name": "compress check",
        "tests": "4",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
        "time": "1.500",
    }
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert [child.tag for child in cases["latency"]] == ["failure"]
    assert [child.tag for child in cases["size"]] == ["system-out"]
    assert [child.tag for child in cases["accuracy"]] == ["skipped"]
    assert [child.tag for child in cases["budget"]] == ["error"]
    assert suite.findtext("system-out") == "not judged: loading takes 1 s"
    message = cases["latency"][0].get("message")
    assert message is not None
    assert "a|b <b>" in message
    assert "\x00" not in message


def test_annotations_are_escaped_as_github_wants_them() -> None:
    found = list(reports.workflow_commands(VERDICT))
    assert found == [
        "::error title=compress check%3A latency fail::100%25 a|b <b>%0D%0A::error::no\x00, x: y",
        "::error title=compress check%3A accuracy inconclusive::few images",
        "::error title=compress check%3A budget not measured::died",
        "::warning title=compress check::busy%0Amachine",
    ]
    lenient = list(reports.workflow_commands(VERDICT, inconclusive_passes=True))
    assert lenient[1].startswith("::warning title=compress check%3A accuracy")


def test_a_pass_is_a_notice() -> None:
    passed = Verdict((Comparison("size", Outcome.PASS, "small"),))
    assert list(reports.workflow_commands(passed)) == [
        "::notice title=compress check%3A pass::size: small"
    ]


def test_github_is_told_where_it_is_there(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    reports.add_to_summary(VERDICT, {})
    assert summary.read_text() == "before\n"
    reports.add_to_summary(VERDICT, {"GITHUB_STEP_SUMMARY": str(summary)})
    assert reports.workflow_commands_of(VERDICT, {}) == []
    assert summary.read_text() == "before\n" + markdown.render(document_of(VERDICT), 3)
    assert len(reports.workflow_commands_of(VERDICT, {"GITHUB_ACTIONS": "true"})) == 4


def test_what_cannot_be_judged_is_reported_as_an_error() -> None:
    verdict = unusable(
        ModelFileError("student.onnx is cut short."), Path("a/student.onnx"), Path("b.json")
    )
    assert "- model: a/student.onnx" in markdown.render(document_of(verdict)).splitlines()
    assert verdict.exit_code() == 4
    root = ElementTree.fromstring(reports.junit(verdict))
    assert root.get("errors") == "1"


def test_a_report_is_written(tmp_path: Path) -> None:
    reports.write_junit(tmp_path / "new" / "junit.xml", VERDICT)
    assert ElementTree.parse(tmp_path / "new" / "junit.xml").getroot().tag == "testsuites"


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "\uffff"])
def test_what_xml_cannot_hold_is_replaced(text: str) -> None:
    found = reports.junit(Verdict((Comparison("size", Outcome.FAIL, text),)))
    assert ElementTree.fromstring(found).find(".//failure") is not None
