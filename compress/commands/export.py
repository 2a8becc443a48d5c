"""compress export: a checkpoint or an ONNX file becomes the file that ships, and is proved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compress.commands.inputs import check_data, input_file
from compress.commands.options import (
    data_options,
    load_data,
    output_option,
    refuse_without_data,
    seed_option,
)

if TYPE_CHECKING:
    from compress.pipelines.convert import Conversion


@click.command("export")
@click.argument("model", **input_file())
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file to write.",
)
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    help="fp32, fp16, bf16 or int8; auto takes the fastest here that keeps --max-precision-loss.",
)
@click.option(
    "--runtime", help="Runtime in which --precision auto compares. [default: onnxruntime]"
)
@click.option(
    "--to",
    "target",
    default="onnx",
    show_default=True,
    help="Format of the file: onnx, or an engine: tensorrt or tensorrt-rtx.",
)
@click.option(
    "--batch",
    help="Batch sizes of an engine, such as 1,8,100; or the one that --precision auto times. "
    "[default: 1]",
)
@data_options(default=None, training=False)
@click.option(
    "--normalize", help="Normalisation of the input: a known name, or MEAN,MEAN,MEAN/STD,STD,STD."
)
@output_option()
@click.option(
    "--teacher-arch",
    "--arch",
    "arch",
    help="Architecture, if the weights do not show it, such as resnet-20,shortcut=pad.",
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    help="Compare on this many validation images first, and on all if they do not decide.",
)
@click.option(
    "--calibrate",
    help="Data set whose training images calibrate int8. [default: --data]",
)
@click.option(
    "--calibration-images",
    type=int,
    default=512,
    show_default=True,
    help="Number of images that calibrate int8.",
)
@click.option(
    "--calibration-method",
    default="minmax",
    show_default=True,
    help="How int8 finds the ranges of activations: minmax, percentile or entropy.",
)
@click.option("--float-layers", help="Layers that int8 leaves in float: first, last or first,last.")
@click.option(
    "--max-precision-loss",
    type=float,
    default=0.5,
    show_default=True,
    help="Points of validation accuracy that a reduced precision may be shown to cost at most.",
)
@seed_option("Seed of the validation split.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    model: Path,
    output: Path,
    precision: str,
    runtime: str | None,
    target: str,
    batch: str | None,
    normalize: str | None,
    output_name: str | None,
    arch: str | None,
    images: int | None,
    calibrate: str | None,
    calibration_images: int,
    calibration_method: str,
    float_layers: str | None,
    max_precision_loss: float,
    seed: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Turn MODEL into an ONNX file or an engine and verify that it is the same function.

    MODEL is a checkpoint or a float32 ONNX file. It is verified on the validation images of --data,
    or on seeded inputs without --data. The file records the normalisation that --normalize, --data
    or MODEL gives, otherwise none.

    int8 needs --data or --calibrate. A reduced precision is compared with float32; its accuracy is
    compared only with --data.
    """
    import json

    from compress.data.normalization import resolve
    from compress.errors import UnknownName, UsageError
    from compress.files import check_writable
    from compress.pipelines.convert import (
        DEFAULT_RUNTIME,
        DEFAULT_SIZE,
        ONNX,
        TARGETS,
        Request,
        convert,
    )
    from compress.spec import AUTO, PRECISIONS

    if precision not in (*PRECISIONS, AUTO):
        raise UnknownName("precision", precision, (*PRECISIONS, AUTO))
    if target not in TARGETS:
        raise UnknownName("target", target, TARGETS)
    stated = resolve(normalize) if normalize else None
    check_writable(output)
    if batch is not None and target == ONNX and precision != AUTO:
        raise UsageError("An ONNX file takes any batch; --batch is for engines (--to tensorrt).")
    if runtime is not None and precision != AUTO:
        raise UsageError("--runtime is what --precision auto times files in.")
    if precision not in ("int8", AUTO):
        _refuse_for_int8(calibrate=calibrate, float_layers=float_layers)
    if options["data"] is None:
        options["data"] = calibrate
    data = None
    if options["data"] is None:
        refuse_without_data(
            images=images, validation=options["validation"], data_dir=options["data_dir"]
        )
    else:
        check_data(calibrate)
        data = load_data(options, seed=seed, models=[model])
    other = calibrate not in (None, options["data"])
    request = Request(
        model=model,
        output=output,
        data=data,
        calibration=load_data(options | {"data": calibrate}, seed=seed) if other else None,
        normalization=stated,
        arch=arch,
        precision=precision,
        runtime=runtime or DEFAULT_RUNTIME,
        target=target,
        batches=_sizes(batch) if batch else (1,),
        calibration_images=calibration_images,
        method=calibration_method,
        float_layers=tuple(float_layers.split(",")) if float_layers else (),
        max_loss=max_precision_loss / 100,
        images=images,
        image_size=options["image_size"] or DEFAULT_SIZE,
        output_name=output_name,
    )

    def tell(text: str) -> None:
        click.echo(text, err=True)

    found = convert(request, say=tell)
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else "\n".join(_lines(found)))


def _refuse_for_int8(**values: str | None) -> None:
    """Refuses options that only int8 has.

    Args:
        values: of those options, by name; None where they are not given.

    Raises:
        UsageError: one is given.
    """
    from compress.errors import UsageError

    given = [f"--{name.replace('_', '-')}" for name, value in values.items() if value is not None]
    if given:
        raise UsageError(f"Without --precision int8 {' and '.join(given)} has no effect.")


def _sizes(text: str) -> tuple[int, ...]:
    """'1,8,100' -> (1, 8, 100).

    Raises:
        UsageError: not positive whole numbers.
    """
    from compress.errors import UsageError

    try:
        sizes = tuple(map(int, text.split(",")))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise UsageError(f"--batch is '{text}'; it takes batch sizes such as 1 or 1,8,100.")
    return sizes


def _lines(found: Conversion) -> list[str]:
    """What was made and how far it is from what it was made of."""
    from compress.data.normalization import describe
    from compress.units import format_bytes, format_percent, format_time

    artifact = found.artifact
    known = describe(artifact.normalization) if artifact.normalization else "unknown"
    precision = "" if artifact.precision == "fp32" else f" in {artifact.precision}"
    lines = [
        f"{artifact.path}: {found.name}{precision}, {format_bytes(artifact.size_bytes)}, "
        f"normalisation {known}."
    ]
    if found.parity is not None:
        lines.append(
            f"It gives the class of the checkpoint on all {found.parity.images:,} {found.on}; the "
            f"largest difference between logits is {found.parity.max_abs_diff:.1e}."
        )
    one = found.fidelity
    if one is not None:
        text = (
            f"It gives the class of float32 on {format_percent(one.top1_agreement)} of "
            f"{one.images:,} {found.on}"
        )
        if one.accuracy is not None and one.float_accuracy is not None:
            text += (
                f": {format_percent(one.accuracy)} right, {format_percent(one.float_accuracy)} in "
                f"float32 ({one.lost} lost, {one.won} won)"
            )
        lines.append(f"{text}.")
    lines += [f"In {trial.precision}: {trial.why}." for trial in found.trials[1:]]
    engine = found.engine
    if engine is not None:
        batches = ", ".join(map(str, engine.batches))
        lines.append(f"Built by {engine.package} {engine.version} for batches of {batches}.")
        proof = engine.fidelity
        lines.append(
            "It was not run: there is no GPU here."
            if proof is None
            else f"It gives the class of the ONNX file on {format_percent(proof.top1_agreement)} "
            f"of {proof.images:,} {found.on}."
        )
    for batch, latency in found.latencies.items():
        lines.append(
            f"A call of {batch} takes {format_time(latency.value)} (95%: "
            f"{format_time(latency.low)} to {format_time(latency.high)}), as a CUDA graph if "
            "possible."
        )
    return lines
