"""compress export: a checkpoint or an ONNX file becomes the file that ships, and is proved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        from compress.pipelines.convert.report import document_of
        from compress.report import terminal

        terminal.show(document_of(found))
