"""In which precisions a student may be had, where the best one was asked for.

One network in the middle of the candidates is made in each, and those that the runtime takes run
in the same rounds as the float32 file. A reduced precision that is not shown to be faster would
only cost accuracy: it is in the table, and is not chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from compress.errors import CompressError, ModelFileError, UsageError
from compress.exporting.conversion import guarded
from compress.exporting.precision import reduced_for_timing
from compress.exporting.to_onnx import onnx_for_timing
from compress.limits import Judgement, judge
from compress.models.registry import spec_of
from compress.profiling.inputs import Sample, make_input
from compress.profiling.registry import RUNTIMES, runtime_named
from compress.profiling.runtime import Subject
from compress.profiling.timing import time_models
from compress.results import Estimate
from compress.scratch import scratch_folder
from compress.spec import AUTO, PRECISIONS, Budget, ModelSpec, Target
from compress.tradeoff.storage import read_table
from compress.tradeoff.trials import FLOAT, PrecisionTrial

# In the middle of the candidates by what it computes.
MODEL = "wrn-16-4"
MAX_S = 20.0


def try_precisions(
    budget: Budget,
    *,
    num_classes: int,
    input_shape: tuple[int, int, int],
    tradeoff: Path | None = None,
    sample: Sample | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[PrecisionTrial, ...]:
    """The precisions of the candidates; one where the budget names it, tried where it is AUTO.

    Args:
        budget: target, batch and threads.
        num_classes: of the student's data.
        input_shape: of the student's data: channels, height, width.
        tradeoff: a table that was measured elsewhere; what was found there is taken.
        sample: images to time on; None: seeded noise.
        say: is told what is being done, and what was found.

    Raises:
        ExportError, ModelFileError: the float32 network cannot be exported or run.
        InputError: the table is none.
        UsageError: the table was not measured for AUTO.
    """
    asked = budget.target.precision
    if asked == "fp32":
        return (FLOAT,)
    if asked != AUTO:
        return (PrecisionTrial(asked, runs=True, eligible=True, why="as requested"),)
    if tradeoff is not None:
        return _stored(tradeoff)
    say(f"Timing {MODEL} in {', '.join(PRECISIONS)}.")
    trials = _try(budget, num_classes, input_shape, sample)
    for trial in trials[1:]:
        say(f"{trial.precision}: {trial.why}.")
    return trials


def refuse_unrunnable(spec: ModelSpec, budget: Budget) -> None:
    """Tries a network in the precision that a budget names, before time is spent on training it.

    Raises:
        UsageError: the target does not run it so.
        ExportError: it cannot be converted.
    """
    from compress.tradeoff.measure import untrained

    target = budget.target
    with scratch_folder("precisions") as folder:
        floats, path = folder / "fp32.onnx", folder / f"{target.precision}.onnx"
        onnx_for_timing(untrained(spec), floats, spec=spec)
        reduced_for_timing(
            floats,
            path,
            target.precision,
            shape=spec.input_shape,
            activations=RUNTIMES[target.runtime].activations,
        )
        try:
            run_once(path, target, batch=budget.batch)
        except ModelFileError as error:
            raise UsageError(
                f"{spec.name} cannot be served in {target.precision}: {not_run(target, error)}. "
                "Name another --precision or --runtime."
            ) from error


def run_once(path: Path, target: Target, *, batch: int) -> None:
    """Runs a file once, to know whether the target takes it.

    Raises:
        ModelFileError: it does not.
    """
    runtime, subject = runtime_named(target.runtime), Subject(path.name, path=path)
    with guarded(f"{path.name} cannot be run", target.runtime, kind=ModelFileError):
        images = make_input(runtime, subject, batch=batch)
        session = runtime.load(subject, threads=target.threads, images=images)
        try:
            session.infer(images)
        finally:
            session.close()


def not_run(target: Target, error: Exception) -> str:
    """That a target does not take a file, as a phrase."""
    return f"{target.runtime} does not run it: {error}".rstrip(".")


def _stored(path: Path) -> tuple[PrecisionTrial, ...]:
    stored = read_table(path)
    if stored.conditions["precision"] != AUTO or not stored.precisions:
        raise UsageError(
            f"{path} was measured with precision {stored.conditions['precision']}, not {AUTO}. "
            "Measure it again with your options, or use its options."
        )
    return stored.precisions


def try_files(
    floats: Path,
    make: Callable[[str, Path], object],
    folder: Path,
    *,
    name: str,
    target: Target,
    batch: int,
    sample: Sample | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[PrecisionTrial, ...]:
    """Makes a file in each reduced precision and times those that run beside the float32 one.

    Args:
        floats: the float32 file.
        make: writes the file of a precision to a path.
        folder: of the files, each of which is called by its precision: int8.onnx.
        name: of the network, for the reasons.
        target: the runtime and its threads.
        batch: images a call.
        sample: images to time on; None: seeded noise.
        say: is told what is being timed.

    Returns:
        what is known of every precision, float32 first.
    """
    paths, failed = {"fp32": floats}, dict[str, str]()
    for precision in PRECISIONS[1:]:
        path = folder / f"{precision}.onnx"
        try:
            make(precision, path)
            run_once(path, target, batch=batch)
            paths[precision] = path
        except ModelFileError as error:
            failed[precision] = not_run(target, error)
        except CompressError as error:
            failed[precision] = str(error).rstrip(".")
    if len(paths) > 1:
        say(f"Timing {', '.join(paths)} in {target.runtime}, batch {batch}.")
        timing = time_models(
            paths,
            batch=batch,
            threads=target.threads,
            runtime=target.runtime,
            ratio=1.0,
            sample=sample,
            max_s=MAX_S,
        )
    return FLOAT, *(
        PrecisionTrial(precision, runs=False, eligible=False, why=failed[precision])
        if precision in failed
        else timed(precision, timing.ratio(precision, "fp32"), name)
        for precision in PRECISIONS[1:]
    )


def _try(
    budget: Budget, num_classes: int, input_shape: tuple[int, int, int], sample: Sample | None
) -> tuple[PrecisionTrial, ...]:
    """The network in the middle of the candidates in each precision."""
    from compress.tradeoff.measure import untrained

    target = budget.target
    spec = spec_of(MODEL, num_classes=num_classes, input_shape=input_shape)
    with scratch_folder("precisions") as folder:
        floats = folder / "fp32.onnx"
        onnx_for_timing(untrained(spec), floats, spec=spec)

        def make(precision: str, path: Path) -> None:
            activations = RUNTIMES[target.runtime].activations
            reduced_for_timing(floats, path, precision, shape=input_shape, activations=activations)

        return try_files(
            floats,
            make,
            folder,
            name=MODEL,
            target=target,
            batch=budget.batch,
            sample=sample,
        )


def timed(precision: str, ratio: Estimate, name: str) -> PrecisionTrial:
    """What the time of a network of that name, by that in fp32, says of a precision."""
    why = (
        f"{name} takes {ratio.value:.2f} times as long as fp32 here ({ratio.low:.2f} to "
        f"{ratio.high:.2f})"
    )
    faster = judge(ratio, 1.0) is Judgement.KEPT
    return PrecisionTrial(
        precision, True, faster, why if faster else f"not shown to be faster: {why}", ratio
    )
