from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from compress.profiling import machine

CPUINFO = """\
processor\t: 0
model name\t: Some CPU @ 2.00GHz
cpu MHz\t\t: 1999.998
flags\t\t: fpu avx2 avx512f avx512_vnni amx_tile amx_int8 hypervisor

processor\t: 1
model name\t: Some CPU @ 2.00GHz
cpu MHz\t\t: 2411.021
flags\t\t: fpu avx2 avx512f avx512_vnni amx_tile amx_int8 hypervisor
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_this_machine_has_a_name_and_cpus() -> None:
    found = machine.fingerprint()
    assert found.cpu
    assert 1 <= found.cores <= found.cpus <= found.machine_cpus == os.cpu_count()
    assert found.engines["onnxruntime"]
    assert found == machine.fingerprint()
    assert machine.default_threads() == found.cores


def test_the_digest_is_stable_and_changes_with_anything() -> None:
    found = machine.fingerprint()
    assert len(found.digest) == 16
    assert found.digest == machine.fingerprint().digest == found.to_dict()["digest"]
    for other in (
        replace(found, cpus=found.cpus + 1),
        replace(found, isa=(*found.isa, "more")),
        replace(found, engines=found.engines | {"onnxruntime": "0"}),
    ):
        assert other.digest != found.digest


def root_of(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@linux
def test_x86_is_read_from_cpuinfo_without_its_clock_rate(tmp_path: Path) -> None:
    root = root_of(tmp_path, {"proc/cpuinfo": CPUINFO})
    found = machine.fingerprint(root)
    assert found.cpu == "Some CPU @ 2.00GHz"
    assert found.isa == ("avx2", "avx512f", "avx512_vnni", "amx")
    assert found.virtual
    (root / "proc/cpuinfo").write_text(CPUINFO.replace("1999.998", "800.0"))
    assert machine.fingerprint(root).digest == found.digest


@linux
def test_arm_is_read_too(tmp_path: Path) -> None:
    found = machine.fingerprint(root_of(tmp_path, {"proc/cpuinfo": ARM}))
    assert found.isa == ("neon", "dotprod")
    assert found.cpu == "implementer 0x41 part 0xd0c"
    assert not found.virtual


@linux
@pytest.mark.parametrize(
    "files",
    [
        {
            "proc/self/cgroup": "0::/box\n",
            "sys/fs/cgroup/cpu.max": "max 100000\n",
            "sys/fs/cgroup/box/cpu.max": "50000 100000\n",
        },
        {
            "proc/self/cgroup": "0::/box/inner\n",
            "sys/fs/cgroup/box/cpu.max": "100000 100000\n",
        },
        {
            "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/box\n",
            "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "80000\n",
            "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
        },
    ],
)
def test_a_quota_of_one_cpu_leaves_one(tmp_path: Path, files: dict[str, str]) -> None:
    found = machine.fingerprint(root_of(tmp_path, files))
    assert (found.cpus, found.cores) == (1, 1)


@linux
def test_no_quota_leaves_all(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "1:cpu:/\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    assert machine.fingerprint(root_of(tmp_path, files)).cpus == len(machine.allowed_cpus())


@linux
def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    siblings = {
        f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": "0-63\n"
        for cpu in machine.allowed_cpus()
    }
    assert machine.fingerprint(root_of(tmp_path, siblings)).cores == 1


@linux
def test_a_gpu_is_read_from_its_driver(tmp_path: Path) -> None:
    files = {
        "proc/driver/nvidia/version": "NVRM version: NVIDIA Kernel Module  570.1.2  now\n",
        "proc/driver/nvidia/gpus/0000:01/information": "Model: \t\t NVIDIA H100\nIRQ: 1\n",
    }
    found = machine.fingerprint(root_of(tmp_path, files))
    assert (found.gpu, found.driver) == ("NVIDIA H100", "570.1.2")
    assert machine.fingerprint(tmp_path / "none").gpu == ""


def test_all_cpus_are_shared_cpus() -> None:
    assert machine.shares_cores(machine.fingerprint().cpus)


@pytest.mark.parametrize(("virtual", "headroom"), [(True, 0.2), (False, 0.03)])
def test_more_of_a_budget_is_left_free_on_a_virtual_machine(
    virtual: bool, headroom: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = replace(machine.fingerprint(), virtual=virtual)
    monkeypatch.setattr(machine, "fingerprint", lambda: here)
    assert machine.default_headroom() == headroom
