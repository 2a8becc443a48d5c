"""``compress.evaluate``: how good a checkpoint or an ONNX file is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compress import defaults
from compress.api.inputs import (
    FilePath,
    Say,
    check_files,
    normalization_of,
    read_data,
    silent,
)
from compress.api.numbers import check_numbers

if TYPE_CHECKING:
    from compress.pipelines.evaluate import Evaluation


def evaluate(
    model: FilePath,
    *,
    data: FilePath = defaults.DATA,
    data_dir: FilePath | None = None,
    image_size: int | None = None,
    validation: int | None = None,
    normalize: str | None = None,
    arch: str | None = None,
    threads: int | None = None,
    output_name: str | None = None,
    device: str = "auto",
    seed: int = 0,
    say: Say = silent,
) -> Evaluation:
    """Scores a checkpoint or an ONNX file on a data set's test images; as ``compress evaluate``.

        compress.evaluate("student.onnx", data="cifar10").test

    Args:
        model: the file.
        data: see ``compress.distill``.
        data_dir: see ``compress.distill``.
        image_size: see ``compress.distill``.
        validation: see ``compress.distill``.
        normalize: of the input: a known name, or MEAN,MEAN,MEAN/STD,STD,STD. None: the file's own,
            else the best of the known ones on validation images.
        arch: the architecture of a checkpoint, if its weights do not show it.
        threads: of an ONNX file's session. None: the cores that this process may use.
        output_name: of an ONNX file, that its answers are, where several could be.
        device: where a checkpoint runs: auto, cpu or cuda.
        seed: of the validation split.
        say: is told what is being done.

    Returns:
        The accuracy on the test images (``test``, a fraction of 1), and what was assumed
        (``notes``).

    Raises:
        UsageError: an argument that cannot be.
        InputError: the file or the data cannot be used.
    """
    from compress.pipelines.evaluate import evaluate as run
    from compress.training.device import choose_device

    check_files(model)
    check_numbers(threads=threads, seed=seed)
    stated = normalization_of(normalize)
    choose_device(device)
    images = read_data(
        data,
        data_dir=data_dir,
        image_size=image_size,
        validation=validation,
        seed=seed,
        models=[model],
        say=say,
    )
    return run(
        Path(model),
        images,
        normalization=stated,
        arch=arch,
        threads=threads,
        device=device,
        output=output_name,
    )
