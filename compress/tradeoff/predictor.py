"""How good a network will be, from what is known of others.

The error of a network of n blocks a stage, width m and P parameters is taken to be

    log error = a_g + b_1 m^(-1/4) + b_2 P^(-1/2) + b_3 n^(-3/2),    b_1, b_2, b_3 >= 0

by least squares, P in millions. All three terms fall towards zero, so the error falls with depth
at a fixed width and with width at a fixed depth, by less and less, and levels off. Every group g
(a column of the paper's table; the user's runs with one recipe and equally many epochs and training
images) has its own a_g, and all share b: the groups say how hard the data and the training are, b
what an architecture is worth.

The shipped rows are Table 5 of arXiv 1709.00513. It has no network of width 1, no ResNet, and one
that is both deep and wide. The exponents were chosen so that what others have published for those
comes out in order and near its figures: Tian et al., arXiv 1910.10699, CIFAR-100 (tests hold the
predictions against them; they are not fitted).

Own runs on the data set at hand weigh ten times as much as a shipped row. Beside them the shipped
rows only keep b in shape where there are few. Runs of other families than the candidates' say
nothing here: what n and m mean differs.

A file in reduced precision is expected to get more images wrong than the float32 file, by the same
share of images whatever the network: EXPECTED_LOSS at first, and the mean of that (weighing as much
as one run) and of what own runs on the data set lost.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compress.errors import UsageError
from compress.models.registry import FAMILIES, architecture, changed, spec_of
from compress.spec import ModelSpec
from compress.tradeoff.costs import costs_of
from compress.tradeoff.runs import OwnRun

PUBLISHED = [family.published for family in FAMILIES.values() if family.published is not None]
SOURCE = " and ".join(paper.source for paper in PUBLISHED)
SHIPPED_FOR = {paper.data for paper in PUBLISHED}
OWN_WEIGHT = 10.0

# Errors below this are taken for this: a logarithm needs more than zero.
LEAST_ERROR = 1e-4

# Share of images, by precision; what is assumed before own runs have shown it. ResNet-56 lost
# nothing in int8 that 10,000 images of CIFAR-10 show (docs/precision.md). Some loss is assumed all
# the same, so that bits are not saved where there is time for them.
EXPECTED_LOSS = {"fp32": 0.0, "fp16": 0.0001, "bf16": 0.001, "int8": 0.002}

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One known error.

    Attributes:
        spec: of the network.
        group: rows of a group differ in nothing but the network.
        error: share of images it gets wrong.
        own: it comes from the user's runs.
    """

    spec: ModelSpec
    group: str
    error: float
    own: bool = False


@dataclass(frozen=True)
class Prediction:
    """What a network's error is expected to be.

    Attributes:
        error: share of images, ``loss`` included.
        basis: "own" (the user has trained it on this data), "table" (a row of Table 5),
            "between" (between rows of one depth or one width), "extrapolated" (beyond them).
        loss: what of that the reduced precision is expected to cost.
    """

    error: float
    basis: str
    loss: float = 0.0


class Predictor:
    """Predicts errors.

    Args:
        own: the user's runs on the data set at hand.
        recipe: what the student is going to be trained with.
        epochs: for how long; picks among own runs.
    """

    def __init__(
        self, own: Iterable[OwnRun] = (), *, recipe: str = "supervised", epochs: int | None = None
    ) -> None:
        shipped = shipped_rows()
        known = tuple(own)
        self._losses = expected_losses(known)
        runs = tuple(run for run in known if run.precision == "fp32" and is_predictable(run.name))
        rows = own_rows(runs)
        self._own = {_architecture(row.spec) for row in rows}
        self._shipped = {_architecture(row.spec) for row in shipped}
        self._coefficients, self._levels = fit([*shipped, *rows])
        self._group = _group_for(recipe, epochs, runs)
        self.leave_one_out = leave_one_out()
        self.own_rows = len(rows)

    def predict(self, spec: ModelSpec, precision: str = "fp32") -> Prediction:
        """The expected error of one network in a precision."""
        level = self._levels[self._group]
        error = math.exp(level + float(features(spec) @ self._coefficients))
        loss = self._losses[precision]
        return Prediction(min(1.0, error + loss), self._basis(spec), loss)

    def _basis(self, spec: ModelSpec) -> str:
        if _architecture(spec) in self._own:
            return "own"
        if _architecture(spec) in self._shipped:
            return "table"
        return "between" if architecture(spec).is_between_published else "extrapolated"


def is_predictable(name: str) -> bool:
    """Whether the law holds for a network, so that a run of it says something of others."""
    return architecture(spec_of(name)).blocks_and_width is not None


def expected_losses(own: Sequence[OwnRun]) -> dict[str, float]:
    """Precision -> share of images that a file in it is expected to lose, of those float32 has.

    Args:
        own: the user's runs, those of one training in each precision that was measured.
    """
    floats = {replace(run, error=0.0): run.error for run in own if run.precision == "fp32"}
    losses = {}
    for precision, loss in EXPECTED_LOSS.items():
        found = [
            run.error - floats[twin]
            for run in own
            if run.precision == precision != "fp32"
            and (twin := replace(run, error=0.0, precision="fp32")) in floats
        ]
        losses[precision] = max(0.0, (loss + sum(found)) / (1 + len(found)))
    return losses


@functools.cache
def shipped_rows() -> tuple[Row, ...]:
    """What papers report, a row for every network and recipe."""
    return tuple(
        Row(spec_of(name, num_classes=paper.num_classes), recipe, error / 100)
        for paper in PUBLISHED
        for name, errors in paper.errors.items()
        for recipe, error in errors.items()
    )


def own_rows(runs: Iterable[OwnRun]) -> tuple[Row, ...]:
    """The user's runs, those that were trained alike in one group."""
    return tuple(Row(spec_of(run.name), _own_group(run), run.error, own=True) for run in runs)


def features(spec: ModelSpec) -> Array:
    """[m^(-1/4), P^(-1/2), n^(-3/2)]; P is that of 100 classes and colour images for all data."""
    reference = changed(spec, num_classes=100, input_shape=(3, 32, 32))
    params = costs_of(reference).params / 1e6
    found = architecture(spec).blocks_and_width
    if found is None:
        raise UsageError(f"Nothing is known of how good networks such as {spec.name} are.")
    blocks, width = found
    return np.array([width**-0.25, params**-0.5, blocks**-1.5])


def fit(rows: Sequence[Row]) -> tuple[Array, dict[str, float]]:
    """Weighted least squares with coefficients that are not negative.

    Returns:
        b [3] and a_g by group.
    """
    x = np.array([features(row.spec) for row in rows])
    y = np.log([max(row.error, LEAST_ERROR) for row in rows])
    weight = np.sqrt([OWN_WEIGHT if row.own else 1.0 for row in rows])
    groups = {name: np.array([row.group == name for row in rows]) for name in _names(rows)}
    # With the group's mean taken out of both sides a_g drops out of the problem.
    x0, y0 = x.copy(), y.copy()
    for inside in groups.values():
        x0[inside] -= x[inside].mean(axis=0)
        y0[inside] -= y[inside].mean()
    coefficients = _non_negative(x0 * weight[:, None], y0 * weight)
    levels = {
        name: float((y[inside] - x[inside] @ coefficients).mean())
        for name, inside in groups.items()
    }
    return coefficients, levels


@functools.cache
def leave_one_out() -> float:
    """Mean absolute error of the table's rows, each network predicted from the others.

    Returns:
        a share of images.
    """
    rows = shipped_rows()
    misses = []
    for spec in dict.fromkeys(row.spec for row in rows):
        coefficients, levels = fit([row for row in rows if row.spec != spec])
        for row in rows:
            if row.spec == spec:
                expected = math.exp(levels[row.group] + float(features(spec) @ coefficients))
                misses.append(abs(expected - row.error))
    return float(np.mean(misses))


def _non_negative(x: Array, y: Array) -> Array:
    """min |x b - y| over b >= 0, by trying which of the three are zero."""
    best, least = np.zeros(x.shape[1]), float(y @ y)
    for count in range(1, x.shape[1] + 1):
        for chosen in itertools.combinations(range(x.shape[1]), count):
            trial = np.zeros(x.shape[1])
            trial[list(chosen)] = np.linalg.lstsq(x[:, chosen], y, rcond=None)[0]
            rest = float(np.sum((x @ trial - y) ** 2))
            if (trial >= 0).all() and rest < least:
                best, least = trial, rest
    return best


def _group_for(recipe: str, epochs: int | None, own: Sequence[OwnRun]) -> str:
    """Own runs like the coming one; else own runs with its recipe; else any; else the table.

    The table has columns for supervised, kd and logit-gan; what else a teacher teaches by counts as
    kd, the plainest. Among those alike it is the ones with the most training images: the others
    were trials.
    """
    same = [run for run in own if run.recipe == recipe]
    for alike in ([run for run in same if run.epochs == epochs], same, own):
        if alike:
            most = max(run.train_images for run in alike)
            groups = [_own_group(run) for run in alike if run.train_images == most]
            return max(groups, key=groups.count)
    return recipe if recipe in _names(shipped_rows()) else "kd"


def _own_group(run: OwnRun) -> str:
    return f"own {run.recipe} {run.epochs} {run.train_images}"


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.group for row in rows))


def _architecture(spec: ModelSpec) -> tuple[str | float, ...]:
    return spec.family, *architecture(spec).size
