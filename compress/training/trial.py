"""How long a step takes here, from trying some."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.optim import SGD

from compress.models.network import Network
from compress.schema.rules import Positive
from compress.training.passes import Learner, Passes

# A step to warm up, then so many, or fewer where time is over.
TRIAL_STEPS = 4
TRIAL_S = 4.0
# A step of a trial computes about so much, in multiply-accumulates, so that a large network takes
# seconds and a small one is not measured by its overhead.
TRIAL_MACS = 2e10
SMALLEST_TRIAL = 8


@dataclass(frozen=True)
class Speed:
    """What a network takes here.

    Attributes:
        train_s: seconds an image of training, forth and back.
        forward_s: seconds an image of evaluation.
    """

    train_s: Positive
    forward_s: Positive


def trial_batch(batch: int, macs: int) -> int:
    """Images of a trial's step, of a network of so many multiply-accumulates an image."""
    return max(min(batch, int(TRIAL_MACS / macs)), min(batch, SMALLEST_TRIAL))


class Trial:
    """Steps of a copy of a network, with numbers that are no images.

    What a step takes depends on neither weights nor pixels, and next to nothing on the loss.

    Args:
        network: stays as it is.
        device: that it runs on.
        batch: images of a step.
        memory_format: "channels_last" or "contiguous".
        bf16, compiled: see ``Passes``.
    """

    def __init__(
        self,
        network: Learner,
        device: torch.device,
        *,
        batch: int,
        memory_format: str = "channels_last",
        bf16: bool = False,
        compiled: str = "off",
    ) -> None:
        layout = format_of(memory_format)
        self._network = copy.deepcopy(network).to(device=device, memory_format=layout)  # type: ignore[call-overload]
        self._passes = Passes(self._network, bf16=bf16, compiled=compiled, batch_size=batch)
        self._optimizer = SGD(self._network.parameters(), lr=1e-6, momentum=0.9)
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(batch, *network.spec.input_shape, generator=generator).to(device)
        self._images = images.contiguous(memory_format=layout)
        self._device = device

    def step(self) -> float:
        """Seconds of a step of training."""
        self._passes.train()
        began_s = time.perf_counter()
        loss = self._passes(self._images).square().mean()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._wait()
        return time.perf_counter() - began_s

    def forward(self) -> float:
        """Seconds of a pass of evaluation."""
        self._passes.eval()
        began_s = time.perf_counter()
        with torch.inference_mode():
            self._network(self._images)
        self._wait()
        return time.perf_counter() - began_s

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def fastest(*calls: Callable[[], float]) -> list[float]:
    """Seconds of the fastest of some calls after the first, of each, taken in turns."""
    times = [[call()] for call in calls]
    end_s = time.monotonic() + TRIAL_S
    for number in range(TRIAL_STEPS):
        if number and time.monotonic() >= end_s:
            break
        for call, found in zip(calls, times, strict=True):
            found.append(call())
    return [min(found[1:]) for found in times]


def format_of(name: str) -> torch.memory_format:
    """torch's layout of that name."""
    return {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}[name]


def time_steps(network: Network, device: torch.device, *, batch: int, bf16: bool) -> Speed:
    """Times some steps of training and of evaluation; the fastest of each counts."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        trial = Trial(network, device, batch=batch, bf16=bf16)
        (train_s,) = fastest(trial.step)
        (forward_s,) = fastest(trial.forward)
    return Speed(train_s / batch, forward_s / batch)
