"""Small ONNX files and a clock that tells what a test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.profiling.runtime import Input, Output, Session

SEED = 7


def convolution(
    path: Path,
    *,
    input_shape: Sequence[int | str] = ("batch", 3, 8, 8),
    scale: float = 1.0,
) -> Path:
    """3x3 convolution to 4 channels with a bias, ReLU, mean over pixels, 10 logits."""
    rng = np.random.default_rng(SEED)
    weights = {
        "kernel": scale * rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "bias": rng.standard_normal(4).astype(np.float32),
        "matrix": rng.standard_normal((10, 4)).astype(np.float32),
        "axes": np.array([2, 3], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["images", "kernel", "bias"], ["maps"], "c", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["active"], "r"),
        helper.make_node("ReduceMean", ["active", "axes"], ["pooled"], "m", keepdims=0),
        helper.make_node("Gemm", ["pooled", "matrix"], ["logits"], "g", transB=1),
    ]
    return save(path, nodes, weights, [("images", input_shape)])


def products(path: Path, *, layers: int, size: int = 96) -> Path:
    """``layers`` products [batch, size] x [size, size], one after the other: work to be timed."""
    rng = np.random.default_rng(SEED)
    weights = {
        f"w{layer}": (rng.standard_normal((size, size)) / size**0.5).astype(np.float32)
        for layer in range(layers)
    }
    names = ["images", *(f"x{layer}" for layer in range(layers - 1)), "logits"]
    nodes = [
        helper.make_node("MatMul", [names[layer], f"w{layer}"], [names[layer + 1]], f"p{layer}")
        for layer in range(layers)
    ]
    return save(path, nodes, weights, [("images", ("batch", size))])


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    inputs: Sequence[tuple[str, Sequence[int | str]]],
) -> Path:
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, path)
    return path


def answer(session: Session, images: Input) -> Output:
    """The only output of a call."""
    session.infer(images)
    session.synchronize()
    (found,) = session.outputs().values()
    return found


class ScriptedClock:
    """A clock that only sessions move."""

    def __init__(self, cpu_share: float = 1.0) -> None:
        self.now_ns = 0
        self.switches = 0
        self.waited = 0
        self.cpu_share = cpu_share

    def wall_ns(self) -> int:
        return self.now_ns

    def cpu_ns(self) -> int:
        return round(self.now_ns * self.cpu_share)

    def preemptions(self) -> int | None:
        return self.switches

    def waits(self) -> int | None:
        return self.waited


class ScriptedSession:
    """Every call takes what ``durations_s`` says next."""

    def __init__(
        self,
        clock: ScriptedClock,
        durations_s: Iterator[float],
        *,
        preempted: Callable[[], bool] = lambda: False,
        output: float = 0.0,
        log: list[str] | None = None,
        name: str = "model",
    ) -> None:
        self._clock = clock
        self._durations_s = durations_s
        self._preempted = preempted
        self._output = np.full((1, 2), output, dtype=np.float32)
        self._log = log if log is not None else []
        self._name = name
        self._log.append(f"+{name}")

    def infer(self, images: Input) -> None:
        self._log.append(self._name)
        self._clock.now_ns += round(next(self._durations_s) * 1e9)
        if self._preempted():
            self._clock.switches += 1

    def outputs(self) -> dict[str, Output]:
        return {"logits": self._output}

    def synchronize(self) -> None:
        pass

    def close(self) -> None:
        self._log.append(f"-{self._name}")
