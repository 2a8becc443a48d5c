"""ONNX Runtime on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from compress.errors import ModelFileError, UsageError, first_line
from compress.onnx_file import fault_of, precision_of_file
from compress.profiling.machine import shares_cores
from compress.profiling.runtime import (
    Input,
    InputSpec,
    Subject,
    input_of_onnx,
    one_input,
    path_of,
)

# Everything that loading or calling may raise; they share no base but Exception.
ORT_ERRORS: tuple[type[Exception], ...] = (
    *(
        kind
        for kind in vars(ort_errors).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
    RuntimeError,
    ValueError,
)

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class OnnxRuntimeCpu:
    """Graph optimisation all, one inter-op thread, an explicit number of intra-op threads."""

    name: str = "onnxruntime"

    def missing(self) -> str:
        """Nothing: it is there with its package."""
        return ""

    def input_of(self, subject: Subject) -> InputSpec:
        """The one input of the file."""
        return input_of_onnx(path_of(subject, "ONNX Runtime"))

    def precision(self, subject: Subject) -> str:
        """The precision of the file; ONNX Runtime computes fp16 in float32 here."""
        found = precision_of_file(path_of(subject, "ONNX Runtime"))
        return "fp32" if found == "fp16" else found

    def options(self, threads: int) -> dict[str, str]:
        """What a session is created with."""
        return {
            "provider": "CPUExecutionProvider",
            "graph_optimization": "all",
            "inter_op_threads": "1",
            "spinning": "on" if spins(threads) else "off",
        }

    def load(self, subject: Subject, *, threads: int, images: Input | None = None) -> OnnxSession:
        """A session of the file."""
        path = path_of(subject, "ONNX Runtime")
        return OnnxSession(path, threads=threads)


class OnnxSession:
    """One ONNX Runtime session on the CPU.

    Args:
        path: the ONNX file.
        threads: intra-op threads, the calling one among them.
        profile: how the names of files begin that ONNX Runtime's profiler writes; None: it is off.
        tensors_only: whether outputs that are lists and dictionaries are left out, where there are
            others.

    Raises:
        ModelFileError: the file is missing, damaged, lacks its external data, or has not exactly
            one input.
    """

    def __init__(
        self, path: Path, *, threads: int, profile: Path | None = None, tensors_only: bool = True
    ) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 4
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        if not spins(threads):
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except ORT_ERRORS as error:
            raise ModelFileError(
                fault_of(path)
                or f"{path.name} cannot be loaded by ONNX Runtime: {first_line(error)}"
            ) from error
        inputs = session.get_inputs()
        one_input([each.name for each in inputs], path)
        self.input = spec_of(inputs[0])
        self._name = path.name
        self._session: ort.InferenceSession | None = session
        every = session.get_outputs()
        tensors = [each for each in every if each.type.startswith("tensor(")]
        self._names = [each.name for each in (tensors if tensors_only and tensors else every)]
        self._answer: list[Any] = []

    def infer(self, images: Input) -> None:
        """Runs a batch.

        Raises:
            ModelFileError: the model fails on it.
        """
        if self._session is None:
            raise UsageError(f"The session of {self._name} is closed.")
        try:
            self._answer = self._session.run(self._names, {self.input.name: images})
        except ORT_ERRORS as error:
            raise ModelFileError(
                f"{self._name} cannot be run on an input of {'x'.join(map(str, images.shape))}: "
                f"{first_line(error)}"
            ) from error

    def outputs(self) -> dict[str, Any]:
        """Arrays of the last call by name; lists and dictionaries of what is no tensor."""
        return dict(zip(self._names, self._answer, strict=True))

    def end_profiling(self) -> Path:
        """Ends the profile that was begun with the session, and gives its file."""
        if self._session is None:
            raise UsageError(f"The session of {self._name} is closed.")
        return Path(self._session.end_profiling())

    def synchronize(self) -> None:
        """Nothing: a call on the CPU returns when it is done."""

    def close(self) -> None:
        """Frees the session and its threads."""
        self._session = None
        self._answer = []


def spec_of(entry: Any) -> InputSpec:
    """What a session says of one of its inputs or outputs."""
    sizes = (
        size if isinstance(size, int) and size > 0 else str(size or f"dim{place}")
        for place, size in enumerate(entry.shape)
    )
    return InputSpec(entry.name, tuple(sizes), DTYPES.get(entry.type, entry.type))


def spins(threads: int) -> bool:
    """Whether idle worker threads spin, which is ONNX Runtime's default.

    They do only where they have cores for themselves: a spinning worker on a core that somebody
    else needs makes both late, and the figure a lottery. One thread has no worker.
    """
    return threads > 1 and not shares_cores(threads)
