"""compress export: a checkpoint or an ONNX file becomes the file that ships, and is proved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compress.api.export import export
from compress.commands.options import (
    PATH,
    data_options,
    json_option,
    normalize_option,
    output_option,
    parse_names,
    parse_numbers,
    precision_loss_option,
    section,
    seed_option,
    tell,
    text_option,
    twin,
)

if TYPE_CHECKING:
    from compress.pipelines.convert import Conversion


@twin("export", export, first=("output", "precision", "data", "to", "max_precision_loss"))
@click.argument("model", type=PATH)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file to write.",
)
@click.option(
    "--precision",
    help="fp32, fp16, bf16 or int8; auto takes the fastest here that keeps --max-precision-loss.",
)
@click.option(
    "--runtime", help="Runtime in which --precision auto compares. [default: onnxruntime]"
)
@click.option("--to", help="Format of the file: onnx, or an engine: tensorrt or tensorrt-rtx.")
@text_option(
    "--batch",
    read=parse_numbers,
    help="Batch sizes of an engine, such as 1,8,100; or the one that --precision auto times. "
    "[default: 1]",
)
@data_options(training=False)
@normalize_option()
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
@section(
    "Calibration of int8",
    click.option(
        "--calibrate",
        help="Data set whose training images calibrate int8. [default: --data]",
    ),
    click.option("--calibration-images", type=int, help="Number of images that calibrate int8."),
    click.option(
        "--calibration-method",
        help="How int8 finds the ranges of activations: minmax, percentile or entropy.",
    ),
    text_option(
        "--float-layers",
        read=parse_names,
        help="Layers that int8 leaves in float: first, last or first,last.",
    ),
)
@precision_loss_option()
@seed_option("Seed of the validation split.")
@json_option()
def command(as_json: bool, **options: Any) -> None:
    """Turn MODEL into an ONNX file or an engine and verify that it is the same function.

    MODEL is a checkpoint or a float32 ONNX file. It is verified on the validation images of --data,
    or on seeded inputs without --data. The file records the normalisation that --normalize, --data
    or MODEL gives, otherwise none.

    int8 needs --data or --calibrate. A reduced precision is compared with float32; its accuracy is
    compared only with --data.
    """
    import json

    found = export(**options, say=tell)
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else "\n".join(_lines(found)))


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
            f"The same class as the checkpoint on all {found.parity.images:,} {found.on}; the "
            f"largest difference of a logit is {found.parity.max_abs_diff:.1e}."
        )
    one = found.fidelity
    if one is not None:
        text = (
            f"The same class as float32 on {format_percent(one.top1_agreement)} of {one.images:,} "
            f"{found.on}"
        )
        if one.accuracy is not None and one.float_accuracy is not None:
            text += (
                f", which it has right to {format_percent(one.accuracy)} and float32 to "
                f"{format_percent(one.float_accuracy)} ({one.lost} lost, {one.won} won)"
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
            else f"The same class as the ONNX file on {format_percent(proof.top1_agreement)} of "
            f"{proof.images:,} {found.on}."
        )
    for batch, latency in found.latencies.items():
        lines.append(
            f"A call of {batch} takes {format_time(latency.value)} (95%: "
            f"{format_time(latency.low)} to {format_time(latency.high)}), as a CUDA graph where "
            "it can be."
        )
    return lines
