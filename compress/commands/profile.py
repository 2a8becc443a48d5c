"""compress profile: what a model costs on this machine."""

from __future__ import annotations

import copy
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compress.commands.inputs import input_file
from compress.commands.options import (
    DATA_HELP,
    parse_shape,
    seed_option,
    threads_option,
)

if TYPE_CHECKING:
    from compress.models.network import Network
    from compress.profiling import Subject
    from compress.profiling.inputs import Sample
    from compress.spec import ModelSpec

DEFAULT_SIZE = (32, 32)
# What is measured where --runtime does not say it: torch eager runs checkpoints only.
DEFAULT_RUNTIMES = ("onnxruntime", "torch")


@click.command("profile")
@click.argument("model", **input_file())
@click.option(
    "--against", **input_file(), help="Another model to compare with, timed in the same rounds."
)
@click.option(
    "--runtime",
    "asked",
    metavar="NAME,NAME,...",
    help="Runtimes to time in the same rounds; the fastest is named. onnxruntime, openvino, "
    "onnxruntime-cuda, onnxruntime-tensorrt, tensorrt and tensorrt-rtx run ONNX files; torch, "
    "torch-compile, torch-cuda and torch-compile-cuda run checkpoints; all takes those that are "
    "installed. [default: onnxruntime, and torch as well for checkpoints]",
)
@threads_option("Threads of each session. [default: the cores that this process may use]")
@click.option(
    "--batch",
    "batches",
    metavar="N,N,...",
    help="Images per call: latency is measured at the first size, throughput at all. "
    "[default: 1,8,32]",
)
@click.option("--shape", metavar="C,H,W", help="Shape of an image, if the model does not fix it.")
@click.option(
    "--data",
    help=f"{DATA_HELP} Its test images are the inputs. [default: seeded noise]",
)
@click.option("--layers", "by_layer", is_flag=True, help="Also measure each layer.")
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    help="Write the layers of some calls to this file, for chrome://tracing or Perfetto.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    help="Draw latencies and accuracy to this .png or .svg file.",
)
@seed_option("Seed of the inputs and of the order of calls.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown on stdout.")
def command(
    model: Path,
    against: Path | None,
    asked: str | None,
    threads: int | None,
    batches: str | None,
    shape: str | None,
    data: str | None,
    by_layer: bool,
    trace: Path | None,
    plot: Path | None,
    seed: int,
    as_json: bool,
    as_markdown: bool,
) -> None:
    """Measure what MODEL costs on this machine, with uncertainty.

    MODEL and the file to compare with are ONNX files or checkpoints; a checkpoint is exported
    first, so that both run in the same runtime. speedup is time(against) / time(MODEL). Give
    --data for a network whose work depends on its input: noise would time another amount of work.
    """
    import json
    from dataclasses import replace

    from compress.errors import UsageError
    from compress.files import check_writable
    from compress.profiling import Settings, default_threads, profile, profile_layers
    from compress.profiling.kernels import kernels_of
    from compress.profiling.report import document_of, picture_of
    from compress.profiling.runtime import path_of
    from compress.report import drawing, markdown, terminal
    from compress.scratch import scratch_folder

    if as_json and as_markdown:
        raise UsageError("--json and --markdown both print on stdout; give one of them.")
    if plot is not None:
        drawing.check(plot)
    for path in filter(None, (trace, plot)):
        check_writable(path)
    sizes = None if batches is None else _numbers(batches, "--batch")
    image = None if shape is None else parse_shape(shape, "--shape")
    files = [model] if against is None else [model, against]
    runtimes = _runtimes(asked, files)
    by_layer = by_layer or trace is not None
    _say(f"Inputs: {'seeded noise; --data gives images' if data is None else 'images of ' + data}.")
    if by_layer:
        _profiler(runtimes)  # so that it is told before anything is measured that there is none
    settings = Settings(
        runtimes=runtimes,
        threads=threads or default_threads(),
        batches=sizes,
        shape=image,
        sample=None if data is None else _sample(data, model),
        seed=seed,
        compare=asked is not None and len(runtimes) > 1,
    )
    with scratch_folder("profile") as folder:
        subjects = [
            _subject(file, name, folder, place, image, runtimes)
            for place, (file, name) in enumerate(zip(files, _names(files), strict=True))
        ]
        report = profile(
            subjects[0],
            against=subjects[1] if against is not None else None,
            settings=settings,
            say=_say,
        )
        if by_layer:
            layers = profile_layers(
                subjects[0],
                runtime=_profiler(tuple(run.runtime for run in report.model.runs)),
                threads=settings.threads,
                batch=report.model.runs[0].batch,
                shape=image,
                trace=trace,
                seed=seed,
                say=_say,
            )
            kernels = kernels_of(
                path_of(subjects[0], layers.runtime),
                layers.runtime,
                threads=settings.threads,
                batch=layers.batch,
                shape=image,
            )
            report = replace(report, layers=replace(layers, kernels=kernels))
    if plot is not None:
        drawing.draw(picture_of(report), plot)
    for path in filter(None, (trace, plot)):
        _say(f"Wrote {path}.")
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2, allow_nan=False))
    elif as_markdown:
        click.echo(markdown.render(document_of(report)), nl=False)
    else:
        terminal.show(document_of(report))


def _sample(data: str, model: Path) -> Sample:
    """Test images of a data set, as MODEL takes them.

    Raises:
        DataError: there are none.
    """
    from compress.data.dataset import load_dataset
    from compress.errors import DataError
    from compress.exporting import read_artifact
    from compress.onnx_file import is_onnx
    from compress.training.evaluation import timing_sample

    found = load_dataset(data, say=_say)
    stated = None
    if is_onnx(model):
        stated = read_artifact(model).normalization
    sample = timing_sample(found, found.test, stated or found.normalization)
    if sample is None:
        raise DataError(f"{found.name} has no test images to time {model} on.")
    return sample


def _runtimes(asked: str | None, files: list[Path]) -> tuple[str, ...]:
    """The names that --runtime comes to.

    Raises:
        UsageError: a name that there is none of, or a runtime that is not here.
    """
    from compress.onnx_file import is_onnx
    from compress.profiling.registry import RUNTIMES, runtime_named, why_not

    if asked is None:
        return DEFAULT_RUNTIMES
    if asked != "all":
        names = tuple(dict.fromkeys(name.strip() for name in asked.split(",")))
        for name in names:
            runtime_named(name)
        return names
    checkpoints = not all(map(is_onnx, files))
    found = []
    for name, entry in RUNTIMES.items():
        if entry.takes == "torch" and not checkpoints:
            continue
        fault = why_not(name)
        if fault:
            _say(f"Skipped: {fault}")
        else:
            found.append(name)
    return tuple(found)


def _profiler(runtimes: tuple[str, ...]) -> str:
    """The first runtime that tells what its layers take.

    Raises:
        UsageError: none of them does.
    """
    from compress.errors import UsageError
    from compress.profiling.layers import PROFILERS

    for name in runtimes:
        if name in PROFILERS:
            return name
    raise UsageError(
        f"--layers and --trace need {' or '.join(PROFILERS)}; {', '.join(runtimes)} does not "
        "report the time of layers."
    )


def load_network(spec: ModelSpec, weights: Path) -> Network:
    """A network from a file of its state dict, as a server would load it.

    A fresh process finds this function by its name.

    Args:
        spec: the network.
        weights: a safetensors file that this command has written.
    """
    from safetensors.torch import load_file

    from compress.models.registry import build

    network = build(spec)
    network.load_state_dict(load_file(weights))
    return network.eval()


def _subject(
    path: Path,
    name: str,
    folder: Path,
    place: int,
    image: tuple[int, int, int] | None,
    runtimes: tuple[str, ...],
) -> Subject:
    """A file as something to be measured; checkpoints are exported where that is needed.

    Args:
        path: an ONNX file or a checkpoint.
        name: what it is called in messages and tables.
        folder: where files that are needed in between may lie.
        place: which of the models it is, for the names of those files.
        image: channels, height and width, where they were given.
        runtimes: that are to run it.
    """
    from compress.errors import UsageError
    from compress.onnx_file import is_onnx
    from compress.profiling import Subject
    from compress.profiling.inspection import inspect_file
    from compress.profiling.registry import RUNTIMES

    reads_onnx = any(RUNTIMES[name].takes == "onnx" for name in runtimes)
    if is_onnx(path):
        if not reads_onnx:
            raise UsageError(
                f"{' and '.join(runtimes)} cannot run {path.name}; torch runtimes take only "
                "checkpoints. Use --runtime onnxruntime."
            )
        inspected = inspect_file(path, image)
        if not inspected.repeatable:
            _say(f"warning: {inspected.difference(path)}")
        return Subject(name, path=path.absolute(), params=_trained_parameters(path))
    from safetensors.torch import save_file

    from compress.models.checkpoint import read_tensors
    from compress.models.hypothesis import instantiate
    from compress.models.registry import count_parameters

    _say(f"{name}: reading the checkpoint")
    # The likeliest reading will do: what the weights leave open does not change what they cost.
    size = image[1:] if image is not None else DEFAULT_SIZE
    hypothesis = read_tensors(path).hypotheses(image_size=size)[0]
    spec = hypothesis.spec
    if image is not None and spec.input_shape != image:
        raise UsageError(
            f"The weights in {path.name} take images of "
            f"{','.join(map(str, spec.input_shape))}; --shape gives {','.join(map(str, image))}."
        )
    network = instantiate(hypothesis)
    weights = folder / f"{place}.safetensors"
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, weights)
    exported = folder / f"{place}.onnx"
    if reads_onnx:
        from compress.exporting import onnx_from_torch

        _say(f"{name}: exporting it to ONNX")
        onnx_from_torch(network, exported, spec=spec, normalization=None, classes=(), source={})
    return Subject(
        name,
        path=exported if reads_onnx else None,
        module=partial(copy.deepcopy, network),
        loader=partial(load_network, spec, weights),
        imports=("compress.models.registry", "safetensors.torch"),
        input_shape=spec.input_shape,
        params=count_parameters(network),
        size_bytes=path.stat().st_size,
    )


def _trained_parameters(path: Path) -> int | None:
    """Parameters of the network that an ONNX file of ours was made from."""
    import torch

    from compress.exporting import read_artifact
    from compress.models.registry import build, count_parameters

    spec = read_artifact(path).spec
    if spec is None:
        return None
    with torch.device("meta"):
        return count_parameters(build(spec))


def _numbers(text: str, option: str) -> tuple[int, ...]:
    """'1,8,32' -> (1, 8, 32).

    Raises:
        UsageError: something else than positive whole numbers, or one of them twice.
    """
    from compress.errors import UsageError

    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1 or len(set(numbers)) < len(numbers):
        raise UsageError(
            f"{option} is '{text}'; it takes different positive whole numbers, separated by "
            "commas, such as 1,8,32."
        )
    return numbers


def _names(files: list[Path]) -> list[str]:
    """File names; with their folders where two are alike."""
    names = [file.name for file in files]
    return names if len(set(names)) == len(names) else [str(file) for file in files]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
