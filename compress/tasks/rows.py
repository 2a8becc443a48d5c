"""For tasks that answer an image with a row of numbers: reading it, and how far two are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.onnx_file import Value
from compress.onnx_io import answers_of, rows_of
from compress.tasks.task import Agreement, Arrays

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class RowReading:
    """See ``Reading``: one output of the file, under the name that the task has for it.

    Attributes:
        value: the output.
        name: of the task's answers.
        file: its name, for messages.
        note: see ``Reading``.
    """

    value: Value
    name: str
    file: str
    note: str

    @property
    def names(self) -> tuple[str, ...]:
        """See ``Reading``."""
        return (self.value.name,)

    def __call__(self, arrays: Arrays, count: int) -> dict[str, NDArray[Any]]:
        """See ``Reading``."""
        return {self.name: rows_of(arrays[self.value.name], count, self.value, self.file)}


def reading_of_rows(
    outputs: Sequence[Value], file: str, wanted: str | None, *, name: str, images: int | None
) -> RowReading:
    """See ``Task.reading``; ``name`` is what the task calls its answers."""
    value, note = answers_of(outputs, file, wanted, rows=images)
    return RowReading(value, name, file, note)


def agreement_of_rows(
    expected: NDArray[Any],
    found: NDArray[Any],
    *,
    other: NDArray[np.bool_],
    margin: Rows,
    centred: bool,
) -> Agreement:
    """Two models' rows [n, m], compared.

    Args:
        expected: of the first.
        found: of the second.
        other: whether the answer is another one [n].
        margin: by how much the expected one was preferred [n].
        centred: whether what is added to a whole row changes no answer.
    """
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(found).all(axis=1)
    with np.errstate(invalid="ignore"):  # of numbers that are not finite, which stay so
        difference = found - expected
        moved = difference - difference.mean(axis=1, keepdims=True) if centred else difference
    if centred:
        spread = expected.max(axis=1) - expected.min(axis=1)
    else:
        spread = np.abs(expected).max(axis=1)
    return Agreement(
        finite=finite,
        difference=np.abs(difference).max(axis=1),
        moved=np.abs(moved).max(axis=1),
        spread=spread,
        other=other,
        margin=margin,
        relative_error=relative_error(expected, found, centred=centred) if finite.all() else 1.0,
    )


def relative_error(expected: NDArray[Any], found: NDArray[Any], *, centred: bool = True) -> float:
    """Root mean square of the difference by that of ``expected`` [n, m].

    Args:
        expected: of the first.
        found: of the second.
        centred: whether each row is taken less its mean.
    """
    difference = found.astype(np.float64) - expected
    each = [difference, expected.astype(np.float64)]
    if centred:
        each = [one - one.mean(axis=1, keepdims=True) for one in each]
    error, spread = (float(np.sqrt((one**2).mean())) for one in each)
    return error / spread if spread > 0 else float(error > 0)
