"""Two processes that train together, as torchrun would start them."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from compress.training.team import Team, joined

START_S = 200.0


def context() -> Any:
    """Starts processes from one that has imported torch and computed nothing."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tests.training.toy", "tests.training.pair"])
    return server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def start(function: Callable[[Team, Path], None], folder: Path, size: int = 2) -> list[Any]:
    """Processes that call ``function`` with their team and the folder."""
    port = free_port()
    processes = [
        context().Process(target=_enter, args=(function, folder, rank, size, port))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    return processes


def run(function: Callable[[Team, Path], None], folder: Path, size: int = 2) -> list[int]:
    """Their exit codes."""
    processes = start(function, folder, size)
    for process in processes:
        process.join(START_S)
    return [process.exitcode for process in processes]


def _enter(
    function: Callable[[Team, Path], None], folder: Path, rank: int, size: int, port: int
) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    with joined("cpu") as team:
        function(team, folder)
