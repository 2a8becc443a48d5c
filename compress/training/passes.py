"""How a student's passes and a training's arithmetic are carried out.

Nothing here changes what is computed but the last bits, with bfloat16 more of them, and what
dropout draws.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch import config

from compress.exporting.fake_quantize import FakeQuantized
from compress.models.network import FEATURES, LOGITS, Network

# What a training can be of: a float network, or one whose numbers are rounded as an int8 file's.
Learner = Network | FakeQuantized

# The mode of torch.compile by the option's name; "graphs" are CUDA graphs.
COMPILE_MODES = {"on": None, "graphs": "reduce-overhead"}


class Passes(nn.Module):
    """A network whose passes run in bfloat16 where that is safe, or compiled; all give float32.

    Args:
        network: that they are of.
        bf16: whether autocast is on.
        compiled: one of ``COMPILE_MODES``, or "off".
        batch_size: of the batches that run compiled; each size would be compiled for itself.
    """

    def __init__(
        self, network: Learner, *, bf16: bool = False, compiled: str = "off", batch_size: int = 0
    ) -> None:
        super().__init__()
        self.network = network
        self.bf16 = bf16
        self.batch_size = batch_size if compiled != "off" else 0
        self.graphs = compiled == "graphs"
        self._compiled: Callable[[Tensor], Tensor] | None = None
        if compiled != "off":
            # The classifier is one layer, and a method may ask for several gradients that go
            # through it: with CUDA graphs the second would overwrite the first.
            self._compiled = torch.compile(
                network.features, dynamic=False, mode=COMPILE_MODES[compiled]
            )

    def forward(self, x: Tensor) -> Tensor:
        """See ``Network``: logits [b, C]."""
        if self._runs_compiled(x):
            return self.classify(self._features(x))
        return self._run(self.network, x)

    def outputs(self, x: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
        """See ``Network``; a pass that gives inner maps is not compiled."""
        if not {FEATURES, LOGITS}.issuperset(wanted):
            with self._autocast(x):
                found = self.network.outputs(x, wanted)
            return {name: t.float() for name, t in found.items()}
        found = {FEATURES: self._features(x)}
        if LOGITS in wanted:
            found[LOGITS] = self.classify(found[FEATURES])
        return {name: found[name] for name in wanted}

    def _features(self, x: Tensor) -> Tensor:
        if self._compiled is None or not self._runs_compiled(x):
            return self._run(self.network.features, x)
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()
        return self._run(self._compiled, x)

    def classify(self, features: Tensor) -> Tensor:
        """See ``Network``: logits [b, C] of a feature map."""
        return self._run(self.network.classify, features)

    @property
    def classifier(self) -> nn.Module:
        """See ``Network``: what ``classify`` has parameters in."""
        return self.network.classifier

    def _runs_compiled(self, x: Tensor) -> bool:
        return self.training and len(x) == self.batch_size

    def _run(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with self._autocast(x):
            return function(x).float()

    def _autocast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16)


class Average:
    """An exponential moving average of a network's weights and running statistics.

    Of the first steps it forgets faster, by (1 + t) / (10 + t) in step t, so that the first
    weights do not weigh long.

    Args:
        network: that it is of.
        decay: what remains of the average in a step.
    """

    def __init__(self, network: Learner, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay
        self._steps = 0

    def update(self, network: nn.Module) -> None:
        """Takes up the network as it is after a step."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        mine, theirs = self.network.state_dict(), network.state_dict()
        numbers = [name for name, tensor in mine.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [mine[name] for name in numbers], [theirs[name] for name in numbers], 1 - decay
        )
        for name in mine.keys() - set(numbers):
            mine[name].copy_(theirs[name])

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` takes back."""
        return {"steps": self._steps, "network": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts a state back."""
        self._steps = state["steps"]
        self.network.load_state_dict(state["network"])


@contextmanager
def _several_gradients() -> Iterator[None]:
    """A compiled pass allows one gradient by default, and a method may ask for several."""
    with config.patch(donated_buffer=False):
        yield


@contextmanager
def arithmetic(device: torch.device, *, tf32: bool, deterministic: bool) -> Iterator[None]:
    """Sets how a GPU computes for as long as the block lasts; a CPU is bit-equal anyway.

    Args:
        device: that trains.
        tf32: whether float32 products may take TF32, with 10 bits of mantissa.
        deterministic: the same bits every time; else the fastest kernels, found by trying.
    """
    if device.type != "cuda":
        with _several_gradients():
            yield
        return
    cudnn: Any = torch.backends.cudnn
    matmul, conv = torch.backends.cuda.matmul, cudnn.conv
    before = (
        matmul.fp32_precision,
        conv.fp32_precision,
        cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
    )
    if deterministic:
        # torch asks for it, and cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    matmul.fp32_precision = conv.fp32_precision = "tf32" if tf32 else "ieee"
    cudnn.benchmark = not deterministic
    torch.use_deterministic_algorithms(deterministic)
    try:
        with _several_gradients():
            yield
    finally:
        matmul.fp32_precision, conv.fp32_precision, cudnn.benchmark, was = before
        torch.use_deterministic_algorithms(was)


def rounding(device: torch.device) -> str:
    """What the last bits of a network's outputs depend on, as it is set now."""
    if device.type == "cpu":
        return str(torch.get_num_threads())
    cudnn: Any = torch.backends.cudnn
    return f"{cudnn.conv.fp32_precision} {torch.are_deterministic_algorithms_enabled()}"
