"""torch as it is written, on the CPU: for comparison, never the denominator of a claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from compress.errors import ModelFileError, UsageError
from compress.profiling.runtime import LOGITS, Input, InputSpec, Output, Subject

# One tensor of logits, or several by name.
Answer = torch.Tensor | Mapping[str, torch.Tensor]
Network = Callable[[torch.Tensor], Any]


@dataclass(frozen=True)
class TorchEager:
    """Inference mode, float32, an explicit number of threads."""

    name: str = "torch"

    def missing(self) -> str:
        """Nothing: it is there with its package."""
        return ""

    def input_of(self, subject: Subject) -> InputSpec:
        """Open batch, the subject's image shape."""
        return input_of_network(subject)

    def precision(self, subject: Subject) -> str:
        """float32, as the network is loaded."""
        return "fp32"

    def options(self, threads: int) -> dict[str, str]:
        """The mode it runs in."""
        return {"mode": "eager, inference_mode"}

    def load(self, subject: Subject, *, threads: int, images: Input | None = None) -> TorchSession:
        """A session of the network that the subject gives."""
        network = network_of(subject).eval()
        return TorchSession(subject.name, lambda _: network, threads=threads)


class TorchSession:
    """One network in evaluation mode. Until it is closed, torch as a whole uses its threads.

    torch's number of threads is one for the process: sessions that are open at the same time
    have to be closed in the reverse order of their creation, so that it comes back.

    Args:
        name: of the model, for messages.
        network_for: gives what runs images of a shape.
        threads: that compute.
        images: of the shape to get ready for now; None: the first call does.
        mode: in which it runs.

    Raises:
        ModelFileError: there is nothing that runs images of that shape.
    """

    def __init__(
        self,
        name: str,
        network_for: Callable[[tuple[int, ...]], Network],
        *,
        threads: int,
        images: Input | None = None,
        mode: Callable[[], AbstractContextManager[None]] = torch.inference_mode,
    ) -> None:
        self._name, self._network_for, self._mode = name, network_for, mode
        self._answer: Answer = {}
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(threads)
        with ExitStack() as stack:
            stack.callback(self.close)
            if images is not None:
                network_for(images.shape)
            stack.pop_all()

    def infer(self, images: Input) -> None:
        """Runs a batch.

        Raises:
            ModelFileError: the network fails on it.
        """
        network = self._network_for(images.shape)
        with self._mode():
            self._answer = answer_of(self._name, network, images)

    def outputs(self) -> dict[str, Output]:
        """Arrays of the last call by name."""
        return {name: each.numpy() for name, each in named(self._answer).items()}

    def synchronize(self) -> None:
        """Nothing: a call on the CPU returns when it is done."""

    def close(self) -> None:
        """Puts torch's number of threads back."""
        torch.set_num_threads(self._threads_before)


def input_of_network(subject: Subject) -> InputSpec:
    """Open batch, and the image shape of a network.

    Raises:
        UsageError: the shape is not known.
    """
    if subject.input_shape is None:
        raise UsageError(
            f"The image shape of {subject.name} is not known. Give it with --shape C,H,W."
        )
    return InputSpec("images", ("batch", *subject.input_shape))


def network_of(subject: Subject) -> torch.nn.Module:
    """The network of a model, a new one each time.

    Raises:
        UsageError: it is not at hand as one.
    """
    if subject.module is None:
        raise UsageError(
            f"{subject.name} is not available as a torch network. Give its checkpoint."
        )
    return subject.module()


def answer_of(name: str, network: Network, images: Input) -> Answer:
    """What a network answers to a batch.

    Raises:
        ModelFileError: it fails on it, or answers with something else than tensors.
    """
    try:
        answer = network(torch.from_numpy(images))
    except RuntimeError as error:
        line = (str(error).splitlines() or ["RuntimeError"])[0]
        raise ModelFileError(
            f"{name} cannot be run on an input of {'x'.join(map(str, images.shape))}: {line}"
        ) from error
    if not isinstance(answer, torch.Tensor | Mapping):
        raise ModelFileError(
            f"{name} answers with {type(answer).__name__}, neither with one tensor of logits nor "
            "with named tensors."
        )
    return answer


def named(answer: Answer) -> Mapping[str, torch.Tensor]:
    """The tensors of an answer by name; one alone is the logits."""
    return {LOGITS: answer} if isinstance(answer, torch.Tensor) else answer
