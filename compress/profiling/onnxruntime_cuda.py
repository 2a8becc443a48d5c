"""ONNX Runtime on an NVIDIA GPU, by its CUDA or its TensorRT provider."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch

from compress.errors import ModelFileError, UsageError, first_line
from compress.onnx_file import fault_of, precision_of_file
from compress.profiling.cuda import CudaSession, Prepared, no_gpu
from compress.profiling.inputs import resolve_shape
from compress.profiling.onnxruntime_cpu import DTYPES, ORT_ERRORS, spec_of
from compress.profiling.runtime import Input, InputSpec, Subject, input_of_onnx, one_input, path_of

INSTALL = (
    "python -m pip uninstall --yes onnxruntime && python -m pip install onnxruntime-gpu "
    "(the two are builds of one package)"
)
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


@dataclass(frozen=True)
class OnnxRuntimeCuda:
    """Buffers bound to the GPU, a CUDA graph, float32 without TF32 (by the CUDA provider).

    Args:
        name: what ``--runtime`` calls it.
        provider: of ONNX Runtime; what it cannot run falls to the CUDA provider.
    """

    name: str = "onnxruntime-cuda"
    provider: str = CUDA

    def missing(self) -> str:
        """A GPU, or ONNX Runtime's build for it."""
        fault = no_gpu(self.name, INSTALL)
        if fault or self.provider in ort.get_available_providers():
            return fault
        return f"The runtime {self.name} is not installed. Install it: {INSTALL}"

    def input_of(self, subject: Subject) -> InputSpec:
        """The one input of the file."""
        return input_of_onnx(path_of(subject, "ONNX Runtime"))

    def precision(self, subject: Subject) -> str:
        """The precision of the file."""
        return precision_of_file(path_of(subject, "ONNX Runtime"))

    def options(self, threads: int) -> dict[str, str]:
        """What a session is created with."""
        return {
            "provider": self.provider,
            "graph_optimization": "all",
            "cuda_graph": "on",
            "tf32": "off" if self.provider == CUDA else "as TensorRT decides",
            "copies": "counted, told apart",
        }

    def load(self, subject: Subject, *, threads: int, images: Input | None = None) -> CudaSession:
        """A session of the file."""
        path = path_of(subject, "ONNX Runtime")

        return CudaSession(subject.name, partial(self._bound, path, threads), images)

    def _bound(
        self, path: Path, threads: int, images: torch.Tensor, stream: torch.cuda.Stream
    ) -> Prepared:
        """What runs the file on those images, and where its outputs will lie."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 4
        try:
            session = ort.InferenceSession(path, options, providers=self._providers(stream))
        except ORT_ERRORS as error:
            raise ModelFileError(
                fault_of(path)
                or f"{path.name} cannot be loaded by ONNX Runtime: {first_line(error)}"
            ) from error
        if self.provider not in session.get_providers():
            needed = "CUDA and cuDNN" if self.provider == CUDA else "CUDA, cuDNN and TensorRT"
            raise UsageError(
                f"ONNX Runtime does not find its libraries of {needed}. Install them and add them "
                "to the library path."
            )
        one_input([each.name for each in session.get_inputs()], path)
        given = session.get_inputs()[0]
        binding = session.io_binding()
        kind = spec_of(given).dtype
        place = ("cuda", images.device.index or 0)
        binding.bind_input(given.name, *place, kind, tuple(images.shape), images.data_ptr())
        answer = {}
        for each in session.get_outputs():
            if each.type not in DTYPES:
                continue
            spec = spec_of(each)
            shape = resolve_shape(spec, path.name, batch=len(images), shape=None)
            there = torch.empty(shape, dtype=getattr(torch, spec.dtype), device="cuda")
            binding.bind_output(each.name, *place, spec.dtype, shape, there.data_ptr())
            answer[each.name] = there
        # The first run of a session captures the graph.
        session.run_with_iobinding(binding)
        return lambda: session.run_with_iobinding(binding), answer

    def _providers(self, stream: torch.cuda.Stream) -> list[tuple[str, dict[str, Any]]]:
        ours = {"user_compute_stream": str(stream.cuda_stream)}
        graph = self.provider == CUDA
        cuda = (CUDA, ours | {"use_tf32": "0", "enable_cuda_graph": "1" if graph else "0"})
        if graph:
            return [cuda]
        return [(TENSORRT, ours | {"trt_cuda_graph_enable": "1"}), cuda]
