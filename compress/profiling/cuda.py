"""Sessions on an NVIDIA GPU: copies, work and events on one stream.

A runtime says how a model is started on a buffer that stays where it is; all that is measured is
the same for each of them, so a further engine needs a ``Prepare`` and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from compress.errors import ModelFileError, first_line
from compress.profiling.machine import nvidia_smi
from compress.profiling.runtime import DeviceTimes, Input, Output

Tensors = Mapping[str, torch.Tensor]
# What starts a model on images that lie on the device, and where its outputs will lie. All buffers
# are the same at every call, as a CUDA graph needs them.
Prepared = tuple[Callable[[], object], Tensors]
Prepare = Callable[[torch.Tensor, torch.cuda.Stream], Prepared]

WARM_UP_CALLS = 3


class CudaSession:
    """Copies images in, starts the model and copies its outputs out, between events on one stream.

    Args:
        name: of the model, for messages.
        prepare: says how it is started; called once for each shape of images.
        images: of the shape to prepare for now; None: the first call does.

    Raises:
        ModelFileError: the model cannot be prepared.
    """

    def __init__(self, name: str, prepare: Prepare, images: Input | None = None) -> None:
        self._name, self._prepare = name, prepare
        self._stream = torch.cuda.Stream()
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(4)]
        self._shape: tuple[int, ...] | None = None
        if images is not None:
            self._ready(images)

    def infer(self, images: Input) -> None:
        """Starts a batch."""
        self._ready(images)
        begun, copied, computed, done = self._events
        self._host_images.copy_(torch.from_numpy(images))
        with torch.cuda.stream(self._stream):
            begun.record()
            self._images.copy_(self._host_images, non_blocking=True)
            copied.record()
            self._start()
            computed.record()
            for there, here in self._copies:
                here.copy_(there, non_blocking=True)
            done.record()

    def outputs(self) -> dict[str, Output]:
        """Arrays of the last call by name, once ``synchronize`` has returned."""
        return {name: np.array(here) for name, here in self._host_answer.items()}

    def synchronize(self) -> None:
        """Waits for the stream."""
        self._stream.synchronize()

    def device_times(self) -> DeviceTimes:
        """By the events of the last call."""
        begun, copied, computed, done = self._events
        copies_ms = begun.elapsed_time(copied) + computed.elapsed_time(done)
        return DeviceTimes(begun.elapsed_time(done) / 1e3, copies_ms / 1e3)

    def close(self) -> None:
        """Frees the buffers and what was prepared."""
        self.synchronize()
        for name in ("_start", "_images", "_copies", "_host_images", "_host_answer"):
            vars(self).pop(name, None)
        self._shape = None

    def _ready(self, images: Input) -> None:
        if images.shape == self._shape:
            return
        try:
            self._host_images = torch.from_numpy(images.copy()).pin_memory()
            with torch.cuda.stream(self._stream):
                self._images = self._host_images.to("cuda")
            self._start, answer = self._prepare(self._images, self._stream)
            self._host_answer = {
                name: torch.empty(there.shape, dtype=there.dtype, pin_memory=True)
                for name, there in answer.items()
            }
            self._copies = [(there, self._host_answer[name]) for name, there in answer.items()]
        except RuntimeError as error:
            line = first_line(error)
            raise ModelFileError(
                f"{self._name} cannot be run on an input of {'x'.join(map(str, images.shape))}: "
                f"{line}"
            ) from error
        self._shape = images.shape


def captured(
    network: Callable[[torch.Tensor], Tensors], images: torch.Tensor, stream: torch.cuda.Stream
) -> Prepared:
    """A network as a CUDA graph: what replays it, and where its outputs lie.

    In float32 without TF32, which cuDNN would use by default: kernels are chosen here.
    """
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
    with torch.no_grad(), exact:
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_CALLS):
                network(images)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            answer = network(images)
    return graph.replay, answer


def no_gpu(runtime: str, install: str) -> str:
    """Why a runtime cannot be used where there is no GPU; empty where there is one.

    torch has to see it too, whatever the runtime is: it makes the buffers and the events.
    """
    if not nvidia_smi("--query-gpu=name", "--format=csv,noheader"):
        return (
            f"The runtime {runtime} needs an NVIDIA GPU, but nvidia-smi finds none. On a machine "
            f"that has one: {install}"
        )
    if not torch.cuda.is_available():
        return (
            f"The runtime {runtime} needs a GPU, but torch {torch.__version__} sees none. Install "
            "torch's build for your driver: https://pytorch.org/get-started/locally"
        )
    return ""
