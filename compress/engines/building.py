"""ONNX -> engine: one path for TensorRT and TensorRT for RTX.

The network is strongly typed: what is computed in which precision follows from the ONNX file, which
is float32, float16, bfloat16 or quantised to int8 without zero points. Each batch size gets an
optimisation profile of its own, so that its kernels are chosen for it alone.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from compress.engines.package import Package, Say, import_package, logger
from compress.engines.sidecar import SUFFIX, EngineFile, Gpu, read_sidecar, write_sidecar
from compress.environment import cache_folder
from compress.errors import ExportError, ModelFileError, UsageError
from compress.files import atomic_path, sha256_of
from compress.spec import ModelSpec, Normalization

MAX_ERRORS = 3


def build_engine(
    source: Path,
    path: Path,
    package: Package,
    *,
    batches: Sequence[int],
    precision: str,
    spec: ModelSpec | None = None,
    normalization: Normalization | None = None,
    classes: Sequence[str] = (),
    say: Say = lambda _: None,
) -> EngineFile:
    """Builds an engine and writes it, and beside it what is known of it.

    Args:
        source: an ONNX file with one input, float32 [n, c, h, w].
        path: the engine.
        package: that builds it.
        batches: sizes that it will be called with.
        precision: of the ONNX file.
        spec: of the network, to be written beside the engine.
        normalization: the same.
        classes: the same.
        say: is told what the package warns of.

    Raises:
        UsageError: the package is not there, or a batch size cannot be.
        ExportError: the package does not take the file, or cannot build it.
    """
    sizes = tuple(dict.fromkeys(batches))
    if not sizes or min(sizes) < 1:
        raise UsageError(f"The batch sizes are {list(batches)}, but an engine needs at least one.")
    trt = import_package(package)
    told: list[str] = []

    def both(line: str) -> None:
        told.append(line)
        say(line)

    trt_logger = logger(trt, both)
    builder = trt.Builder(trt_logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    # The parser refers to all of these, and does not keep them.
    parser = trt.OnnxParser(network, trt_logger)
    if not parser.parse_from_file(str(source)):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise ExportError(
            f"{package.name} does not take {source.name}: "
            f"{'; '.join(reasons[:MAX_ERRORS]) or 'no reason given'}."
        )
    if network.num_inputs != 1:
        raise ExportError(f"{source.name} has {network.num_inputs} inputs; an image model has one.")
    entry = network.get_input(0)
    fixed, *image = (int(size) for size in entry.shape)
    if min(image) < 1:
        raise UsageError(
            f"{source.name} does not fix the size of its images. Export it for one size."
        )
    if fixed > 0 and sizes != (fixed,):
        raise UsageError(
            f"{source.name} is fixed at a batch of {fixed}; --batch {','.join(map(str, sizes))} "
            "does not fit."
        )
    config = builder.create_builder_config()
    # fp32 is to mean float32: TensorFloat-32 has 10 bits of precision.
    config.clear_flag(trt.BuilderFlag.TF32)
    for size in sizes:
        profile = builder.create_optimization_profile()
        profile.set_shape(entry.name, *[(size, *image)] * 3)
        config.add_optimization_profile(profile)
    gpu = gpu_here()
    cache = _cache_path(package, trt.__version__, gpu) if package.timing_cache else None
    kept = None if cache is None else _load_cache(config, cache)
    made = builder.build_serialized_network(network, config)
    if made is None:
        raise ExportError(
            f"{package.name} cannot build an engine of {source.name}: "
            f"{'; '.join(told[-MAX_ERRORS:]) or 'it says no more'}"
        )
    if cache is not None and kept is not None:
        _save_cache(config, cache)
    content = bytes(made)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    described = EngineFile(
        package=package.name,
        version=str(trt.__version__),
        gpu=gpu,
        system=system_here(),
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        precision=precision,
        batches=sizes,
        input_name=str(entry.name),
        input_shape=tuple(image),
        output_names=tuple(
            str(network.get_output(place).name) for place in range(network.num_outputs)
        ),
        source={"onnx": source.name, "onnx_sha256": sha256_of(source)},
        spec=spec,
        normalization=normalization,
        classes=tuple(classes),
    )
    write_sidecar(path, described)
    return described


def gpu_here() -> Gpu | None:
    """The GPU that torch uses; None where there is none."""
    import torch

    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return Gpu(torch.cuda.get_device_name(), f"{major}.{minor}")


def system_here() -> str:
    """Operating system and architecture."""
    return f"{platform.system()} {platform.machine()}"


def cached_engine(
    source: Path, package: Package, *, batch: int, precision: str, say: Say = lambda _: None
) -> Path:
    """The engine of an ONNX file for one batch size and for what is here; built where it is not.

    It lies in ``cache_folder()``, and is as good as the ONNX file: nothing is proved of it.

    Raises:
        UsageError, ExportError: as ``build_engine``.
    """
    version = str(import_package(package).__version__)
    name = f"{sha256_of(source)[:16]}-{batch}-{_here(package, version, gpu_here())}{SUFFIX}"
    path = cache_folder() / "engines" / name
    try:
        read_sidecar(path)
    except ModelFileError:
        build_engine(source, path, package, batches=(batch,), precision=precision, say=say)
    return path


def _here(package: Package, version: str, gpu: Gpu | None) -> str:
    """What an engine belongs to, as a part of a file's name."""
    there = "any" if gpu is None else f"{gpu.name}-{gpu.compute_capability}"
    return re.sub(r"[^\w.]+", "-", f"{package.name}-{version}-{there}")


def _cache_path(package: Package, version: str, gpu: Gpu | None) -> Path | None:
    """Where what builds measured of kernels is kept, by version and GPU; None without a GPU."""
    if gpu is None:
        return None
    return cache_folder() / "engines" / f"{_here(package, version, gpu)}.timing-cache"


def _load_cache(config: Any, path: Path) -> Any:
    """Gives the builder what earlier builds measured; a cache that it refuses is begun anew."""
    content = b""
    with suppress(OSError):
        content = path.read_bytes()
    cache = config.create_timing_cache(content)
    if not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _save_cache(config: Any, path: Path) -> None:
    """Keeps it for later builds; a build is not lost by failing to."""
    with suppress(OSError, UsageError), atomic_path(path) as temporary:
        temporary.write_bytes(bytes(config.get_timing_cache().serialize()))
