"""torch on an NVIDIA GPU, as written or compiled, replayed as a CUDA graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from compress.profiling.cuda import CudaSession, Prepared, captured, no_gpu
from compress.profiling.runtime import Input, InputSpec, Subject
from compress.profiling.torch_compiled import compile_settings
from compress.profiling.torch_eager import input_of_network, named, network_of


@dataclass(frozen=True)
class TorchCuda:
    """float32 without TF32, channels last, a CUDA graph.

    Args:
        name: what ``--runtime`` calls it.
            With "torch-compile-cuda" torch.compile makes the kernels.
    """

    name: str = "torch-cuda"

    @property
    def compiled(self) -> bool:
        """Whether torch.compile makes the kernels."""
        return self.name == "torch-compile-cuda"

    def missing(self) -> str:
        """A GPU, where there is none."""
        return no_gpu(self.name, "python -m pip install torch")

    def input_of(self, subject: Subject) -> InputSpec:
        """Open batch, the subject's image shape."""
        return input_of_network(subject)

    def precision(self, subject: Subject) -> str:
        """float32, as the network is loaded."""
        return "fp32"

    def options(self, threads: int) -> dict[str, str]:
        """The mode it runs in."""
        return {
            "mode": "inductor" if self.compiled else "eager",
            "cuda_graph": "on",
            "tf32": "off",
            "memory_format": "channels_last",
            "copies": "counted, told apart",
        }

    def load(self, subject: Subject, *, threads: int, images: Input | None = None) -> CudaSession:
        """A session of the network that the subject gives."""
        network = network_of(subject).eval().to("cuda")
        network = network.to(memory_format=torch.channels_last)

        def prepare(there: torch.Tensor, stream: torch.cuda.Stream) -> Prepared:
            if not self.compiled:
                return captured(lambda images: named(network(images)), there, stream)
            with compile_settings():
                compiled = torch.compile(network, fullgraph=True, dynamic=False)
                return captured(lambda images: named(compiled(images)), there, stream)

        return CudaSession(subject.name, prepare, images)
