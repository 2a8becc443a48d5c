"""A document on a terminal, and as plain text where it is piped."""

from __future__ import annotations

import io
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

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
from compress.report.values import plain, shortened

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text as Styled

    Line: TypeAlias = Styled

GAP = 2
# Of text that nobody wraps.
UNLIMITED = 100_000
STYLES = {
    Tone.PLAIN: "",
    Tone.STRONG: "bold",
    Tone.GOOD: "bold green",
    Tone.BAD: "bold red",
    Tone.UNDECIDED: "bold yellow",
}


def show(document: Document, *, stderr: bool = False) -> None:
    """Prints a document; what is piped is wrapped by nobody.

    Args:
        document: what to show.
        stderr: beside a command's progress, not as its result.
    """
    from rich.console import Console

    console = Console(stderr=stderr)
    if console.is_terminal:
        print_on(console, document)
    else:
        print(text_of(document), end="", file=console.file)


def text_of(document: Document, width: int = UNLIMITED) -> str:
    """The document as plain text of that width, which ends with a line break."""
    from rich.console import Console

    screen = io.StringIO()
    print_on(Console(file=screen, width=width, force_terminal=False), document)
    return "".join(f"{line.rstrip()}\n" for line in screen.getvalue().splitlines())


def print_on(console: Console, document: Document) -> None:
    """Prints a document on a console of rich, whose width it keeps."""
    if document.title:
        console.print(_styled(document.title, Tone.STRONG))
        console.print()
    _print_parts(console, document.parts)
    if document.keys:
        if document.parts:
            console.print()
        for key in document.keys:
            console.print(_styled(key.text, key.tone))


def _print_parts(console: Console, parts: Iterable[Part]) -> None:
    """Parts with an empty line between those that are no list."""
    shown = [part for part in parts if not isinstance(part, Picture)]
    for before, part in pairwise([None, *shown]):
        if before is not None and not (isinstance(before, Text) and isinstance(part, Text)):
            console.print()
        if isinstance(part, Section):
            console.print(_styled(part.title, Tone.STRONG))
            _print_parts(console, part.parts)
        elif isinstance(part, Table):
            _print_table(console, part)
        elif isinstance(part, Facts):
            width = max(len(plain(name)) for name, _ in part.pairs)
            for name, about in part.pairs:
                # Not wrapped: a path is to be copied.
                line = _styled(name).append(f"{'':{width - len(plain(name)) + GAP}}{plain(about)}")
                console.print(line, soft_wrap=True)
        elif isinstance(part, Text):
            console.print(_styled(f"{part.label}: {part.text}" if part.label else part.text))


def _print_table(console: Console, table: Table) -> None:
    if table.title:
        console.print(_styled(table.title, Tone.STRONG))
    widths = _widths(table, console.width)
    if widths is None:
        _print_otherwise(console, table)
        return
    from rich import table as rich

    shown = rich.Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for column, width in zip(table.columns, widths, strict=True):
        longest = max(map(len, column.header.split()), default=0)
        header = column.header if longest <= width else shortened(column.header, width)
        right = column.kind is Kind.NUMBER
        shown.add_column(
            _styled(header, Tone.STRONG), justify="right" if right else "left", width=width
        )
    for row in table.rows:
        shown.add_row(
            *(
                _styled(shortened(_text(cell), width), _tone(cell))
                if column.kind is Kind.NAME
                else _styled(_text(cell), _tone(cell))
                for cell, column, width in zip(row, table.columns, widths, strict=True)
            )
        )
    console.print(shown)


def _widths(table: Table, room: int) -> list[int] | None:
    """Characters of each column; None where the table would have to cut what must not be cut."""
    least, most = [], []
    for place, column in enumerate(table.columns):
        longest = max((len(_text(row[place])) for row in table.rows), default=0)
        word = max(map(len, column.header.split()), default=0)
        if column.kind is Kind.NUMBER:
            least.append(max(longest, min(word, column.least), 1))
        else:
            least.append(max(min(max(longest, word), column.least), 1))
        most.append(max(longest, len(column.header), 1))
    spare = room - GAP * (len(least) - 1) - sum(least)
    if spare < 0:
        return None
    widths = list(least)
    # Who needs little more is served first; what is left goes to the others in equal parts.
    order = sorted(range(len(least)), key=lambda place: most[place] - least[place])
    for count, place in zip(range(len(order), 0, -1), order, strict=True):
        more = min(most[place] - least[place], spare // count)
        widths[place] += more
        spare -= more
    return widths


def _print_otherwise(console: Console, table: Table) -> None:
    """Numbers in two tables, one below the other; of other things a list for each row."""
    from rich.padding import Padding

    (_, *columns), half = table.columns, (len(table.columns) + 1) // 2
    if len(columns) > 1 and all(column.kind is Kind.NUMBER for column in columns):
        for part in (slice(1, half), slice(half, None)):
            rows = tuple((row[0], *row[part]) for row in table.rows)
            _print_table(console, Table((table.columns[0], *table.columns[part]), rows))
        return
    for first, *others in table.rows:
        console.print(_styled(_text(first), Tone.STRONG))
        for column, cell in zip(columns, others, strict=True):
            if _text(cell):
                label = f"{column.header}: " if column.header else ""
                line = _styled(f"{label}{_text(cell)}", _tone(cell))
                console.print(Padding(line, (0, 0, 0, 4), expand=False))


def _styled(text: str, tone: Tone = Tone.PLAIN) -> Line:
    """Text as it stands, on one line: rich reads no markup and no emoji in it."""
    from rich.text import Text as Styled

    return Styled(plain(text), STYLES[tone])


def _text(cell: Cell) -> str:
    return plain(cell.text if isinstance(cell, Marked) else cell)


def _tone(cell: Cell) -> Tone:
    return cell.tone if isinstance(cell, Marked) else Tone.PLAIN
