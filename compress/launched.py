"""Which process this is of those that a launcher started together. Standard library only."""

from __future__ import annotations

import os
from dataclasses import dataclass

from compress.errors import UsageError


@dataclass(frozen=True)
class Place:
    """A process among several; ``torchrun`` says it in the environment.

    Attributes:
        rank: among all, from 0.
        size: how many there are.
        local_rank: among those on this machine.
        local_size: how many there are on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0


def place() -> Place:
    """This process's; one alone where no launcher said anything.

    Raises:
        UsageError: what the environment says cannot be.
    """
    names = {"rank": "RANK", "size": "WORLD_SIZE"}
    if not all(name in os.environ for name in names.values()):
        return Place()
    names |= {"local_rank": "LOCAL_RANK", "local_size": "LOCAL_WORLD_SIZE"}
    try:
        found = Place(**{key: int(os.environ[n]) for key, n in names.items() if n in os.environ})
    except ValueError as error:
        raise UsageError(
            f"The environment variables {', '.join(names.values())} must be numbers: {error}. "
            "`torchrun` sets them."
        ) from error
    if not 0 <= found.rank < found.size:
        raise UsageError(
            f"The environment has RANK={found.rank} with WORLD_SIZE={found.size}. `torchrun` sets "
            "both; without it, unset them."
        )
    return found
