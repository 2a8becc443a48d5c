"""``compress.export``: a checkpoint or an ONNX file becomes the file that ships, and is proved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compress import defaults
from compress.api.inputs import (
    FilePath,
    Say,
    check_data,
    check_files,
    normalization_of,
    read_data,
    refuse_without_data,
    silent,
)
from compress.api.numbers import check_numbers

if TYPE_CHECKING:
    from compress.data.dataset import Dataset
    from compress.pipelines.convert import Conversion


def export(
    model: FilePath,
    output: FilePath,
    *,
    precision: str = defaults.PRECISION,
    data: FilePath | None = None,
    to: str = "onnx",
    runtime: str | None = None,
    batch: Sequence[int] | None = None,
    max_precision_loss: float = defaults.MAX_PRECISION_LOSS,
    images: int | None = None,
    calibrate: FilePath | None = None,
    calibration_images: int = defaults.CALIBRATION_IMAGES,
    calibration_method: str = "minmax",
    float_layers: Sequence[str] | None = None,
    arch: str | None = None,
    normalize: str | None = None,
    output_name: str | None = None,
    data_dir: FilePath | None = None,
    image_size: int | None = None,
    validation: int | None = None,
    seed: int = 0,
    say: Say = silent,
) -> Conversion:
    """Turns a model into an ONNX file or an engine and verifies it; as ``compress export`` does.

    With ``data`` the proof is on its validation images, without on seeded inputs.

        compress.export("student.onnx", "int8.onnx", precision="int8", data="cifar10")

    Args:
        model: a checkpoint or a float32 ONNX file.
        output: the file to write.
        precision: fp32, fp16, bf16, int8, or auto: the fastest here within max_precision_loss.
        data: see ``compress.distill``.
        data_dir: see ``compress.distill``.
        image_size: see ``compress.distill``.
        validation: see ``compress.distill``.
        to: onnx, or an engine: tensorrt or tensorrt-rtx.
        runtime: that precision="auto" times files in. None: onnxruntime.
        batch: sizes that an engine will be called with, or the one that "auto" is timed with.
            None: 1.
        max_precision_loss: points of validation accuracy that a reduced precision may cost.
        images: verifies on this many images of the data first; on all if they do not decide.
        calibrate: int8: whose training images the ranges are measured on. None: those of ``data``.
        calibration_images: how many of them.
        calibration_method: minmax, percentile or entropy.
        float_layers: that int8 leaves in float: "first", "last". None: none.
        arch: the architecture of a checkpoint, if its weights do not show it.
        normalize: of the input: a known name, or MEAN,MEAN,MEAN/STD,STD,STD.
        output_name: of an ONNX file, that its answers are, where several could be.
        seed: of the validation split.
        say: is told what is being done.

    Raises:
        UsageError: an argument that cannot be.
        InputError: the model or the data cannot be used.
        ExportError: a tool cannot do it.
        ParityError: the file is not the same function.
        PrecisionLost: the reduced precision costs too much.
    """
    from compress.errors import UnknownName, UsageError
    from compress.files import check_writable
    from compress.pipelines.convert import (
        DEFAULT_RUNTIME,
        DEFAULT_SIZE,
        ONNX,
        TARGETS,
        ConvertRequest,
        convert,
    )
    from compress.spec import AUTO, PRECISIONS

    check_files(model)
    if precision not in (*PRECISIONS, AUTO):
        raise UnknownName("precision", precision, (*PRECISIONS, AUTO))
    if to not in TARGETS:
        raise UnknownName("target", to, TARGETS)
    check_numbers(batch=batch, seed=seed)
    stated = normalization_of(normalize)
    check_writable(Path(output))
    if batch is not None and to == ONNX and precision != AUTO:
        raise UsageError("An ONNX file takes any batch; --batch is for engines (--to tensorrt).")
    if runtime is not None and precision != AUTO:
        raise UsageError("--runtime is what --precision auto times files in.")
    if precision not in ("int8", AUTO):
        _refuse_for_int8(calibrate=calibrate, float_layers=float_layers)
    proved_on, calibration = data if data is not None else calibrate, None
    if proved_on is None:
        refuse_without_data(images=images, validation=validation, data_dir=data_dir)
    else:
        check_data(calibrate)

    def read(name: FilePath, models: Sequence[FilePath]) -> Dataset:
        return read_data(
            name,
            data_dir=data_dir,
            image_size=image_size,
            validation=validation,
            seed=seed,
            models=models,
            say=say,
        )

    shown = None if proved_on is None else read(proved_on, [model])
    if calibrate is not None and calibrate != proved_on:
        calibration = read(calibrate, [])
    request = ConvertRequest(
        model=Path(model),
        output=Path(output),
        data=shown,
        calibration=calibration,
        normalization=stated,
        arch=arch,
        precision=precision,
        runtime=runtime or DEFAULT_RUNTIME,
        target=to,
        batches=tuple(batch) if batch else (1,),
        calibration_images=calibration_images,
        method=calibration_method,
        float_layers=tuple(float_layers or ()),
        max_loss=max_precision_loss / 100,
        images=images,
        image_size=image_size or DEFAULT_SIZE,
        output_name=output_name,
    )
    return convert(request, say=say)


def _refuse_for_int8(**values: object) -> None:
    """Refuses arguments that only int8 has.

    Args:
        values: of those arguments, by name; None or empty where they are not given.

    Raises:
        UsageError: one is given.
    """
    from compress.errors import UsageError

    given = [f"--{name.replace('_', '-')}" for name, value in values.items() if value]
    if given:
        raise UsageError(f"Without --precision int8 {' and '.join(given)} has no effect.")
