"""``compress.profile``: what a model costs on this machine."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from compress.api.inputs import (
    FilePath,
    Say,
    Shape,
    check_files,
    path_of,
    silent,
)
from compress.api.numbers import check_numbers

if TYPE_CHECKING:
    from compress.models.network import Network
    from compress.profiling import Subject
    from compress.profiling.inputs import Sample
    from compress.results import ProfileReport
    from compress.spec import ModelSpec

DEFAULT_SIZE = (32, 32)
# What is measured where ``runtime`` does not say it: torch eager runs checkpoints only.
DEFAULT_RUNTIMES = ("onnxruntime", "torch")


def profile(
    model: FilePath,
    *,
    against: FilePath | None = None,
    runtime: str | Sequence[str] | None = None,
    data: FilePath | None = None,
    layers: bool = False,
    threads: int | None = None,
    batch: int | Sequence[int] | None = None,
    shape: Shape | None = None,
    trace: FilePath | None = None,
    seed: int = 0,
    say: Say = silent,
) -> ProfileReport:
    """Measures what a model costs on this machine, with uncertainty; as ``compress profile`` does.

    A checkpoint is exported first, so that both models run in the same runtime.

        report = compress.profile("student.onnx", against="teacher.onnx")
        report.model.runs[0].latency.value      # seconds a call, with .low and .high

    Args:
        model: an ONNX file or a checkpoint.
        against: another model to compare with, timed in the same rounds. The report's speed-up is
            its time divided by that of ``model``.
        runtime: runtimes to time in the same rounds, the fastest of which is named; "all": those
            that are installed. None: onnxruntime, and torch as well for checkpoints.
        data: a data set whose test images are the inputs; see ``compress.distill``. None: seeded
            noise, which times another amount of work where that depends on the input.
        layers: measures each layer, too.
        threads: of each session. None: the cores that this process may use.
        batch: images a call: latency is of the first size, throughput of all. None: 1, 8 and 32.
        shape: channels, height and width of an image, if the model does not fix them.
        trace: writes the layers of some calls to this file, for chrome://tracing or Perfetto.
        seed: of the inputs and of the order of calls.
        say: is told what is being done.

    Raises:
        UsageError: an argument that cannot be, or no runtime can run the model.
        InputError: a file or the data cannot be used.
        NothingMeasured: a measuring process died.
    """
    from dataclasses import replace

    from compress.files import check_writable
    from compress.profiling import Settings, default_threads, profile_layers
    from compress.profiling import profile as run
    from compress.profiling.kernels import kernels_of
    from compress.profiling.runtime import path_of as onnx_path_of
    from compress.scratch import scratch_folder

    check_files(model, against)
    check_numbers(threads=threads, batch=batch, seed=seed)
    traced = path_of(trace)
    if traced is not None:
        check_writable(traced)
    files = [Path(file) for file in (model, against) if file is not None]
    runtimes = _runtimes(runtime, files, say)
    say(f"Inputs: {'seeded noise; --data gives images' if data is None else f'images of {data}'}.")
    if layers or trace is not None:
        _profiler(runtimes)  # so that it is told before anything is measured that there is none
    settings = Settings(
        runtimes=runtimes,
        threads=default_threads() if threads is None else threads,
        batches=(batch,) if isinstance(batch, int) else tuple(batch) if batch else None,
        shape=shape,
        sample=None if data is None else _sample(data, files[0], say),
        seed=seed,
        compare=runtime is not None and len(runtimes) > 1,
    )
    with scratch_folder("profile") as folder:
        subjects = [
            _subject(file, name, folder, place, shape, runtimes, say)
            for place, (file, name) in enumerate(zip(files, _names(files), strict=True))
        ]
        report = run(
            subjects[0],
            against=subjects[1] if against is not None else None,
            settings=settings,
            say=say,
        )
        if layers or trace is not None:
            found = profile_layers(
                subjects[0],
                runtime=_profiler(tuple(each.runtime for each in report.model.runs)),
                threads=settings.threads,
                batch=report.model.runs[0].batch,
                shape=shape,
                trace=traced,
                seed=seed,
                say=say,
            )
            kernels = kernels_of(
                onnx_path_of(subjects[0], found.runtime),
                found.runtime,
                threads=settings.threads,
                batch=found.batch,
                shape=shape,
            )
            report = replace(report, layers=replace(found, kernels=kernels))
    if traced is not None:
        say(f"Wrote {traced}.")
    return report


def _sample(data: FilePath, model: Path, say: Say) -> Sample:
    """Test images of a data set, as MODEL takes them.

    Raises:
        DataError: there are none.
    """
    from compress.data.dataset import load_dataset
    from compress.errors import DataError
    from compress.exporting import read_artifact
    from compress.onnx_file import is_onnx
    from compress.training.evaluation import timing_sample

    found = load_dataset(str(data), say=say)
    stated = None
    if is_onnx(model):
        stated = read_artifact(model).normalization
    sample = timing_sample(found, found.test, stated or found.normalization)
    if sample is None:
        raise DataError(f"{found.name} has no test images to time {model} on.")
    return sample


def _runtimes(asked: str | Sequence[str] | None, files: list[Path], say: Say) -> tuple[str, ...]:
    """The names that --runtime comes to.

    Raises:
        UsageError: a name that there is none of, or a runtime that is not here.
    """
    from compress.onnx_file import is_onnx
    from compress.profiling.registry import RUNTIMES, runtime_named, why_not

    if asked is None:
        return DEFAULT_RUNTIMES
    wanted = (asked,) if isinstance(asked, str) else tuple(asked)
    if wanted != ("all",):
        names = tuple(dict.fromkeys(wanted))
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
            say(f"Left out: {fault}")
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
    say: Say,
) -> Subject:
    """A file as something to be measured; checkpoints are exported where that is needed.

    Args:
        path: an ONNX file or a checkpoint.
        name: what it is called in messages and tables.
        folder: where files that are needed in between may lie.
        place: which of the models it is, for the names of those files.
        image: channels, height and width, where they were given.
        runtimes: that are to run it.
        say: is told what is being done.
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
            say(f"warning: {inspected.difference(path)}")
        return Subject(name, path=path.absolute(), params=_trained_parameters(path))
    from safetensors.torch import save_file

    from compress.models.checkpoint import read_tensors
    from compress.models.hypothesis import instantiate
    from compress.models.registry import count_parameters

    say(f"{name}: reading the checkpoint")
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

        say(f"{name}: exporting it to ONNX")
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


def _names(files: list[Path]) -> list[str]:
    """File names; with their folders where two are alike."""
    names = [file.name for file in files]
    return names if len(set(names)) == len(names) else [str(file) for file in files]
