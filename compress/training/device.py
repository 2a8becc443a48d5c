"""The device that trains."""

from __future__ import annotations

import torch

from compress.errors import UsageError
from compress.launched import place as launched_place


def choose_device(name: str) -> torch.device:
    """'auto' -> the GPU where there is one, else the CPU.

    Of several processes on a machine each gets a GPU of its own.

    Raises:
        UsageError: a GPU was asked for and there is none, or fewer than processes.
    """
    here = launched_place()
    if here.size > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
        if here.local_size > torch.cuda.device_count():
            raise UsageError(
                f"{here.local_size} processes were started here, but torch sees "
                f"{torch.cuda.device_count()} GPUs. Give torchrun --nproc-per-node "
                f"{torch.cuda.device_count()}, or --device cpu."
            )
        torch.cuda.set_device(here.local_rank)
        return torch.device("cuda", here.local_rank)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device is cuda, but torch sees no GPU. Use --device cpu.")
    if name not in ("cpu", "cuda"):
        raise UsageError(f"--device is '{name}'. It must be auto, cpu or cuda.")
    return torch.device(name)
