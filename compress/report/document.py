"""What a command has found, as parts that every renderer shows in its own way.

A builder makes a document of a result and knows no renderer; a renderer shows any document and
knows no result. The texts are plain: no markup of a terminal, of Markdown or of HTML. They may
hold names of files, layers and classes that somebody else chose, so each renderer escapes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from compress.results import Estimate


class Tone(StrEnum):
    """How a word is meant."""

    PLAIN = "plain"
    STRONG = "strong"
    GOOD = "good"
    BAD = "bad"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Marked:
    """A text with a tone."""

    text: str
    tone: Tone


Cell = str | Marked


class Kind(StrEnum):
    """What a column holds.

    NAME stands on the left and is never broken; where there is no room its middle is left out.
    NUMBER stands on the right and is never broken or cut. TEXT is broken between words.
    """

    NAME = "name"
    NUMBER = "number"
    TEXT = "text"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        header: its name; may be empty.
        kind: what it holds.
        least: characters that a name or a text needs; with less room the rows are shown as lists.
    """

    header: str
    kind: Kind = Kind.TEXT
    least: int = 12


def names(*headers: str) -> tuple[Column, ...]:
    """Columns of names."""
    return tuple(Column(header, Kind.NAME) for header in headers)


def numbers(*headers: str) -> tuple[Column, ...]:
    """Columns of numbers."""
    return tuple(Column(header, Kind.NUMBER) for header in headers)


@dataclass(frozen=True)
class Table:
    """Rows with one cell a column."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class Text:
    """A sentence or several; those that follow each other make a list.

    Attributes:
        text: what is said.
        label: "warning", "note", "not judged" and the like; empty for a plain fact.
    """

    text: str
    label: str = ""


@dataclass(frozen=True)
class Facts:
    """Names, each with a few words about it."""

    pairs: tuple[tuple[str, str], ...]


# --- charts --------------------------------------------------------------------------------------


class Mark(StrEnum):
    """How a series is drawn; BAND is a line with its intervals as an area."""

    POINTS = "points"
    LINE = "line"
    STEPS = "steps"
    BAND = "band"
    BARS = "bars"


@dataclass(frozen=True)
class Point:
    """One value of a series; an estimate is drawn with its interval."""

    x: float | Estimate
    y: float | Estimate


@dataclass(frozen=True)
class Series:
    """Points that have one name.

    Attributes:
        name: in the legend.
        points: in the order in which a line joins them.
        mark: how they are drawn.
        hue: which of the palette's colours; series of one hue belong together. None: black.
        style: which marker and which kind of line, 0 to 3.
        hollow: whether points are drawn as empty diamonds: what others published.
    """

    name: str
    points: tuple[Point, ...]
    mark: Mark = Mark.POINTS
    hue: int | None = 0
    style: int = 0
    hollow: bool = False


@dataclass(frozen=True)
class Rule:
    """A line across a chart: at ``x``, or at ``y``; without a name it is not in the legend."""

    name: str = ""
    x: float | None = None
    y: float | None = None
    hue: int | None = None


@dataclass(frozen=True)
class Axis:
    """An axis of a chart.

    Attributes:
        title: what it shows, with the unit.
        logarithmic: whether equal steps are equal ratios.
        from_zero: whether it begins at 0.
        names: of the places 0, 1, ... of an axis that shows no quantity; from the top.
    """

    title: str
    logarithmic: bool = False
    from_zero: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Series over two axes."""

    x: Axis
    y: Axis
    series: tuple[Series, ...]
    rules: tuple[Rule, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class Picture:
    """Charts that are read together, with one legend and one caption.

    Its figures stand in the document's tables too. A terminal and Markdown show the tables alone.

    Attributes:
        name: of the picture among those of a document; its file's, where it becomes one.
        charts: side by side.
        caption: what has to be known to read them.
        stacked: the charts stand one above the other.
    """

    name: str
    charts: tuple[Chart, ...]
    caption: str
    stacked: bool = False


# --- the whole -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Section:
    """Parts under a title."""

    title: str
    parts: tuple[Part, ...]


Part = Table | Text | Facts | Picture | Section


@dataclass(frozen=True)
class Key:
    """What somebody in a hurry reads: on a page it comes first, on a terminal last.

    Attributes:
        name: what it is.
        value: with its unit.
        interval: the ends of its 95% interval; empty where it has none.
        about: what it is of; may be empty.
        tone: whether it is as it was wanted.
    """

    name: str
    value: str
    interval: str = ""
    about: str = ""
    tone: Tone = Tone.STRONG

    @property
    def text(self) -> str:
        """'speed-up: 4.68 times (95%: 4.62 to 4.82), student.onnx against teacher.onnx'."""
        interval = f" (95%: {self.interval})" if self.interval else ""
        return f"{self.name}: {self.value}{interval}{', ' if self.about else ''}{self.about}"


@dataclass(frozen=True)
class Document:
    """What a command has found.

    Attributes:
        parts: in the order in which they are read.
        title: empty where the parts speak for themselves.
        keys: the figures that the rest explains.
    """

    parts: tuple[Part, ...]
    title: str = ""
    keys: tuple[Key, ...] = ()
