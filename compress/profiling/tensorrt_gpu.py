"""TensorRT, and TensorRT for RTX, on an NVIDIA GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from compress.engines.building import cached_engine
from compress.engines.package import PACKAGES, import_package
from compress.engines.running import Engine
from compress.engines.sidecar import is_engine, read_sidecar
from compress.errors import UsageError
from compress.onnx_file import precision_of_file
from compress.profiling.cuda import CudaSession, Prepared, no_gpu
from compress.profiling.runtime import Input, InputSpec, Subject, input_of_onnx, path_of


@dataclass(frozen=True)
class TensorRt:
    """An engine of the ONNX file for each batch size, replayed as a CUDA graph where it can be.

    Engines are built here when they are first needed, and kept by file, batch size, version and
    GPU. An engine that `compress export` wrote is taken as it is.

    Args:
        name: what ``--runtime`` calls it, and which package builds and runs: "tensorrt" or
            "tensorrt-rtx".
    """

    name: str = "tensorrt"

    def missing(self) -> str:
        """The package's libraries, or a GPU."""
        package = PACKAGES[self.name]
        fault = no_gpu(self.name, package.install)
        if fault:
            return fault
        try:
            import_package(package)
        except UsageError as error:
            return str(error)
        return ""

    def input_of(self, subject: Subject) -> InputSpec:
        """The one input of the file."""
        path = path_of(subject, self.name)
        if is_engine(path):
            described = read_sidecar(path)
            return InputSpec(described.input_name, ("batch", *described.input_shape))
        return input_of_onnx(path)

    def precision(self, subject: Subject) -> str:
        """The precision of the file: the engine is strongly typed."""
        path = path_of(subject, self.name)
        return read_sidecar(path).precision if is_engine(path) else precision_of_file(path)

    def options(self, threads: int) -> dict[str, str]:
        """How engines are built and run."""
        return {
            "network": "strongly typed",
            "profiles": "one for the batch",
            "cuda_graph": "on",
            "tf32": "off",
            "copies": "counted, told apart",
        }

    def load(self, subject: Subject, *, threads: int, images: Input | None = None) -> CudaSession:
        """A session of the file; its engine is built now for the shape of ``images``."""
        path = path_of(subject, self.name)
        self.input_of(subject)
        precision = self.precision(subject)

        def prepare(there: torch.Tensor, stream: torch.cuda.Stream) -> Prepared:
            engine = path
            if not is_engine(path):
                package = PACKAGES[self.name]
                engine = cached_engine(path, package, batch=len(there), precision=precision)
            return Engine(engine).prepare(there, stream)

        return CudaSession(subject.name, prepare, images)
