"""The packages that build and run engines: TensorRT, and TensorRT for RTX under the same names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from compress.errors import UnknownName, UsageError, first_line

Say = Callable[[str], None]


@dataclass(frozen=True)
class Package:
    """A package that builds engines.

    Attributes:
        name: what ``--to`` and ``--runtime`` call it.
        module: that is imported.
        timing_cache: whether what a build measured of kernels serves later builds. TensorRT for
            RTX compiles for the GPU when an engine is loaded, and measures nothing before.
    """

    name: str
    module: str
    timing_cache: bool

    @property
    def install(self) -> str:
        """How to get it."""
        return f'python -m pip install "compress-distill[{self.name}]"'


PACKAGES = {
    "tensorrt": Package("tensorrt", "tensorrt", timing_cache=True),
    "tensorrt-rtx": Package("tensorrt-rtx", "tensorrt_rtx", timing_cache=False),
}


def package_named(name: str) -> Package:
    """The package of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in PACKAGES:
        raise UnknownName("engine builder", name, PACKAGES)
    return PACKAGES[name]


def import_package(package: Package) -> ModuleType:
    """The package's module.

    Raises:
        UsageError: it is not installed, or its libraries are not.
    """
    try:
        return importlib.import_module(package.module)
    except ModuleNotFoundError as error:
        if error.name == package.module:
            raise UsageError(
                f"{package.name} is not installed. Install it: {package.install}"
            ) from error
        raise UsageError(_without_libraries(package, error)) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise UsageError(_without_libraries(package, error)) from error


def _without_libraries(package: Package, error: Exception) -> str:
    line = first_line(error)
    return (
        f"{package.name} is installed, but its libraries cannot be loaded ({line}). pip gets them "
        f"from NVIDIA's package index: {package.install}"
    )


def logger(trt: Any, say: Say) -> Any:
    """What the package tells of its work: warnings and errors, to ``say``."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        """The package takes no other kind of object."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.WARNING:
                say(f"{severity.name.lower().replace('_', ' ')}: {message.strip()}")

    return Logger()
