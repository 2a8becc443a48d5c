"""A model made slower by real work: products of matrices in its graph, so many as are asked for.

The mean of the images times a constant matrix of ``rows`` rows goes through products with two
constant square matrices; the mean of that, times a number that is next to nothing, is added to the
answers. Nothing can be folded or left out, and the answers stay what they are.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.errors import Inconclusive
from compress.files import atomic_path
from compress.gate.latency import in_percent, percent, ratio_of
from compress.gate.measuring import Settings, Trial, measure
from compress.onnx_file import image_input, load_model
from compress.results import Estimate

SIZE = 128
PRODUCTS = 2
NEXT_TO_NOTHING = 1e-30
PREFIX = "compress_extra_"

FIRST_ROWS = 64
MOST_ROWS = 1 << 20
TRIES = 8
# How near the ratio has to come to what is asked for, as a share of the slowdown.
TOLERANCE = 0.1


@dataclass(frozen=True)
class Slowed:
    """A model with extra work.

    Attributes:
        path: of the file.
        rows: of the matrix that is multiplied.
        ratio: time(slowed) / time(model), as it was measured at the end.
    """

    path: Path
    rows: int
    ratio: Estimate


def with_extra_work(model: onnx.ModelProto, rows: int) -> onnx.ModelProto:
    """A copy of a model that multiplies so many rows besides; its output has another name.

    Args:
        model: with one input and all weights in it.
        rows: 1 or more.

    Raises:
        ModelFileError: it has not exactly one input.
    """
    slowed = onnx.ModelProto()
    slowed.CopyFrom(model)
    graph = slowed.graph
    images = image_input(model)
    generator = np.random.default_rng(0)
    names = {key: f"{PREFIX}{key}" for key in ("float", "mean", "rows", "last", "sum", "output")}
    matrices = {f"{PREFIX}start": generator.standard_normal((rows, SIZE))}
    for place in range(PRODUCTS):
        matrices[f"{PREFIX}matrix{place}"] = generator.standard_normal((SIZE, SIZE)) / SIZE**0.5
    matrices[f"{PREFIX}small"] = np.array(NEXT_TO_NOTHING)
    nodes = [
        helper.make_node("Cast", [images.name], [names["float"]], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", [names["float"]], [names["mean"]], keepdims=0),
        helper.make_node("Mul", [f"{PREFIX}start", names["mean"]], [names["rows"]]),
    ]
    at = names["rows"]
    for place in range(PRODUCTS):
        product = f"{PREFIX}product{place}"
        nodes.append(helper.make_node("MatMul", [at, f"{PREFIX}matrix{place}"], [product]))
        at = product
    output = graph.output[0]
    kind = output.type.tensor_type.elem_type or TensorProto.FLOAT
    nodes += [
        helper.make_node("ReduceMean", [at], [names["last"]], keepdims=0),
        helper.make_node("Mul", [names["last"], f"{PREFIX}small"], [names["sum"]]),
        helper.make_node("Cast", [names["sum"]], [f"{PREFIX}cast"], to=kind),
        helper.make_node("Add", [output.name, f"{PREFIX}cast"], [names["output"]]),
    ]
    for place, node in enumerate(nodes):
        node.name = f"{PREFIX}{place}"
    graph.node.extend(nodes)
    graph.initializer.extend(
        numpy_helper.from_array(values.astype(np.float32), name)
        for name, values in matrices.items()
    )
    output.name = names["output"]
    return slowed


def slow_down(
    model: Path,
    slowdown: float,
    path: Path,
    *,
    settings: Settings,
    rounds: int = 48,
    processes: int = 1,
    tolerance: float = TOLERANCE,
    say: Callable[[str], None] = lambda _: None,
) -> Slowed:
    """Writes a model that takes so much longer, found by measuring and measured once more.

    Args:
        model: an ONNX file.
        slowdown: 0.05 makes it 5% slower.
        path: of the slower file.
        settings: that it is measured with.
        rounds: of each process of a measurement.
        processes: of a measurement; memory lies elsewhere in each, which can make a model slower
            by more than a whole process scatters.
        tolerance: how near it has to come, as a share of ``slowdown``.
        say: is told what is found.

    Raises:
        Inconclusive: the ratio did not come near enough, in ``TRIES`` measurements.
    """
    base = load_model(model)
    rows = FIRST_ROWS
    found: list[tuple[int, float]] = []
    while len(found) < TRIES:
        with atomic_path(path) as temporary:
            onnx.save(with_extra_work(base, rows), temporary)
        runs = [
            measure(Trial(path, model, settings=settings, rounds=rounds, seed=seed))
            for seed in range(len(found) * processes, (len(found) + 1) * processes)
        ]
        ratio = ratio_of(
            [each for run in runs for each in run.candidate_s],
            [each for run in runs for each in run.against_s],
        )
        say(f"{rows} rows of extra work: {in_percent(ratio)}")
        if len(found) > 1 and abs(ratio.value - 1 - slowdown) <= tolerance * slowdown:
            return Slowed(path, rows, ratio)
        found.append((rows, ratio.value - 1))
        rows = rows_for(slowdown, found)
    raise Inconclusive(
        f"How much extra work makes {model.name} {slowdown:.1%} slower was not found in {TRIES} "
        f"measurements; the last one was {percent(1 + found[-1][1])}. Take a quieter machine, or a "
        "larger model."
    )


def rows_for(slowdown: float, found: Sequence[tuple[int, float]]) -> int:
    """How many rows are likely to make a model so much slower.

    Args:
        slowdown: that is looked for.
        found: rows and the slowdown that they made, one or more; a line is fitted to them.
    """
    last, made = found[-1]
    rows = last * min(8.0, max(1 / 8, slowdown / max(made, 1e-9)))
    if len({tried for tried, _ in found}) > 1:
        line = statistics.linear_regression(*zip(*found, strict=True))
        if line.slope > 0:
            rows = min(8.0 * last, max(last / 8, (slowdown - line.intercept) / line.slope))
    return int(min(MOST_ROWS, max(1, round(rows))))
