from __future__ import annotations

import pytest

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
from compress.report.markdown import render


def test_columns_are_aligned_by_what_they_hold() -> None:
    columns = (Column("", Kind.NAME), Column("ms", Kind.NUMBER), Column("why"))
    assert render(Document((Table(columns, (("a", "1", ""),)),))).splitlines() == [
        "|  | ms | why |",
        "| --- | ---: | --- |",
        "| a | 1 |  |",
    ]


def test_titles_have_levels() -> None:
    inner = Section("inner", (Text("text"),))
    document = Document((Section("outer", (inner,)),), "title")
    assert render(document, 2) == "## title\n\n### outer\n\n#### inner\n\n- text\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("two\r\nlines", "two lines"),
        ("![x](http://x)", "!\\[x\\](http://x)"),
        ("*a* `b` __c__", "\\*a\\* \\`b\\` \\_\\_c\\_\\_"),
        ("conv_1.weight -1.00 +3.0%", "conv_1.weight -1.00 +3.0%"),
        ("\x1b[31mred", "\\\\u001b\\[31mred"),
        ("-1.00 points", "-1.00 points"),
    ],
)
def test_names_are_text_whatever_is_in_them(text: str, shown: str) -> None:
    document = Document(
        (
            Table((Column(text),), ((text,), (Marked(text, Tone.BAD),)), text),
            Section(text, (Facts(((text, text),)), Text(text, text))),
        ),
        text,
        (Key(text, text),),
    )
    cell = shown
    other = shown.replace("\\|", "|")
    assert render(document).split("\n") == [
        f"# {other}",
        "",
        f"- **{other}: {other}**",
        "",
        f"**{other}**",
        "",
        f"| {cell} |",
        "| --- |",
        f"| {cell} |",
        f"| **{cell}** |",
        "",
        f"## {other}",
        "",
        f"- {other}: {other}",
        "",
        f"- {other}: {other}",
        "",
    ]


@pytest.mark.parametrize("text", ["# title", "- item", "+ item"])
def test_a_sentence_is_no_heading_and_no_list(text: str) -> None:
    assert render(Document((Text(text),))) == f"- \\{text}\n"
