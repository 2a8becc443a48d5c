"""torch.compile on the CPU."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from compress.profiling.runtime import Input, InputSpec, Subject
from compress.profiling.torch_eager import (
    Network,
    TorchSession,
    answer_of,
    input_of_network,
    network_of,
)

# Code is made for one shape and one network at a time, and torch counts them all as one function;
# beyond its own limit of 8 it would go on without compiling, and say so in its log only.
RECOMPILE_LIMIT = 256

# Network, threads, shape of the images.
Key = tuple[Subject, int, tuple[int, ...]]


@dataclass(frozen=True)
class TorchCompile:
    """Inductor, weights frozen, channels last, float32, an explicit number of threads.

    Frozen weights let batch normalisation be folded: less code, so that compiling takes a third
    as long, and the code is no slower. Channels last makes a WRN-16-4 6% faster and leaves a
    ResNet-20 as it is.

    What was compiled is kept by this object: a later session of the same network, threads and
    shape takes it as it is, for compiling once a round would take minutes.
    """

    name: str = "torch-compile"
    _kept: dict[Key, Network] = field(default_factory=dict, repr=False, compare=False)

    def missing(self) -> str:
        """A C++ compiler, where there is none."""
        if any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")):
            return ""
        return (
            "The runtime torch-compile needs a C++ compiler. Install it: apt install g++ "
            "(Debian), xcode-select --install (macOS)."
        )

    def input_of(self, subject: Subject) -> InputSpec:
        """Open batch, the subject's image shape."""
        return input_of_network(subject)

    def precision(self, subject: Subject) -> str:
        """float32, as the network is loaded."""
        return "fp32"

    def options(self, threads: int) -> dict[str, str]:
        """What it is compiled with."""
        return {
            "mode": "inductor, no_grad",
            "freezing": "on",
            "memory_format": "channels_last",
            "sessions": "compiled once, not anew each round",
        }

    def load(self, subject: Subject, *, threads: int, images: Input | None = None) -> TorchSession:
        """A session of the network; it is compiled now for the shape of ``images``."""
        compiled = partial(self._compiled, subject, threads)
        return TorchSession(
            subject.name, compiled, threads=threads, images=images, mode=torch.no_grad
        )

    def _compiled(self, subject: Subject, threads: int, shape: tuple[int, ...]) -> Network:
        """The network for images of a shape; the first of its shape compiles."""
        key = (subject, threads, shape)
        if key not in self._kept:
            network = network_of(subject).eval().to(memory_format=torch.channels_last)
            with compile_settings(), torch.no_grad():
                compiled: Network = torch.compile(network, fullgraph=True, dynamic=False)
                answer_of(subject.name, compiled, np.zeros(shape, np.float32))
            self._kept[key] = compiled
        return self._kept[key]


def compile_settings() -> AbstractContextManager[Any]:
    """What torch reads while it compiles."""
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    stack = ExitStack()
    # In this process: a pool of compiling processes would go on beside what is measured.
    stack.enter_context(inductor.patch(freezing=True, compile_threads=1))
    stack.enter_context(
        dynamo.patch(recompile_limit=RECOMPILE_LIMIT, accumulated_recompile_limit=RECOMPILE_LIMIT)
    )
    return stack
