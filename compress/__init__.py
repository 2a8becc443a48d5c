"""Teacher and budget in, a student that keeps it out.

import compress

student = compress.distill(teacher="resnet56.th", data="cifar10.npz", budget_ms=2, say=print)

Each function does what the command of its name does, with the same options and defaults; ``train``,
``select``, ``profile``, ``check``, ``self_test``, ``update_baseline``, ``export`` and ``evaluate``
are the others. What cannot be done is a ``compress.CompressError``, whose kinds are in
``compress.errors``. Nothing is printed: ``say`` is called with a sentence of what is being done.

This import loads neither torch nor numpy; the first call does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from compress.environment import keep_to_this_machine
from compress.version import __version__

if TYPE_CHECKING:
    from compress.api.baseline import update_baseline
    from compress.api.check import check, self_test
    from compress.api.distill import distill
    from compress.api.evaluate import evaluate
    from compress.api.export import export
    from compress.api.profile import profile
    from compress.api.select import select
    from compress.api.train import train
    from compress.errors import CompressError

__all__ = [
    "CompressError",
    "__version__",
    "check",
    "distill",
    "evaluate",
    "export",
    "profile",
    "select",
    "self_test",
    "train",
    "update_baseline",
]

_MODULES = {
    "CompressError": "compress.errors",
    "check": "compress.api.check",
    "distill": "compress.api.distill",
    "evaluate": "compress.api.evaluate",
    "export": "compress.api.export",
    "profile": "compress.api.profile",
    "select": "compress.api.select",
    "self_test": "compress.api.check",
    "train": "compress.api.train",
    "update_baseline": "compress.api.baseline",
}
"""Where what this module offers is defined; it is imported when it is first asked for."""

keep_to_this_machine()


if not TYPE_CHECKING:  # or type checkers would believe that there is every name

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module 'compress' has no attribute '{name}'")
        found = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
