from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compress.data import memory

CPU = torch.device("cpu")


def machine(root: Path, limit: str | None = None) -> Path:
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:    4000 kB\n")
    if limit is not None:
        (root / "sys/fs/cgroup").mkdir(parents=True)
        (root / "sys/fs/cgroup/memory.max").write_text(f"{limit}\n")
        (root / "sys/fs/cgroup/memory.current").write_text("1000000\n")
    return root


@pytest.mark.parametrize(
    ("limit", "free"), [(None, 4096000), ("max", 4096000), ("3000000", 2000000), ("5", 0)]
)
def test_the_control_group_s_limit_counts(tmp_path: Path, limit: str | None, free: int) -> None:
    assert memory.free_bytes(CPU, machine(tmp_path, limit)) == free


def test_files_that_were_read_once_leave_room(tmp_path: Path) -> None:
    root = machine(tmp_path, "3000000")
    (root / "sys/fs/cgroup/memory.stat").write_text("anon 300000\ninactive_file 600000\n")
    assert memory.free_bytes(CPU, root) == 2600000


def test_where_nothing_is_known_a_little_is_taken_to_be_free(tmp_path: Path) -> None:
    assert memory.free_bytes(CPU, tmp_path) == memory.UNKNOWN_BYTES


def test_a_quarter_is_for_one_thing() -> None:
    free = memory.free_bytes(CPU)
    assert free > 0
    assert memory.fits(0.2 * free, CPU)
    assert not memory.fits(free, CPU)
