"""torch.compile on the CPU."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch

from compress.profiling.runtime import Input, InputSpec, Output, Subject
from compress.profiling.torch_eager import Answer, answer_of, input_of_network, named, network_of

# Code is made for one shape and one network at a time, and torch counts them all as one function;
# beyond its own limit of 8 it would go on without compiling, and say so in its log only.
RECOMPILE_LIMIT = 256

Compiled = Callable[[torch.Tensor], Any]
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
    _kept: dict[Key, Compiled] = field(default_factory=dict, repr=False, compare=False)

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

    def load(
        self, subject: Subject, *, threads: int, images: Input | None = None
    ) -> CompiledSession:
        """A session of the network; it is compiled now for the shape of ``images``."""
        return CompiledSession(subject, self._kept, threads=threads, images=images)


class CompiledSession:
    """One network, compiled for each shape that it is called with.

    Until it is closed, torch as a whole uses its threads, as with ``TorchSession``.

    Args:
        subject: has the network.
        kept: what was compiled already; what is compiled here is added.
        threads: that compute.
        images: of the shape to compile for now.

    Raises:
        ModelFileError: the network cannot be compiled.
    """

    def __init__(
        self, subject: Subject, kept: dict[Key, Compiled], *, threads: int, images: Input | None
    ) -> None:
        self._subject, self._kept, self._threads = subject, kept, threads
        self._answer: Answer = {}
        self._before = torch.get_num_threads()
        torch.set_num_threads(threads)
        with ExitStack() as stack:
            stack.callback(self.close)
            if images is not None:
                self._compiled(images)
            stack.pop_all()

    def infer(self, images: Input) -> None:
        """Runs a batch; the first of its shape compiles.

        Raises:
            ModelFileError: the network cannot be compiled, or fails on it.
        """
        compiled = self._compiled(images)
        with torch.no_grad():
            self._answer = answer_of(self._subject.name, compiled, images)

    def outputs(self) -> dict[str, Output]:
        """Arrays of the last call by name."""
        return {name: each.numpy() for name, each in named(self._answer).items()}

    def synchronize(self) -> None:
        """Nothing: a call on the CPU returns when it is done."""

    def close(self) -> None:
        """Puts torch's number of threads back."""
        torch.set_num_threads(self._before)

    def _compiled(self, images: Input) -> Compiled:
        key = (self._subject, self._threads, images.shape)
        if key not in self._kept:
            network = network_of(self._subject).eval().to(memory_format=torch.channels_last)
            with compile_settings(), torch.no_grad():
                compiled: Compiled = torch.compile(network, fullgraph=True, dynamic=False)
                answer_of(self._subject.name, compiled, images)
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
