from __future__ import annotations

import re

import pytest

from compress.report import terminal
from compress.report.document import (
    Column,
    Document,
    Facts,
    Key,
    Kind,
    Marked,
    Section,
    Table,
    Text,
    Tone,
)
from tests.report.rendered import assert_rendered

TABLE = Table(
    (
        Column("file", Kind.NAME),
        Column("latency of a call", Kind.NUMBER),
        Column("why", Kind.TEXT),
    ),
    (
        ("student-of-a-very-long-name.onnx", "1.21 ms", "it keeps the budget, and is the best"),
        ("b.onnx", "12.1 ms", Marked("too slow", Tone.BAD)),
    ),
    "Candidates",
)
DOCUMENT = Document(
    (
        TABLE,
        Text("One fact."),
        Text("it may be otherwise", "warning"),
        Section("Files", (Facts((("a.onnx", "the student"), ("b.onnx", "the teacher"))),)),
    ),
    "What was found",
    (Key("speed-up", "4.68 times", "4.62 to 4.82", "a against b"), Key("outcome", "PASS")),
)


def test_every_part_has_a_form() -> None:
    assert_rendered(DOCUMENT, "document")


@pytest.mark.parametrize("width", range(32, 100, 7))
def test_no_number_is_cut_and_no_line_too_long(width: int) -> None:
    text = terminal.text_of(Document((TABLE,)), width)
    assert max(map(len, text.splitlines())) <= width
    assert "1.21 ms" in text
    assert "12.1 ms" in text
    assert {"keeps", "budget,"} <= set(text.split())


def test_a_long_name_keeps_both_ends_where_there_is_no_room() -> None:
    assert "student-of-a-very-long-name.onnx" in terminal.text_of(Document((TABLE,)), 100)
    text = terminal.text_of(Document((TABLE,)), 55)
    assert re.search(r"^stud\S*\.\.\.\S*\.onnx ", text, re.MULTILINE)


def test_where_a_table_would_have_to_cut_there_is_a_list_for_each_row() -> None:
    assert terminal.text_of(Document((TABLE,)), 34).splitlines() == [
        "Candidates",
        "student-of-a-very-long-name.onnx",
        "    latency of a call: 1.21 ms",
        "    why: it keeps the budget, and",
        "    is the best",
        "b.onnx",
        "    latency of a call: 12.1 ms",
        "    why: too slow",
    ]


def test_numbers_that_have_no_room_stand_in_tables_below_each_other() -> None:
    columns = (Column("", Kind.NAME), *(Column(f"c{n}", Kind.NUMBER) for n in range(5)))
    table = Table(columns, (("row", *(f"{n}{n}.{n} ms" for n in range(5))),))
    assert terminal.text_of(Document((table,)), 36).splitlines() == [
        "          c0       c1",
        "row  00.0 ms  11.1 ms",
        "          c2       c3       c4",
        "row  22.2 ms  33.3 ms  44.4 ms",
    ]


NASTY = "[red]a\x1b[31m\x07 :smile:\n::error::[/] \u202e"


def test_names_command_no_terminal_and_are_no_markup() -> None:
    column = Column(NASTY, Kind.NAME)
    document = Document(
        (
            Table((column, Column("")), ((NASTY, Marked(NASTY, Tone.GOOD)),), NASTY),
            Text(NASTY, NASTY),
            Facts(((NASTY, NASTY),)),
            Section(NASTY, ()),
        ),
        NASTY,
        (Key(NASTY, NASTY),),
    )
    text = terminal.text_of(document)
    assert not set(text) & set("\x1b\x07\u202e")
    shown = "[red]a\\u001b[31m\\u0007 :smile: ::error::[/] \\u202e"
    assert text.count(shown) == 12
    assert not any(line.startswith("::") for line in text.splitlines())


def test_what_is_piped_is_wrapped_by_nobody(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    words = "many words " * 400
    terminal.show(Document((Text(words), TABLE)))
    terminal.show(Document((Text("progress"),)), stderr=True)
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == words.strip()
    assert len(out.splitlines()) == 6
    assert all(line == line.rstrip() for line in out.splitlines())
    assert err == "progress\n"


def test_tones_are_colours_on_a_terminal_alone() -> None:
    import io

    from rich.console import Console

    screen = io.StringIO()
    colours = Console(file=screen, force_terminal=True, color_system="standard", width=80)
    terminal.print_on(colours, Document((TABLE,)))
    assert "\x1b[1;31mtoo slow" in screen.getvalue()
    assert "\x1b" not in terminal.text_of(Document((TABLE,)), 80)
