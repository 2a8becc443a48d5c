"""What a model can be run by: one small protocol, and the runtimes that there are.

To add a runtime, write a file beside this and an entry in ``RUNTIMES``.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from compress.engines.package import PACKAGES
from compress.errors import ModelFileError, UnknownName, UsageError
from compress.profiling.protocol import Input, Session
from compress.units import format_bytes

if TYPE_CHECKING:
    from torch import nn


# A batch of images that takes more is none that is served.
MAX_INPUT_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Subject:
    """One model, in the forms in which it is at hand.

    Attributes:
        name: in messages and tables.
        path: an ONNX file.
        module: gives the network for torch, a new one at each call.
        loader: gives it from its file, in a fresh process; has to be picklable, as a
            ``functools.partial`` of a function is. None: nothing is measured there.
        imports: modules that ``loader`` needs; imported before anything is measured.
        input_shape: channels, height, width, where ``module`` is given.
        params: parameters of the network as it was trained, where they are known.
        size_bytes: of the checkpoint that ``module`` comes from.
        output: of the file, that its answers are; None for the first.
    """

    name: str
    path: Path | None = None
    module: Callable[[], nn.Module] | None = None
    loader: Callable[[], nn.Module] | None = None
    imports: tuple[str, ...] = ()
    input_shape: tuple[int, ...] | None = None
    params: int | None = None
    size_bytes: int | None = None
    output: str | None = None


@dataclass(frozen=True)
class InputSpec:
    """The one input of a model; a dimension is a number, or the name of an open one."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"


class Runtime(Protocol):
    """Loads models."""

    @property
    def name(self) -> str:
        """What ``--runtime`` calls it."""
        ...

    def missing(self) -> str:
        """Why it cannot run on this machine though its package is there, and what to do; or ""."""
        ...

    def input_of(self, subject: Subject) -> InputSpec:
        """What the model wants to be called with.

        Raises:
            ModelFileError: the model cannot be loaded, or has not exactly one input.
        """
        ...

    def precision(self, subject: Subject) -> str:
        """'fp32', 'fp16', 'int8' ...: what it computes in."""
        ...

    def options(self, threads: int) -> dict[str, str]:
        """What else was set, to be recorded with the figures."""
        ...

    def load(self, subject: Subject, *, threads: int, images: Input | None = None) -> Session:
        """A session with that many threads.

        Args:
            subject: the model.
            threads: that compute, the calling one among them.
            images: a batch like those that the session will be called with. Runtimes that make
                code for one shape make it now, so that it belongs to loading; without it the
                first call does.

        Raises:
            ModelFileError: the model cannot be loaded.
            UsageError: the model is not at hand in the form that this runtime needs.
        """
        ...


@dataclass(frozen=True)
class Entry:
    """A runtime that this package knows.

    Attributes:
        module: that has to be importable.
        install: the command that installs it.
        make: makes the runtime once it is there.
        takes: the form of a model that it runs: "onnx" (a file) or "torch" (a network).
        device: "cpu" or "cuda".
        activations: the type that int8 files should have for it: uint8 with a zero point, or int8
            without one.
    """

    module: str
    install: str
    make: Callable[[], Runtime]
    takes: str = "onnx"
    device: str = "cpu"
    activations: str = "uint8"


def _onnxruntime() -> Runtime:
    from compress.profiling.onnxruntime_cpu import OnnxRuntimeCpu

    return OnnxRuntimeCpu()


def _onnxruntime_cuda() -> Runtime:
    from compress.profiling.onnxruntime_cuda import OnnxRuntimeCuda

    return OnnxRuntimeCuda()


def _onnxruntime_tensorrt() -> Runtime:
    from compress.profiling.onnxruntime_cuda import TENSORRT, OnnxRuntimeCuda

    return OnnxRuntimeCuda("onnxruntime-tensorrt", TENSORRT)


def _tensorrt(name: str) -> Runtime:
    from compress.profiling.tensorrt_gpu import TensorRt

    return TensorRt(name)


def _openvino() -> Runtime:
    from compress.profiling.openvino_cpu import OpenVino

    return OpenVino()


def _torch() -> Runtime:
    from compress.profiling.torch_eager import TorchEager

    return TorchEager()


def _torch_compile() -> Runtime:
    from compress.profiling.torch_compiled import TorchCompile

    return TorchCompile()


def _torch_cuda() -> Runtime:
    from compress.profiling.torch_cuda import TorchCuda

    return TorchCuda()


def _torch_compile_cuda() -> Runtime:
    from compress.profiling.torch_cuda import TorchCuda

    return TorchCuda("torch-compile-cuda", compiled=True)


_ORT = ("onnxruntime", "python -m pip install onnxruntime")
_TORCH = ("torch", "python -m pip install torch")

# Nothing is imported before it is needed: a process that measures memory must not hold a second
# engine. The order is that of tables; of runtimes that are equally fast the first is taken.
RUNTIMES: dict[str, Entry] = {
    "onnxruntime": Entry(*_ORT, _onnxruntime),
    "openvino": Entry("openvino", "python -m pip install openvino", _openvino),
    "onnxruntime-cuda": Entry(*_ORT, _onnxruntime_cuda, device="cuda"),
    "onnxruntime-tensorrt": Entry(*_ORT, _onnxruntime_tensorrt, device="cuda", activations="int8"),
    **{
        name: Entry(
            package.module,
            package.install,
            partial(_tensorrt, name),
            device="cuda",
            activations="int8",
        )
        for name, package in PACKAGES.items()
    },
    "torch": Entry(*_TORCH, _torch, takes="torch"),
    "torch-compile": Entry(*_TORCH, _torch_compile, takes="torch"),
    "torch-cuda": Entry(*_TORCH, _torch_cuda, takes="torch", device="cuda"),
    "torch-compile-cuda": Entry(*_TORCH, _torch_compile_cuda, takes="torch", device="cuda"),
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


def path_of(subject: Subject, engine: str) -> Path:
    """The ONNX file of a model.

    Raises:
        UsageError: it is not at hand as one.
    """
    if subject.path is None:
        raise UsageError(f"{subject.name} is not an ONNX file, and {engine} reads no other.")
    return subject.path


def one_input(names: Sequence[str], path: Path) -> None:
    """Refuses a file with another number of inputs than one.

    Args:
        names: of its inputs.
        path: the file.

    Raises:
        ModelFileError: there is none, or more than one.
    """
    if len(names) != 1:
        told = ", ".join(f"'{name}'" for name in names) or "none"
        raise ModelFileError(
            f"{path.name} has {len(names)} inputs ({told}); an image model has one."
        )


def input_of_onnx(path: Path) -> InputSpec:
    """The one input of an ONNX file, as the file describes it.

    Raises:
        ModelFileError: the file is damaged or not whole, or has not exactly one input.
    """
    from compress import onnx_file  # onnx takes a while to import

    found = onnx_file.input_of(path)
    return InputSpec(found.name, found.shape or (), found.dtype)


def make_input(
    runtime: Runtime,
    subject: Subject,
    *,
    batch: int,
    shape: tuple[int, ...] | None = None,
    seed: int = 0,
) -> Input:
    """Seeded images for a model: standard normal, or all byte values for an integer input.

    Args:
        runtime: says what the model wants.
        subject: the model.
        batch: images a call, where the model leaves the first dimension open.
        shape: what the other dimensions are, where the model leaves them open.
        seed: of the values.

    Raises:
        UsageError: an open dimension has no value, or a fixed one has another than asked for.
        ModelFileError: the input is of a type that images do not have.
    """
    spec = runtime.input_of(subject)
    sizes = resolve_shape(spec, subject.name, batch=batch, shape=shape)
    return random_input(replace(spec, shape=sizes), subject.name, seed=seed)


def random_input(spec: InputSpec, name: str, *, seed: int) -> Input:
    """The same for an input all of whose sizes are known.

    Raises:
        UsageError: the images would take more than ``MAX_INPUT_BYTES``.
        ModelFileError: the input is of a type that images do not have.
    """
    sizes = [size for size in spec.shape if isinstance(size, int)]
    if 4 * math.prod(sizes) > MAX_INPUT_BYTES:
        raise UsageError(
            f"{name} takes '{spec.name}' of {'x'.join(map(str, sizes))}; that is "
            f"{format_bytes(4 * math.prod(sizes))} a call, and {format_bytes(MAX_INPUT_BYTES)} is "
            "the most that is tried. Give a smaller --batch or --shape where the file leaves it "
            "open."
        )
    generator = np.random.default_rng(seed)
    if spec.dtype in ("float32", "float16", "float64"):
        return generator.standard_normal(sizes, dtype=np.float32).astype(spec.dtype)
    if spec.dtype in ("uint8", "int8"):
        bounds = np.iinfo(spec.dtype)
        return generator.integers(bounds.min, bounds.max, sizes, spec.dtype, endpoint=True)
    raise ModelFileError(
        f"{name} takes '{spec.name}' as {spec.dtype}; images are float32, float16, "
        "float64, uint8 or int8. This is no image model."
    )


def resolve_shape(
    spec: InputSpec, name: str, *, batch: int, shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The sizes to call a model with: batch first, then ``shape`` where that is given.

    Raises:
        UsageError: an open dimension has no value, or a fixed one has another than asked for.
    """
    given: list[int | None] = [batch, *(shape or [None] * (len(spec.shape) - 1))]
    shown = "x".join(str(size) for size in spec.shape)
    if len(given) != len(spec.shape):
        raise UsageError(
            f"{name} takes '{spec.name}' of {len(spec.shape)} dimensions ({shown}); --shape gives "
            f"{len(given) - 1} beside the batch, it must give {len(spec.shape) - 1}."
        )
    sizes: list[int] = []
    for place, (wanted, size) in enumerate(zip(given, spec.shape, strict=True)):
        option = f"--batch {batch}" if place == 0 else f"--shape {','.join(map(str, shape or ()))}"
        if isinstance(size, str):
            if wanted is None:
                raise UsageError(
                    f"The input '{spec.name}' of {name} is {shown}: its dimension "
                    f"'{size}' is open and has no value. Give it with --shape "
                    f"{','.join(['C', 'H', 'W'][: len(spec.shape) - 1])}."
                )
            sizes.append(wanted)
        elif wanted not in (None, size):
            raise UsageError(
                f"The input '{spec.name}' of {name} is fixed at {shown}; {option} does not fit "
                f"its dimension {place}, which is {size}."
            )
        else:
            sizes.append(size)
    return tuple(sizes)
