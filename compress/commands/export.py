"""compress export: a checkpoint becomes a verified ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compress.commands.options import data_options, load_data, refuse_without_data

if TYPE_CHECKING:
    from torch import Tensor

    from compress.models.registry import Network
    from compress.spec import Normalization

DEFAULT_SIZE = 32


@click.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The ONNX file.",
)
@data_options(default=None, training=False)
@click.option("--normalize", help="A known name, or MEAN,MEAN,MEAN/STD,STD,STD.")
@click.option(
    "--teacher-arch",
    "--arch",
    "arch",
    help="What the weights are, where they do not show it: resnet-20,shortcut=pad, say.",
)
@click.option("--images", type=click.IntRange(min=1), help="Compare on so many images of the data.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the validation split.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(
    checkpoint: Path,
    output: Path,
    normalize: str | None,
    arch: str | None,
    images: int | None,
    seed: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Turn CHECKPOINT into an ONNX file and prove that both are the same function.

    With --data the proof is on its validation images. Without, it is on seeded inputs, and the
    normalisation is written as unknown unless --normalize or the checkpoint says it.
    """
    import json

    from compress.data.normalization import describe, resolve
    from compress.export import onnx_from_torch
    from compress.files import sha256_of
    from compress.units import format_bytes

    stated = resolve(normalize) if normalize else None
    if options["data"] is None:
        refuse_without_data(
            images=images, validation=options["validation"], data_dir=options["data_dir"]
        )
        network, normalization, classes, notes = _read(
            checkpoint, arch, stated, options["image_size"] or DEFAULT_SIZE
        )
        inputs = None
    else:
        network, normalization, classes, inputs, notes = _read_for_data(
            checkpoint, arch, stated, options, seed=seed, limit=images
        )
    for note in notes:
        click.echo(note, err=True)
    artifact, parity = onnx_from_torch(
        network,
        output,
        spec=network.spec,
        normalization=normalization,
        classes=classes,
        images=inputs,
        source={"checkpoint": checkpoint.name, "checkpoint_sha256": sha256_of(checkpoint)},
    )
    if as_json:
        result = {
            "path": str(output),
            "name": network.spec.name,
            "spec": network.spec.to_dict(),
            "sha256": artifact.sha256,
            "size_bytes": artifact.size_bytes,
            "normalization": normalization.to_dict() if normalization else None,
            "classes": list(classes),
            "parity": {
                "images": parity.images,
                "top1_agreement": parity.top1_agreement,
                "max_abs_diff": parity.max_abs_diff,
            },
            "toolchain": artifact.toolchain,
            "notes": list(notes),
        }
        click.echo(json.dumps(result, indent=2))
        return
    compared = "seeded inputs" if inputs is None else "validation images"
    known = describe(normalization) if normalization else "unknown"
    click.echo(
        f"{output}: {network.spec.name}, {format_bytes(artifact.size_bytes)}, normalisation "
        f"{known}.\nThe same class as the checkpoint on all {parity.images:,} {compared}; the "
        f"largest difference of a logit is {parity.max_abs_diff:.1e}."
    )


def _read(
    path: Path, arch: str | None, stated: Normalization | None, size: int
) -> tuple[Network, Normalization | None, tuple[str, ...], list[str]]:
    """The likeliest reading of the weights, without data to try others on."""
    from compress.errors import UsageError
    from compress.models.checkpoint import read_tensors
    from compress.models.recognition.hypothesis import instantiate
    from compress.models.recognition.statement import statement_of, structure

    found = read_tensors(path)
    hypotheses = found.hypotheses(arch=arch, image_size=(size, size))
    likeliest = hypotheses[0]
    notes = [*found.notes, *likeliest.notes]
    if len(hypotheses) > 1:
        variants = dict.fromkeys(structure(other.spec) for other in hypotheses[1:])
        notes.append(
            f"The weights do not show everything: {likeliest.spec.name} with "
            f"{structure(likeliest.spec)} was taken; it may also have {' or '.join(variants)}. "
            "Give --data to find out, or state it with --teacher-arch "
            f"({statement_of(hypotheses[1].spec)}, say)."
        )
    network = instantiate(likeliest)
    channels = network.spec.input_shape[0]
    normalization = stated or found.normalization or likeliest.normalization
    if normalization is not None and len(normalization.mean) != channels:
        raise UsageError(
            f"The normalisation has {len(normalization.mean)} channels, {path} takes {channels}. "
            "Give one mean and one standard deviation a channel with --normalize."
        )
    if normalization is None:
        notes.append("The normalisation is not known, and is written so; --normalize says it.")
    return network, normalization, found.classes, notes


def _read_for_data(
    path: Path,
    arch: str | None,
    stated: Normalization | None,
    options: dict[str, Any],
    *,
    seed: int,
    limit: int | None,
) -> tuple[Network, Normalization, tuple[str, ...], Tensor, list[str]]:
    """The reading that is best on validation images, and those images, normalised."""
    import torch

    from compress.data.normalization import normalize
    from compress.errors import DataError
    from compress.training.evaluation import evaluate, predictor
    from compress.training.teacher import identify
    from compress.units import format_percent

    data = load_data(options, seed=seed)
    if len(data.validation) == 0:
        raise DataError("The proof needs validation images; --validation is 0.")
    found = identify(
        path,
        data,
        normalization=stated,
        arch=arch,
        device=torch.device("cpu"),
    )
    share = evaluate(predictor(found.network), data.validation, found.normalization)
    notes = [
        *found.notes,
        f"{found.spec.name}: {format_percent(share)} on {len(data.validation):,} validation "
        "images.",
    ]
    images = normalize(data.validation.images[:limit], found.normalization)
    return found.network, found.normalization, data.class_names, images, notes
