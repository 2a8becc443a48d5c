"""The process of ``compress.profiling.inspection``: a pickled InspectionRequest in, JSON out."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from typing import Any

import numpy as np

from compress import onnx_file
from compress.errors import CompressError, ModelFileError
from compress.onnx_file import Value, nodes_of
from compress.profiling.child import serve
from compress.profiling.inputs import random_input
from compress.profiling.inspection import RANDOM, Inspection, InspectionRequest
from compress.profiling.onnxruntime_cpu import OnnxSession
from compress.profiling.runtime import Input, InputSpec

# A file that takes one image alone, whatever it says, is run on one.
BATCHES = (2, 1)
# Two sums of the same products in another order differ by less, as a share of the largest value.
NOISE = 1e-4


def main() -> None:
    """Reads the request, looks, answers."""
    serve(lambda request: asdict(inspect(request)))


def inspect(request: InspectionRequest) -> Inspection:
    """Loads a file and runs it twice on the same images.

    Raises:
        ModelFileError: it cannot be loaded or run.
    """
    limit_memory(request.limit_bytes)
    path = request.path
    model = onnx_file.read_model(path)
    random = sorted({node.op_type for node in nodes_of(model.graph)} & set(RANDOM))
    try:
        session = OnnxSession(path, threads=1, tensors_only=False)
        rows, first, second = _two_runs(session, request.shape)
    except MemoryError as error:
        raise ModelFileError(
            f"{path.name} needs more memory to be loaded and run on two images than the "
            f"{request.limit_bytes:,} bytes that it is given."
        ) from error
    if first is None or second is None:
        return Inspection(onnx_file.outputs_of(model), None, True, tuple(random))
    outputs = [
        _shown(said, found) for said, found in zip(onnx_file.outputs_of(model), first, strict=True)
    ]
    return Inspection(tuple(outputs), rows, all(map(_same, first, second)), tuple(random))


def limit_memory(limit_bytes: int) -> None:
    """Has the system refuse this process more address space, where it can."""
    try:
        resource: Any = importlib.import_module("resource")
    except ImportError:  # pragma: no cover - Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    least = limit_bytes if most == resource.RLIM_INFINITY else min(limit_bytes, most)
    resource.setrlimit(resource.RLIMIT_AS, (least, most))


def _two_runs(
    session: OnnxSession, shape: tuple[int, ...] | None
) -> tuple[int, list[Any] | None, list[Any] | None]:
    """On how many images, and all outputs of two runs; None where a dimension has no value."""
    spec = session.input
    sizes = [*spec.shape]
    for place, size in enumerate(sizes[1:], 1):
        if isinstance(size, str):
            if shape is None or len(shape) != len(sizes) - 1:
                return 0, None, None
            sizes[place] = shape[place - 1]
    batches = BATCHES if sizes and isinstance(sizes[0], str) else (sizes[0] if sizes else 1,)
    refused: CompressError | None = None
    for batch in batches:
        asked = InputSpec(spec.name, (int(batch), *sizes[1:]) if sizes else (), spec.dtype)
        images = random_input(asked, "the file", seed=0)
        try:
            return int(batch), _run(session, images), _run(session, images)
        except ModelFileError as error:
            refused = error
    raise refused or ModelFileError("The file takes no images.")


def _run(session: OnnxSession, images: Input) -> list[Any]:
    session.infer(images)
    return list(session.outputs().values())


def _shown(said: Value, found: Any) -> Value:
    """An output with the type and the sizes that a run has shown."""
    if not isinstance(found, np.ndarray):
        return Value(said.name, "map" if isinstance(found, dict) else "sequence", None)
    dtype = said.dtype if found.dtype == object else str(found.dtype)
    return Value(said.name, dtype, tuple(map(int, found.shape)))


def _same(one: Any, other: Any) -> bool:
    """Whether two answers are the same, but for rounding."""
    if not isinstance(one, np.ndarray) or not np.issubdtype(one.dtype, np.floating):
        return bool(np.array_equal(one, other))
    finite = one[np.isfinite(one)]
    scale = float(np.abs(finite).max()) if finite.size else 1.0
    return one.shape == other.shape and bool(
        np.allclose(one, other, rtol=0, atol=NOISE * scale, equal_nan=True)
    )


if __name__ == "__main__":
    main()
