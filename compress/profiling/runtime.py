"""What is timed and by what: a model in the forms that it has, a runtime, a session of the two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from compress.errors import ModelFileError, UsageError

if TYPE_CHECKING:
    from torch import nn

Input = NDArray[Any]
Output = NDArray[Any]
# What a network's only output is called where the network does not say it.
LOGITS = "logits"


class Session(Protocol):
    """A loaded model, ready to be called."""

    def infer(self, images: Input) -> None:
        """Runs the model on a batch; may return before the device has finished.

        This is what is timed, so what comes out stays where the runtime leaves it. A dictionary of
        arrays would cost 0.5 us a call with ONNX Runtime and 3 us with OpenVINO
        (benchmarks/named_outputs.py).
        """
        ...

    def outputs(self) -> dict[str, Output]:
        """What came out of the last call, by name, once ``synchronize`` has returned."""
        ...

    def synchronize(self) -> None:
        """Waits until everything that was asked for is done."""
        ...

    def close(self) -> None:
        """Gives back what the session holds."""
        ...


@dataclass(frozen=True)
class DeviceTimes:
    """One call as a device's own events tell it, in seconds.

    Attributes:
        total_s: from before the images are copied to it until its answer is copied back.
        copies_s: of that, the copies.
    """

    total_s: float
    copies_s: float


@runtime_checkable
class DeviceSession(Protocol):
    """A session whose device has a clock of its own, which tells its work from what starts it."""

    def device_times(self) -> DeviceTimes:
        """The times of the last call, once ``synchronize`` has returned."""
        ...


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
    """

    name: str
    path: Path | None = None
    module: Callable[[], nn.Module] | None = None
    loader: Callable[[], nn.Module] | None = None
    imports: tuple[str, ...] = ()
    input_shape: tuple[int, ...] | None = None
    params: int | None = None
    size_bytes: int | None = None


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


def path_of(subject: Subject, engine: str) -> Path:
    """The ONNX file of a model.

    Raises:
        UsageError: it is not at hand as one.
    """
    if subject.path is None:
        raise UsageError(f"{subject.name} is not an ONNX file, but {engine} reads only these.")
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
            f"{path.name} has {len(names)} inputs ({told}), but an image model has one."
        )


def input_of_onnx(path: Path) -> InputSpec:
    """The one input of an ONNX file, as the file describes it.

    Raises:
        ModelFileError: the file is damaged or not whole, or has not exactly one input.
    """
    from compress import onnx_file  # onnx takes a while to import

    found = onnx_file.input_of(path)
    return InputSpec(found.name, found.shape or (), found.dtype)
