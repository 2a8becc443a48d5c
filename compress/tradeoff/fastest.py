"""Which runtime the student is to be served by, where the fastest one was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from compress.errors import InputError
from compress.exporting.to_onnx import onnx_for_timing
from compress.models.registry import spec_of
from compress.profiling.inputs import Sample
from compress.profiling.registry import RUNTIMES, available
from compress.profiling.timing import fastest_of, time_runtimes
from compress.scratch import scratch_folder
from compress.spec import FASTEST, Budget
from compress.tradeoff.choice import RuntimeChoice
from compress.tradeoff.measure import untrained
from compress.tradeoff.storage import read_table

# In the middle of the candidates by what it computes.
MODEL = "wrn-16-4"
MAX_S = 20.0


def with_runtime(budget: Budget, runtime: str) -> Budget:
    """The same budget in that runtime, on the device that it runs on."""
    device = RUNTIMES[runtime].device
    return replace(budget, target=replace(budget.target, runtime=runtime, device=device))


def choose_runtime(
    budget: Budget,
    *,
    num_classes: int,
    input_shape: tuple[int, int, int],
    tradeoff: Path | None = None,
    sample: Sample | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> RuntimeChoice | None:
    """Chooses where the budget asks for the fastest runtime; None where it names one.

    A mid-sized candidate runs in all installed runtimes that take ONNX files, in the same rounds.
    Of those between which no difference is shown the one that comes first in ``RUNTIMES`` is taken.

    Args:
        budget: batch and threads to time with.
        num_classes: of the student's data.
        input_shape: of the student's data: channels, height, width.
        tradeoff: a table that was measured elsewhere; what it was measured with is taken.
        sample: images to time on; None: seeded noise.
        say: is told what is being done, and what was taken.

    Raises:
        ExportError, ModelFileError: the candidate cannot be exported or run.
        InputError: the table is none.
    """
    if budget.target.runtime != FASTEST:
        return None
    names = [name for name, entry in RUNTIMES.items() if entry.takes == "onnx" and available(name)]
    if tradeoff is not None:
        name = str(read_table(tradeoff).conditions["runtime"])
        if name not in RUNTIMES:
            raise InputError(
                f"The table {tradeoff} was measured in '{name}', which is not a known runtime "
                f"({', '.join(RUNTIMES)}). Measure it again."
            )
        choice = RuntimeChoice(name, f"The table {tradeoff.name} was measured with it.")
    elif len(names) == 1:
        choice = RuntimeChoice(names[0], "No other runtime that takes ONNX files is installed.")
    else:
        say(f"Timing {MODEL} in {', '.join(names)}.")
        choice = _time(names, budget, num_classes, input_shape, sample)
    say(f"Runtime: {choice.runtime}. {choice.why}")
    return choice


def _time(
    names: list[str],
    budget: Budget,
    num_classes: int,
    input_shape: tuple[int, int, int],
    sample: Sample | None,
) -> RuntimeChoice:
    spec = spec_of(MODEL, num_classes=num_classes, input_shape=input_shape)
    with scratch_folder("runtimes") as folder:
        path = folder / f"{MODEL}.onnx"
        onnx_for_timing(untrained(spec), path, spec=spec)
        timing = time_runtimes(
            path,
            names,
            batch=budget.batch,
            threads=budget.target.threads,
            sample=sample,
            max_s=MAX_S,
        )
    found = fastest_of(timing, {name: name for name in names})
    equal = {found.runtime, *found.ties}
    taken = next(name for name in names if name in equal)
    ratios = {name: timing.ratio(name, taken) for name in names if name != taken}
    told = ", ".join(
        f"{name} takes {ratio.value:.2f} times as long ({ratio.low:.2f} to {ratio.high:.2f})"
        for name, ratio in ratios.items()
    )
    return RuntimeChoice(taken, f"For {MODEL} with batch {budget.batch}, {told}.", ratios)
