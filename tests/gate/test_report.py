from __future__ import annotations

from dataclasses import replace

from compress.gate.accuracy import AccuracyRule, compare_accuracy
from compress.gate.limits import SizeRule, compare_budget, compare_size
from compress.gate.report import document_of, identity
from compress.gate.verdict import Comparison, Outcome, Verdict
from compress.report import markdown, terminal
from compress.results import Estimate
from compress.tasks.classification import Paired
from tests.gate.test_reports import ABOUT, KNOWN, VERDICT
from tests.report.rendered import assert_rendered


def in_markdown(verdict: Verdict) -> list[str]:
    return markdown.render(document_of(verdict), 3).splitlines()


def test_a_line_a_comparison() -> None:
    text = terminal.text_of(document_of(VERDICT))
    title, _, _, *found = text.splitlines()
    assert title == "compress check: FAIL"
    assert [line.split()[:2] for line in found[:3]] == [
        ["latency", "FAIL"],
        ["size", "PASS"],
        ["accuracy", "INCONCLUSIVE"],
    ]
    assert found[-4:] == [
        "not judged: loading takes 1 s",
        "warning: busy machine",
        "",
        "outcome: FAIL",
    ]
    assert "\r" not in text
    assert "\x00" not in text


def test_markdown_is_a_table_whatever_is_in_it() -> None:
    rows = in_markdown(VERDICT)
    assert rows[0] == "### compress check: FAIL"
    assert rows[2] == "- **outcome: FAIL**"
    table = [row for row in rows if row.startswith("|")]
    assert len(table) == 2 + 4
    assert {row.replace("\\|", "").count("|") for row in table} == {4}
    assert "<b>" not in table[2]
    assert "&lt;b&gt;" in table[2]
    assert "- warning: busy machine" in rows
    assert "- not judged: loading takes 1 s" in rows


def test_two_checks_of_one_change_are_told_apart() -> None:
    verdict = replace(VERDICT, about=ABOUT)
    assert identity(verdict) == KNOWN
    assert "timed on                 images of small" in terminal.text_of(document_of(verdict))
    rows = in_markdown(verdict)
    assert rows[0] == "### compress check: FAIL for new/a&lt;b&gt;.onnx"
    for name, text in KNOWN.items():
        assert f"- {name}: {text}".replace("<", "&lt;").replace(">", "&gt;") in rows


JUDGED = Verdict(
    (
        compare_size(3_300_000, 3_000_000, SizeRule()),
        compare_accuracy(Paired(n=1000, lost=12, won=2, right=890), AccuracyRule()),
        compare_budget(Estimate(1e-3, 0.9e-3, 1.1e-3), 2e-3, 50, 100, 0),
        Comparison("parity", Outcome.PASS, "the same class"),
    ),
    about=ABOUT,
)


def test_figures_stand_in_a_table_beside_the_sentences() -> None:
    rows = in_markdown(JUDGED)
    place = rows.index("|  | baseline | candidate | change | allowed |")
    assert rows[place + 2 : place + 6] == [
        "| size | 3.00 MB | 3.30 MB | +10.0% | at most +1.0% |",
        "| accuracy | 90.00% | 89.00% | -1.00 points | -0.5 points |",
        "| budget |  | 1.00 ms |  | 2.00 ms |",
        "",
    ]


def test_the_whole_on_terminals_and_in_markdown() -> None:
    assert_rendered(document_of(JUDGED), "verdict")
    assert_rendered(document_of(VERDICT), "verdict-of-hostile-names")
