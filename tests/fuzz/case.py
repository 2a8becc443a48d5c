"""What a case is: a kind of file, one that is wrong in some way, and the command that reads it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

# Of so many cases so many are of the list of hostile files that were written by hand: 2,000 cases
# have all of them.
BY_HAND, OF = 3, 5
MARKER = "EXECUTED"


class Stock(Protocol):
    """Valid files that the cases damage copies of."""

    def path(self, name: str) -> Path:
        """A file or folder that is not to be changed, by its name in ``stock.MAKERS``."""


@dataclass(frozen=True)
class Folders:
    """Where a case lives. All that its command writes has to stay inside ``root``.

    Attributes:
        root: of all of them.
    """

    root: Path

    @property
    def files(self) -> Path:
        """The current folder of the command."""
        return self.root / "files"

    @property
    def home(self) -> Path:
        """Its HOME."""
        return self.root / "home"

    @property
    def cache(self) -> Path:
        """Its COMPRESS_CACHE."""
        return self.root / "cache"

    @property
    def temporary(self) -> Path:
        """Its TMPDIR, which has to be empty in the end."""
        return self.root / "tmp"

    @property
    def marker(self) -> Path:
        """What a file that was executed makes."""
        return self.root / MARKER

    @property
    def events(self) -> Path:
        """Where the guard writes down what the command must not do."""
        return self.root / "events.jsonl"

    @property
    def said(self) -> tuple[Path, Path]:
        """Its stdout and stderr."""
        return self.root / "stdout", self.root / "stderr"

    def make(self) -> None:
        """Makes the folders."""
        for folder in (self.files, self.home, self.cache, self.temporary):
            folder.mkdir(parents=True)


@dataclass(frozen=True)
class Bench:
    """What the maker of a case works with.

    Attributes:
        folders: of the case.
        rng: its only source of chance.
        stock: the valid files.
    """

    folders: Folders
    rng: random.Random
    stock: Stock

    @property
    def files(self) -> Path:
        """The current folder of the command that will run."""
        return self.folders.files

    def copy(self, name: str, to: str | None = None) -> Path:
        """A copy of a file or folder of the stock in the command's folder."""
        import shutil

        source, target = self.stock.path(name), self.files / (to or name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copyfile(source, target)
        return target

    def write(self, name: str, content: bytes | str) -> Path:
        """A file in the command's folder."""
        target = self.files / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(
            content.encode(errors="surrogatepass") if isinstance(content, str) else content
        )
        return target


# Writes files and gives the words of the command line.
Maker = Callable[[Bench], Sequence[str]]


@dataclass(frozen=True)
class Hostile:
    """A file that was thought out.

    Attributes:
        name: what is hostile in it.
        make: writes it.
        refused: whether exit code 0 is a fault.
    """

    name: str
    make: Maker
    refused: bool


@dataclass
class Kind:
    """A kind of file that the tool reads.

    Attributes:
        name: of the kind.
        damage: writes one that is damaged by chance.
        hostile: those written by hand.
    """

    name: str
    damage: Maker | None = None
    hostile: list[Hostile] = field(default_factory=list)

    def damaged(self, make: Maker) -> Maker:
        """Decorates what writes a file that is damaged by chance."""
        self.damage = make
        return make

    def add(self, name: str, make: Maker, *, refused: bool = True) -> None:
        """Adds a hostile file."""
        self.hostile.append(Hostile(name, make, refused))

    def by_hand(self, name: str, *, refused: bool = True) -> Callable[[Maker], Maker]:
        """Decorates what writes a hostile file."""

        def decorate(make: Maker) -> Maker:
            self.add(name, make, refused=refused)
            return make

        return decorate


@dataclass(frozen=True)
class Plan:
    """A case before its files are written.

    Attributes:
        seed, index: that it follows from.
        kind: the kind's name.
        name: "damaged", or what is hostile.
        make: writes the files.
        refused: whether exit code 0 is a fault.
    """

    seed: int
    index: int
    kind: str
    name: str
    make: Maker
    refused: bool

    def rng(self) -> random.Random:
        """The case's only source of chance."""
        return random.Random(f"{self.seed} {self.index}")


def plan(kinds: Sequence[Kind], seed: int, index: int) -> Plan:
    """The case that follows from a seed and an index.

    The hostile files come in an order of the seed's, each once before any comes again; between
    them the kinds come in turns.
    """
    turn, place = divmod(index, OF)
    listed = [(kind, one) for kind in kinds for one in kind.hostile]
    damaging = [(kind, kind.damage) for kind in kinds if kind.damage is not None]
    if listed and (place < BY_HAND or not damaging):
        random.Random(f"order {seed}").shuffle(listed)
        kind, hostile = listed[(turn * BY_HAND + place) % len(listed)]
        return Plan(seed, index, kind.name, hostile.name, hostile.make, hostile.refused)
    kind, damage = damaging[(turn * (OF - BY_HAND) + place - BY_HAND) % len(damaging)]
    return Plan(seed, index, kind.name, "damaged", damage, refused=False)


def by_hand(kinds: Sequence[Kind]) -> list[int]:
    """The indices at which each hostile file comes once, whatever the seed."""
    count = sum(len(kind.hostile) for kind in kinds)
    return [number // BY_HAND * OF + number % BY_HAND for number in range(count)]
