"""``compress.update_baseline``: what candidates are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compress import defaults
from compress.api.inputs import FilePath, Say, Shape, check_files, normalization_of, path_of, silent

if TYPE_CHECKING:
    from compress.gate.baseline import Baseline


def update_baseline(
    model: FilePath,
    *,
    data: FilePath,
    reason: str,
    output: FilePath = defaults.BASELINE,
    runtime: str = defaults.RUNTIME,
    threads: int | None = None,
    batch: int = 1,
    shape: Shape | None = None,
    percentile: float = 50.0,
    teacher: FilePath | None = None,
    normalize: str | None = None,
    output_name: str | None = None,
    data_dir: FilePath | None = None,
    image_size: int | None = None,
    say: Say = silent,
) -> Baseline:
    """Makes an ONNX file the baseline of ``compress.check``; as ``compress baseline update`` does.

    Scores and times it, and writes what was found beside a copy of the model. Commit both.

        compress.update_baseline("student.onnx", data="data.npz", reason="first release")

    Args:
        model: an ONNX file.
        data: see ``compress.distill``; candidates are scored on its test images.
        reason: why the baseline changes; reviewers read it in the diff.
        output: the file to write; it ends in .json.
        runtime: that runs the models.
        threads: of each session. None: the cores that this process may use.
        batch: images a call.
        shape: channels, height and width of an image, if the model does not fix them.
        percentile: of the latency, that budgets apply to.
        teacher: an ONNX file to time the model against; ``check`` uses it if the baseline's model
            is missing.
        normalize: of the input: a known name, or MEAN,MEAN,MEAN/STD,STD,STD.
        output_name: the output that the answers are, where several could be.
        data_dir: see ``compress.distill``.
        image_size: see ``compress.distill``.
        say: is told what is being done.

    Raises:
        UsageError: an argument that cannot be, or a file is in the way.
        InputError: the model or the data cannot be used.
        NothingMeasured: a measuring process died.
    """
    from compress.gate import update as making
    from compress.gate.measuring import Settings
    from compress.profiling import default_threads

    check_files(model, teacher)
    return making.update(
        making.UpdateRequest(
            model=Path(model),
            data=str(data),
            reason=reason,
            output=Path(output),
            settings=Settings(
                runtime=runtime,
                threads=default_threads() if threads is None else threads,
                batch=batch,
                shape=shape,
                percentile=percentile,
                output=output_name,
            ),
            teacher=path_of(teacher),
            normalization=normalization_of(normalize),
            data_dir=path_of(data_dir),
            image_size=image_size,
        ),
        say,
    )
