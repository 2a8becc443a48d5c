"""Standard streams that may be closed or full, and are read by GitHub's runner. Stdlib only."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

STDIN, STDOUT, STDERR = 0, 1, 2
# What writing ends with where a disk has no room left, or is read only.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

# GitHub's runner takes a line that begins with "::" for a command, and its older form "##[...]"
# anywhere in a line. The escape is one of JSON too, so that JSON stays JSON.
_V1 = re.compile(r"##\[")
# Control characters of ASCII and Latin-1, those of Unicode that break lines or turn text round, and
# what Python has for bytes of a name that are not UTF-8; not the sequences that set colours, which
# click and rich write.
_CONTROL = re.compile(
    "\x1b(?!\\[[0-9;]*m)|\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f"
    "\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


@contextmanager
def dependable_streams() -> Iterator[None]:
    """Gives a program streams that it can write to whatever the shell has made of them.

    A closed stream becomes one that nobody reads: else the next file that is opened would get its
    number, and what libraries print would land in that file. Messages that cannot be written to
    stderr are lost, and the command goes on, for its result does not depend on them. What is
    printed gives no command to the runner of GitHub Actions, whatever names it holds.
    """
    _reopen_closed()
    before = sys.stdin, sys.stdout, sys.stderr
    # None is what Python has for a stream that was closed when it started.
    with ExitStack() as opened:

        def nowhere(mode: str) -> TextIO:
            return cast(TextIO, opened.enter_context(Path(os.devnull).open(mode, encoding="utf-8")))

        sys.stdin = before[0] or nowhere("r")
        sys.stdout = cast(TextIO, _Guarded(before[1] or nowhere("w")))
        sys.stderr = cast(TextIO, _Guarded(before[2] or nowhere("w"), lossy=True))
        try:
            yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = before


def write_commands(lines: Iterable[str]) -> None:
    """Prints workflow commands on stderr, where GitHub's runner reads them too."""
    with suppress(OSError):
        unguarded(sys.stderr).write("".join(f"{line}\n" for line in lines))


def unguarded(stream: TextIO) -> TextIO:
    """The stream itself, for what has to move a terminal's cursor or command a runner."""
    guarded: Any = stream
    return guarded.stream if isinstance(guarded, _Guarded) else stream


def escaped(text: str) -> str:
    """Text in which every control character but line breaks, tabs and colours is an escape.

    A terminal would obey the others: move its cursor, change its title, turn text round.
    """
    # \uXXXX is an escape of JSON too.
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def discard(number: int) -> None:
    """Points a stream's descriptor nowhere, so that closing it at exit does not complain again."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def _reopen_closed() -> None:
    """Opens those of the descriptors 0, 1 and 2 that are closed."""
    for number in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDONLY if number == STDIN else os.O_WRONLY)


class _Guarded:
    """A text stream on which nothing commands a terminal or GitHub's runner.

    Names of files, classes, layers and tensors are printed, and may hold anything. What commands
    on purpose writes to ``stream``, which also has every other method and attribute.

    Args:
        stream: what is written to.
        lossy: whether what cannot be written is dropped, or an error.
    """

    def __init__(self, stream: TextIO, *, lossy: bool = False) -> None:
        self.stream = stream
        self._lossy = lossy
        self._line_begins = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Writes text with what would be a command made unlike one."""
        guarded = _V1.sub(r"#\\u0023[", escaped(text))
        lines = guarded.splitlines(keepends=True)
        for place, line in enumerate(lines):
            if (place or self._line_begins) and line.lstrip().startswith("::"):
                lines[place] = line.replace("::", r"\::", 1)
        if lines:
            last = lines[-1]
            self._line_begins = last.endswith(("\n", "\r")) or (
                not last.strip() and (self._line_begins or len(lines) > 1)
            )
        return self._written("".join(lines)) and len(text)

    def flush(self) -> None:
        """Flushes the stream."""
        self._or_dropped(self.stream.flush)

    def _written(self, text: str) -> int:
        self._or_dropped(lambda: self.stream.write(text))
        return len(text)

    def _or_dropped(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError:
            if not self._lossy:
                raise
            with suppress(OSError, ValueError):
                if self.stream.fileno() == STDERR:
                    discard(STDERR)
