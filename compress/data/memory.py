"""How much memory there is to be had."""

from __future__ import annotations

from pathlib import Path

import torch

from compress.launched import place

# Of the memory that is free, what one thing may take to be kept there.
SHARE = 0.25
# What is taken to be free where the system does not say it.
UNKNOWN_BYTES = 4 * 1024**3


def fits(size_bytes: float, device: torch.device) -> bool:
    """Whether a thing of that size may be kept in the device's memory beside all the others.

    Processes that were started together share a CPU's memory; each has a GPU to itself.
    """
    copies = 1 if device.type == "cuda" else place().local_size
    return copies * size_bytes <= SHARE * free_bytes(device)


def free_bytes(device: torch.device, root: Path = Path("/")) -> int:
    """Bytes of the device's memory that nobody uses.

    Args:
        device: of the CPU, what the system says is available, and no more than the control group
            allows.
        root: of the file system, for tests.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = UNKNOWN_BYTES
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = 1024 * int(line.split()[1])
    group = root / "sys/fs/cgroup"
    limit, used = (_lines(group / f"memory.{name}") for name in ("max", "current"))
    if limit and used and limit[0].isdigit():
        # Files that were read and not looked at lately count as used, and give way.
        stat = dict(line.split() for line in _lines(group / "memory.stat"))
        in_use = int(used[0]) - int(stat.get("inactive_file", 0))
        free = min(free, max(0, int(limit[0]) - in_use))
    return free


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
