"""Running an engine on the GPU. Nothing here works without a driver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from compress.engines.building import gpu_here, system_here
from compress.engines.package import Say, import_package, logger, package_named
from compress.engines.sidecar import EngineFile, read_sidecar, refuse_other_machine
from compress.errors import ModelFileError, UsageError

WARM_UP_CALLS = 3


class Engine:
    """A loaded engine.

    Args:
        path: the engine, with its description beside it.
        say: is told what the package warns of.

    Raises:
        UsageError: there is no GPU, or the package is not installed.
        ModelFileError: it is no engine, or was built by or for something else than what is here.
    """

    def __init__(self, path: Path, say: Say = lambda _: None) -> None:
        self.described: EngineFile = read_sidecar(path)
        package = package_named(self.described.package)
        trt = import_package(package)
        gpu = gpu_here()
        if gpu is None:
            raise UsageError(
                f"{path} needs an NVIDIA GPU, but torch {torch.__version__} sees none. Run it on "
                "a machine that has one."
            )
        refuse_other_machine(
            path,
            self.described,
            package=package.name,
            version=str(trt.__version__),
            gpu=gpu,
            system=system_here(),
        )
        told: list[str] = []

        def both(line: str) -> None:
            told.append(line)
            say(line)

        self._path = path
        self._logger = logger(trt, both)
        self._runtime = trt.Runtime(self._logger)
        self._engine: Any = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise ModelFileError(f"{path} cannot be loaded: {'; '.join(told[-3:])}")

    def prepare(
        self, images: torch.Tensor, stream: torch.cuda.Stream
    ) -> tuple[Callable[[], object], dict[str, torch.Tensor]]:
        """What starts the engine on a buffer that stays where it is, and where its outputs will be.

        It is a CUDA graph where the engine can be captured into one.

        Args:
            images: float32 [n, c, h, w] on the GPU.
            stream: to work on.

        Raises:
            UsageError: it was not built for batches of n.
            ModelFileError: it takes other images, or does not run.
        """
        described = self.described
        if len(images) not in described.batches:
            raise UsageError(
                f"{self._path.name} was built for batches of "
                f"{', '.join(map(str, described.batches))}, not {len(images)}. Build it with "
                f"--batch {','.join(map(str, sorted({*described.batches, len(images)})))}."
            )
        if tuple(images.shape[1:]) != described.input_shape:
            found, made = (
                "x".join(map(str, each)) for each in (images.shape[1:], described.input_shape)
            )
            raise ModelFileError(f"{self._path.name} takes images of {made}, not of {found}.")
        context = self._engine.create_execution_context()
        if context is None:
            raise ModelFileError(f"{self._path.name}: the GPU has no memory left for it.")
        context.set_optimization_profile_async(
            described.batches.index(len(images)), stream.cuda_stream
        )
        stream.synchronize()
        context.set_input_shape(described.input_name, tuple(images.shape))
        context.set_tensor_address(described.input_name, images.data_ptr())
        answer = {}
        for name in described.output_names:
            shape = tuple(context.get_tensor_shape(name))
            answer[name] = torch.empty(shape, dtype=torch.float32, device=images.device)
            context.set_tensor_address(name, answer[name].data_ptr())

        def start() -> None:
            if not context.execute_async_v3(stream.cuda_stream):
                raise ModelFileError(f"{self._path.name} does not run on {list(images.shape)}.")

        # The first calls compile (TensorRT for RTX) and allocate, which a graph must not.
        for _ in range(WARM_UP_CALLS):
            start()
        stream.synchronize()
        return _captured(start, stream), answer

    def run(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs float32 [n, ...] by name of float32 images [n, c, h, w], all on the CPU.

        They are run in batches of the largest size that it was built for, the last one filled up.
        """
        stream = torch.cuda.Stream()
        size = max(self.described.batches)
        buffer = torch.zeros((size, *images.shape[1:]), device="cuda")
        start, answer = self.prepare(buffer, stream)
        parts: dict[str, list[torch.Tensor]] = {name: [] for name in answer}
        for part in images.split(size):
            with torch.cuda.stream(stream):
                buffer[: len(part)].copy_(part)
                start()
                for name, there in answer.items():
                    parts[name].append(there[: len(part)].cpu())
        return {name: torch.cat(each) for name, each in parts.items()}

    def close(self) -> None:
        """Frees it."""
        self._engine = self._runtime = None


def _captured(start: Callable[[], None], stream: torch.cuda.Stream) -> Callable[[], object]:
    """A CUDA graph of one call, or the call where it cannot be captured."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            start()
    except (RuntimeError, ModelFileError):
        stream.synchronize()
        return start
    return _Replay(graph, start)


@dataclass(frozen=True)
class _Replay:
    """A captured call, and what holds the context and the engine whose memory it works in."""

    graph: torch.cuda.CUDAGraph
    start: Callable[[], None]

    def __call__(self) -> None:
        self.graph.replay()
