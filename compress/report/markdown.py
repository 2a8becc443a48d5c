"""A document in Markdown: a pull request's comment, a step summary, an issue, a file in git."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from compress.report.document import (
    Cell,
    Document,
    Facts,
    Kind,
    Marked,
    Part,
    Picture,
    Section,
    Table,
    Text,
    Tone,
)
from compress.report.values import plain

# What Markdown takes for emphasis, code, links and images, and at the beginning of a line for a
# heading or a list.
_MARKUP = re.compile(r"[\\`*\[\]]|~~|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|^(?:#+|[-+])(?=\s)")


def render(document: Document, level: int = 1) -> str:
    """The document as Markdown, which ends with a line break.

    Args:
        document: what to show.
        level: of its title; sections are one below.
    """
    blocks = [f"{'#' * level} {_text(document.title)}"] if document.title else []
    if document.keys:
        blocks.append("\n".join(f"- **{_text(key.text)}**" for key in document.keys))
    blocks += _blocks(document.parts, level + 1)
    return "\n\n".join(blocks) + "\n"


def _blocks(parts: Iterable[Part], level: int) -> Iterator[str]:
    for kind, group in groupby(parts, type):
        if kind is Text:
            yield "\n".join(f"- {_labelled(part)}" for part in group if isinstance(part, Text))
            continue
        for part in group:
            if isinstance(part, Section):
                yield f"{'#' * level} {_text(part.title)}"
                yield from _blocks(part.parts, level + 1)
            elif isinstance(part, Facts):
                yield "\n".join(f"- {_text(name)}: {_text(about)}" for name, about in part.pairs)
            elif isinstance(part, Table):
                yield from [f"**{_text(part.title)}**"] if part.title else []
                yield _table(part)
            elif isinstance(part, Picture):
                continue  # its figures are in the tables


def _table(table: Table) -> str:
    rules = ["---:" if column.kind is Kind.NUMBER else "---" for column in table.columns]
    rows = [[_cell(column.header) for column in table.columns], rules]
    rows += [[_cell(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _labelled(part: Text) -> str:
    return _text(f"{part.label}: {part.text}" if part.label else part.text)


def _cell(cell: Cell) -> str:
    if isinstance(cell, Marked):
        text = _cell(cell.text)
        return text if cell.tone is Tone.PLAIN or not text else f"**{text}**"
    return _text(cell).replace("|", "\\|")


def _text(text: str) -> str:
    """Text with no line, tag, link or emphasis of its own."""
    escaped = _MARKUP.sub(lambda found: "\\" + found[0], plain(text))
    return html.escape(escaped, quote=False)
