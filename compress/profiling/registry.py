"""The runtimes that there are. To add one, write a file beside this and a line in ``RUNTIMES``."""

from __future__ import annotations

import importlib.util
import pkgutil
from dataclasses import dataclass

from compress.engines.package import PACKAGES
from compress.errors import UnknownName, UsageError
from compress.profiling.runtime import Runtime, Subject


@dataclass(frozen=True)
class Entry:
    """A runtime that this package knows.

    Attributes:
        made_by: the class, as ``pkgutil.resolve_name`` takes it. It is imported when it is needed
            and not before: a process that measures memory must not hold a second engine.
        arguments: of the class.
        module: that has to be importable.
        install: the command that installs it.
        takes: the form of a model that it runs: "onnx" (a file) or "torch" (a network).
        device: "cpu" or "cuda".
        activations: the type that int8 files should have for it: uint8 with a zero point, or int8
            without one.
    """

    made_by: str
    arguments: tuple[str, ...] = ()
    module: str = "onnxruntime"
    install: str = "python -m pip install onnxruntime"
    takes: str = "onnx"
    device: str = "cpu"
    activations: str = "uint8"

    def make(self) -> Runtime:
        """The runtime, whose module has to be there."""
        runtime: Runtime = pkgutil.resolve_name(self.made_by)(*self.arguments)
        return runtime


def _torch(made_by: str, *arguments: str, device: str = "cpu") -> Entry:
    install = "python -m pip install torch"
    return Entry(_HERE + made_by, arguments, "torch", install, takes="torch", device=device)


_HERE = "compress.profiling."
_OPENVINO = ("openvino", "python -m pip install openvino")

# The order is that of tables; of runtimes that are equally fast the first is taken.
RUNTIMES: dict[str, Entry] = {
    "onnxruntime": Entry(_HERE + "onnxruntime_cpu:OnnxRuntimeCpu"),
    "openvino": Entry(_HERE + "openvino_cpu:OpenVino", (), *_OPENVINO),
    "onnxruntime-cuda": Entry(_HERE + "onnxruntime_cuda:OnnxRuntimeCuda", device="cuda"),
    "onnxruntime-tensorrt": Entry(
        _HERE + "onnxruntime_cuda:OnnxRuntimeCuda",
        ("onnxruntime-tensorrt", "TensorrtExecutionProvider"),
        device="cuda",
        activations="int8",
    ),
    **{
        name: Entry(
            _HERE + "tensorrt_gpu:TensorRt",
            (name,),
            package.module,
            package.install,
            device="cuda",
            activations="int8",
        )
        for name, package in PACKAGES.items()
    },
    "torch": _torch("torch_eager:TorchEager"),
    "torch-compile": _torch("torch_compiled:TorchCompile"),
    "torch-cuda": _torch("torch_cuda:TorchCuda", device="cuda"),
    "torch-compile-cuda": _torch("torch_cuda:TorchCuda", "torch-compile-cuda", device="cuda"),
}


def runtime_named(name: str) -> Runtime:
    """The runtime of that name.

    Raises:
        UnknownName: there is none.
        UsageError: it is not installed, or not on this machine; the message says what to do.
    """
    if name not in RUNTIMES:
        raise UnknownName("runtime", name, RUNTIMES)
    fault = why_not(name)
    if fault:
        raise UsageError(fault)
    return RUNTIMES[name].make()


def why_not(name: str) -> str:
    """Why a runtime cannot be used here, and what to do about it; empty where it can."""
    entry = RUNTIMES[name]
    if importlib.util.find_spec(entry.module) is None:
        return f"The runtime {name} is not installed. Install it: {entry.install}"
    return entry.make().missing()


def available(name: str) -> bool:
    """Whether a runtime is installed and has the device that it needs."""
    return not why_not(name)


def can_run(name: str, subject: Subject) -> bool:
    """Whether a model is at hand in the form that a runtime needs."""
    return (subject.module if RUNTIMES[name].takes == "torch" else subject.path) is not None
