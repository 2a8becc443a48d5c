"""Two processes that train together, as torchrun would start them."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from compress.training.team import Team, process_group

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


def start(
    function: Callable[[Team, Path], None],
    folder: Path,
    size: int = 2,
    *,
    store: TCPStore | None = None,
    before: Callable[[int], None] | None = None,
) -> list[Any]:
    """Processes that call ``function`` with their team and the folder.

    Args:
        function: what each of them does.
        folder: for what they leave.
        size: how many there are.
        store: the launcher's, where it has one that outlives them.
        before: is called with the rank before they join.
    """
    port = free_port() if store is None else store.port
    place = {"MASTER_PORT": str(port)}
    if store is not None:
        place["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    processes = [
        context().Process(target=_enter, args=(function, folder, rank, size, place, before))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    return processes


def run(
    function: Callable[[Team, Path], None], folder: Path, size: int = 2, **more: Any
) -> list[int]:
    """Their exit codes."""
    processes = start(function, folder, size, **more)
    for process in processes:
        process.join(START_S)
    return [process.exitcode for process in processes]


def _enter(
    function: Callable[[Team, Path], None],
    folder: Path,
    rank: int,
    size: int,
    place: Mapping[str, str],
    before: Callable[[int], None] | None,
) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        **place,
    }
    if before is not None:
        before(rank)
    with process_group("cpu") as team:
        function(team, folder)
