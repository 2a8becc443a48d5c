"""``compress.check``: a candidate beside a baseline; and what it can tell on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compress import defaults
from compress.api.inputs import (
    FilePath,
    Say,
    Shape,
    check_data,
    check_files,
    normalization_of,
    path_of,
    silent,
)
from compress.api.numbers import check_numbers

if TYPE_CHECKING:
    from compress.gate.limits import SizeRule
    from compress.gate.self_test import SelfTest
    from compress.gate.verdict import Verdict

BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9}


def check(
    model: FilePath,
    *,
    baseline: FilePath = defaults.BASELINE,
    max_slowdown: float = defaults.MAX_SLOWDOWN,
    max_accuracy_drop: float = defaults.MAX_ACCURACY_DROP,
    max_size: str = f"{defaults.MAX_GROWTH:g}%",
    max_calibration_drop: float | None = None,
    budget_ms: float | None = None,
    percentile: float | None = None,
    shape: Shape | None = None,
    checkpoint: FilePath | None = None,
    teacher: FilePath | None = None,
    data: FilePath | None = None,
    data_dir: FilePath | None = None,
    image_size: int | None = None,
    normalize: str | None = None,
    output_name: str | None = None,
    max_seconds: float = defaults.MAX_SECONDS,
    seed: int = 0,
    say: Say = silent,
) -> Verdict:
    """Compares an ONNX file with a baseline; as ``compress check`` does.

    Latency, size, accuracy and consistency are judged always, parity, calibration and budget on
    request. Both models are timed here, in turns.

        verdict = compress.check("student.onnx", max_slowdown=3, budget_ms=2)
        verdict.exit_code()

    Args:
        model: an ONNX file.
        baseline: that ``compress.update_baseline`` wrote.
        max_slowdown: percent by which the model may be slower than the baseline's.
        max_accuracy_drop: points of test accuracy that it may lose.
        max_size: largest file: "5MB", "800kB", or "10%" more than the baseline's model.
        max_calibration_drop: points by which the expected calibration error may grow. None: no
            limit.
        budget_ms: latency budget, milliseconds a call.
        percentile: of the latency, that ``budget_ms`` applies to. None: the baseline's.
        shape: channels, height and width, if the model does not fix them. None: the baseline's.
        checkpoint: that the model must equal. None: the one of its run folder, if any.
        teacher: the baseline's teacher, to compare with if the baseline's model is missing.
        data: see ``compress.distill``. None: the baseline's.
        data_dir: see ``compress.distill``. None: the baseline's.
        image_size: see ``compress.distill``. None: the baseline's.
        normalize: of the input: a known name, or MEAN,MEAN,MEAN/STD,STD,STD.
        output_name: the output that the answers are, where several could be.
        max_seconds: no further round of timing begins after so many seconds.
        seed: of the inputs and of the order of calls.
        say: is told what is being done.

    Returns:
        The verdict: its comparisons with their evidence, and its outcome. It fails without raising.

    Raises:
        UsageError: an argument that cannot be, or model and baseline are not of the same task.
        InputError: the model, the baseline or the evaluation set cannot be used.
    """
    from compress.gate.accuracy import AccuracyRule
    from compress.gate.calibration import CalibrationRule
    from compress.gate.check import CheckRequest
    from compress.gate.check import check as run
    from compress.gate.latency import LatencyRule

    check_numbers(seed=seed, max_seconds=max_seconds, percentile=percentile)
    worse = max_calibration_drop
    request = CheckRequest(
        candidate=Path(model),
        baseline=Path(baseline),
        latency=LatencyRule(max_slowdown / 100),
        size=size_rule(max_size),
        accuracy=AccuracyRule(max_accuracy_drop / 100),
        calibration=None if worse is None else CalibrationRule(worse / 100),
        budget_s=None if budget_ms is None else budget_ms / 1e3,
        percentile=percentile,
        shape=shape,
        checkpoint=path_of(checkpoint),
        teacher=path_of(teacher),
        data=None if data is None else str(data),
        data_dir=path_of(data_dir),
        image_size=image_size,
        normalization=normalization_of(normalize),
        output_name=output_name,
        max_s=max_seconds,
        seed=seed,
    )
    check_files(model, checkpoint, teacher)
    check_data(data)
    return run(request, say)


def self_test(
    model: FilePath | None = None,
    *,
    max_slowdown: float = defaults.MAX_SLOWDOWN,
    shape: Shape | None = None,
    threads: int | None = None,
    max_seconds: float = defaults.MAX_SECONDS,
    seed: int = 0,
    say: Say = silent,
) -> SelfTest:
    """Measures which slowdown ``check`` can detect here; as ``compress check --self-test`` does.

        compress.self_test(max_slowdown=3).outcome

    Args:
        model: an ONNX file to measure with. None: the embedded teacher.
        max_slowdown: percent, the limit that is tested.
        shape: channels, height and width of an image, if the model does not fix them.
        threads: of each session. None: the cores that this process may use.
        max_seconds: no further round of timing begins after so many seconds, in each process.
        seed: of the inputs and of the order of calls.
        say: is told what is being done.

    Raises:
        UsageError: an argument that cannot be.
        InputError: the model cannot be used.
        NothingMeasured: a measuring process died.
    """
    from compress.gate.latency import LatencyRule
    from compress.gate.measuring import Settings
    from compress.gate.self_test import self_test as run
    from compress.profiling import default_threads
    from compress.scratch import scratch_folder

    check_files(model)
    check_numbers(seed=seed, max_seconds=max_seconds, threads=threads)
    rule = LatencyRule(max_slowdown / 100)
    settings = Settings(threads=default_threads() if threads is None else threads, shape=shape)
    with scratch_folder("self-test") as folder:
        path = path_of(model) or _embedded(folder, say)
        return run(path, rule=rule, settings=settings, max_s=max_seconds, seed=seed, say=say)


def size_rule(text: str) -> SizeRule:
    """'5MB' -> at most so many bytes; '10%' -> at most so much more than the baseline.

    Raises:
        UsageError: neither.
    """
    import re

    from compress.errors import UsageError
    from compress.gate.limits import SizeRule

    found = re.fullmatch(r"\+?(\d+(?:\.\d+)?)\s*(%|[kmg]?b)", text.strip().lower())
    if found is None:
        raise UsageError(
            f"--max-size is '{text}'; it takes a size with its unit, such as 5MB or 800kB, or a "
            "growth, such as 10%."
        )
    number, unit = float(found[1]), found[2]
    return SizeRule(growth=number / 100) if unit == "%" else SizeRule(number * BYTES[unit])


def _embedded(folder: Path, say: Say) -> Path:
    """The embedded teacher as an ONNX file."""
    from compress.data.sources import embedded_teacher_path
    from compress.exporting import onnx_from_torch
    from compress.models.checkpoint import read_tensors
    from compress.models.hypothesis import instantiate

    say("Exporting the embedded teacher.")
    network = instantiate(read_tensors(embedded_teacher_path()).hypotheses()[0])
    path = folder / "embedded-teacher.onnx"
    onnx_from_torch(network, path, spec=network.spec, normalization=None, classes=(), source={})
    return path
