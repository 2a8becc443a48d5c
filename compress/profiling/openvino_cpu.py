"""OpenVINO on the CPU, without ONNX Runtime in between.

ONNX Runtime's provider (the package onnxruntime-ep-openvino) offers no device on processors of
other makers than Intel; OpenVINO itself runs on them. benchmarks/openvino_ways.py compares the two
where both can run.
"""

from __future__ import annotations

import functools
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from compress.errors import ModelFileError, UsageError
from compress.onnx_file import fault_of, precision_of_file
from compress.profiling.runtime import (
    Input,
    InputSpec,
    Output,
    Subject,
    input_of_onnx,
    one_input,
    path_of,
)

TELEMETRY = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """The package ``openvino``, which tells nobody that it was imported.

    Importing it sends an event to its makers unless the user's home holds a file that forbids it.
    Where the package that sends cannot be imported, OpenVINO does without.
    """
    known = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[TELEMETRY]
        if known is not None:
            sys.modules[TELEMETRY] = known


ov = import_openvino()


@functools.cache
def _core() -> Any:
    """The one ``Core`` of this process, which is never freed.

    Where the processor has wide registers, the CPU plugin of a ``Core`` gives the thread a stack of
    its own for signal handlers, and puts back the one that it found when it is freed. Of two that
    overlap, the first may be freed first; the second then puts back memory that is gone, and the
    next signal ends the process with a segmentation fault.
    """
    return ov.Core()


def settings(threads: int) -> dict[str, Any]:
    """What a model is compiled with: nothing is left to what OpenVINO thinks of the machine.

    Its own choices would be bf16 where the processor has it, as many threads and streams as it
    sees cores, and threads bound to cores that something else may be running on.
    """
    return {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }


@dataclass(frozen=True)
class OpenVino:
    """float32 (int8 where the file quantises), one stream, an explicit number of threads."""

    name: str = "openvino"

    def missing(self) -> str:
        """Nothing: it is there with its package."""
        return ""

    def input_of(self, subject: Subject) -> InputSpec:
        """The one input of the file."""
        return input_of_onnx(path_of(subject, "OpenVINO"))

    def precision(self, subject: Subject) -> str:
        """int8 or bf16 where the file is; else float32, whatever the weights are stored as."""
        found = precision_of_file(path_of(subject, "OpenVINO"))
        return found if found in ("int8", "bf16") else "fp32"

    def options(self, threads: int) -> dict[str, str]:
        """What a model is compiled with."""
        return {name.lower(): str(value) for name, value in settings(threads).items()}

    def load(
        self, subject: Subject, *, threads: int, images: Input | None = None
    ) -> OpenVinoSession:
        """The file compiled for the shape of ``images``, or for any batch."""
        path = path_of(subject, "OpenVINO")
        return OpenVinoSession(path, threads=threads, images=images)


class OpenVinoSession:
    """One compiled model.

    Args:
        path: the ONNX file.
        threads: that compute; with one, the calling thread does.
        images: of the shape that it is compiled for; None leaves it open where the file does.
        profile: whether it counts what each layer takes.
        bound: whether its threads stay on the cores that they begin on.

    Raises:
        ModelFileError: the file is missing, damaged, lacks its external data, or has not exactly
            one input.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int,
        images: Input | None = None,
        profile: bool = False,
        bound: bool = False,
    ) -> None:
        try:
            core = _core()
            model = core.read_model(path)
            one_input([each.any_name for each in model.inputs], path)
            if images is not None:
                model.reshape(list(images.shape))
            compiled = core.compile_model(
                model,
                "CPU",
                settings(threads) | {"PERF_COUNT": profile, "ENABLE_CPU_PINNING": bound},
            )
        except (RuntimeError, TypeError) as error:
            raise ModelFileError(
                fault_of(path) or f"{path.name} cannot be loaded by OpenVINO: {_reason(error)}"
            ) from error
        self._name = path.name
        self._request: Any = compiled.create_infer_request()
        self._compiled: Any = compiled
        self._input: Any = None

    def infer(self, images: Input) -> None:
        """Runs a batch.

        Raises:
            ModelFileError: the model fails on it.
        """
        if self._request is None:
            raise UsageError(f"The session of {self._name} is closed.")
        try:
            # The input is not copied, and what comes out stays in the request's own memory.
            self._input = ov.Tensor(np.require(images, requirements=["C", "W"]), shared_memory=True)
            self._request.set_input_tensor(self._input)
            self._request.infer(share_outputs=True)
        except RuntimeError as error:
            raise ModelFileError(
                f"{self._name} cannot be run on an input of {'x'.join(map(str, images.shape))}: "
                f"{_reason(error)}"
            ) from error

    def outputs(self) -> dict[str, Output]:
        """Arrays of the last call by name, copied out of the request's memory."""
        return {
            each.any_name: np.array(self._request.get_tensor(each).data)
            for each in self._compiled.outputs
        }

    def layers(self) -> list[tuple[str, str, float]]:
        """Name, kind and seconds of every layer: the mean of all calls, in whole microseconds.

        Operations that were fused into others are told too, with no time.
        """
        return [
            (each.node_name, f"{each.node_type} {each.exec_type}", each.real_time.total_seconds())
            for each in self._request.get_profiling_info()
        ]

    def origins(self) -> dict[str, tuple[str, ...]]:
        """Layer that is executed -> the operations of the file that it was made of."""
        found = {}
        for node in self._compiled.get_runtime_model().get_ordered_ops():
            said = node.get_rt_info()
            if said["layerType"].astype(str) not in ("Const", "Input", "Output"):
                names = said["originalLayersNames"].astype(str).split(",")
                found[node.get_friendly_name()] = tuple(names)
        return found

    def synchronize(self) -> None:
        """Nothing: a call on the CPU returns when it is done."""

    def close(self) -> None:
        """Frees the compiled model and its threads."""
        self._request = self._compiled = self._input = None


def _reason(error: Exception) -> str:
    """The last line that says something: those before it name OpenVINO's own source files."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check "))]
    return (said or [type(error).__name__])[-1]
