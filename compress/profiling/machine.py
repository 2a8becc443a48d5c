"""What this machine is, as far as a latency depends on it. Standard library only."""

from __future__ import annotations

import functools
import math
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from compress.results import Machine

ENGINES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "torch",
)

# What the choice of a student leaves free of a budget. A virtual machine's cores are shared with
# others: of 120 files, timed again up to half an hour later, one in ten took more than 1.17 times
# what it had taken, three more than 1.25 times (benchmarks/results/budget_kept*.md).
HEADROOM, HEADROOM_VIRTUAL = 0.03, 0.2

# Our name -> how Linux (x86, then Arm) calls it.
_LINUX_FLAGS = {
    "avx2": ("avx2",),
    "avx512f": ("avx512f",),
    "avx512_vnni": ("avx512_vnni", "avx512vnni"),
    "avx512_bf16": ("avx512_bf16",),
    "avx_vnni": ("avx_vnni",),
    "amx": ("amx_tile",),
    "neon": ("asimd", "neon"),
    "dotprod": ("asimddp",),
    "i8mm": ("i8mm",),
    "sve": ("sve",),
}

# Our name -> the switch of macOS.
_MACOS_FLAGS = {
    "avx2": "hw.optional.avx2_0",
    "avx512f": "hw.optional.avx512f",
    "avx512_vnni": "hw.optional.avx512vnni",
    "avx512_bf16": "hw.optional.avx512bf16",
    "neon": "hw.optional.AdvSIMD",
    "dotprod": "hw.optional.arm.FEAT_DotProd",
    "i8mm": "hw.optional.arm.FEAT_I8MM",
}


def fingerprint(root: Path = Path("/")) -> Machine:
    """This machine and what this process may use of it.

    Args:
        root: where /proc and /sys are looked for; another one in tests.
    """
    if sys.platform == "darwin":
        cpu, isa, virtual = _macos_cpu()
    else:
        cpu, isa, virtual = _linux_cpu(_read(root / "proc/cpuinfo"))
    gpu, driver = _nvidia(root)
    cpus = allowed_cpus()
    limit = min(len(cpus), _quota(root))
    return Machine(
        cpu=cpu or platform.processor() or platform.machine(),
        isa=isa,
        cpus=limit,
        cores=max(1, min(_physical(cpus, root), limit)),
        machine_cpus=os.cpu_count() or 1,
        virtual=virtual,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        engines=_engines(),
        gpu=gpu,
        driver=driver,
    )


def default_threads() -> int:
    """The physical cores that this process may use: a second thread on a core makes none faster."""
    return fingerprint().cores


def default_headroom(virtual: bool | None = None) -> float:
    """The share of a latency budget that is left free, unless somebody says otherwise.

    Args:
        virtual: whether the machine that serves is virtual; None: it is this one.
    """
    there = fingerprint().virtual if virtual is None else virtual
    return HEADROOM_VIRTUAL if there else HEADROOM


@functools.cache
def shares_cores(threads: int) -> bool:
    """Whether sessions of that many threads have to share their cores with somebody.

    They do when they use all CPUs that the process may use (the rest of the machine's work has
    to run somewhere), when the process is confined to some of the machine's CPUs (a container
    among others), and on a virtual machine, whose CPUs are somebody's threads. It is decided
    by what the machine is, not by what runs at the moment, so that figures stay comparable.
    """
    machine = fingerprint()
    return machine.virtual or machine.cpus < machine.machine_cpus or threads >= machine.cpus


def allowed_cpus() -> frozenset[int]:
    """Numbers of the CPUs that this process may be scheduled on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _linux_cpu(cpuinfo: str) -> tuple[str, tuple[str, ...], bool]:
    def field(*names: str) -> str:
        for name in names:
            found = re.search(rf"^{name}\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
            if found:
                return found[1].strip()
        return ""

    flags = set(field("flags", "Features").split())
    isa = tuple(name for name, theirs in _LINUX_FLAGS.items() if flags.intersection(theirs))
    cpu = field("model name", "Model")
    if not cpu and field("CPU part"):
        cpu = f"implementer {field('CPU implementer')} part {field('CPU part')}"
    return cpu, isa, "hypervisor" in flags


def _macos_cpu() -> tuple[str, tuple[str, ...], bool]:
    isa = tuple(name for name, switch in _MACOS_FLAGS.items() if _sysctl(switch) == "1")
    return _sysctl("machdep.cpu.brand_string"), isa, _sysctl("kern.hv_vmm_present") == "1"


def _sysctl(name: str) -> str:
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _physical(cpus: frozenset[int], root: Path) -> int:
    """How many cores those CPUs are; threads of one core name the same siblings."""
    if sys.platform == "darwin":
        return int(_sysctl("hw.physicalcpu") or len(cpus))
    siblings = {
        _read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").strip()
        or str(cpu)
        for cpu in cpus
    }
    return len(siblings)


def _quota(root: Path) -> int:
    """CPUs that the control groups of this process grant, rounded up; a large number if any."""
    groups = root / "sys/fs/cgroup"
    found = [math.inf]
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2: one tree, every level may set a limit
            folder = groups / path.lstrip("/")
            for level in (folder, *folder.parents):
                if not level.is_relative_to(groups):
                    break
                quota, _, period = _read(level / "cpu.max").partition(" ")
                found.append(_share(quota, period))
        elif "cpu" in controllers.split(","):  # version 1; inside a container its root is ours
            for base in (groups / "cpu" / path.lstrip("/"), groups / "cpu"):
                quota = _read(base / "cpu.cfs_quota_us")
                found.append(_share(quota, _read(base / "cpu.cfs_period_us")))
    least = min(found)
    return sys.maxsize if math.isinf(least) else max(1, math.ceil(least))


def _share(quota: str, period: str) -> float:
    try:
        microseconds, per = int(quota), int(period)
    except ValueError:  # "max", or nothing to read
        return math.inf
    return microseconds / per if microseconds > 0 and per > 0 else math.inf


def _nvidia(root: Path) -> tuple[str, str]:
    """GPU models and driver version as the kernel module tells them; no CUDA is started."""
    driver = re.search(r"Kernel Module\D*([\d.]+)", _read(root / "proc/driver/nvidia/version"))
    models = []
    for information in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        model = re.search(r"^Model:\s*(.+)$", _read(information), re.MULTILINE)
        if model:
            models.append(model[1].strip())
    return ", ".join(models), driver[1] if driver else ""


# What nvidia-smi is asked for -> how it is called here.
_GPU_STATE = {
    "clocks.sm": "sm_clock_mhz",
    "clocks.mem": "memory_clock_mhz",
    "temperature.gpu": "temperature_c",
    "power.draw": "power_w",
    "clocks_event_reasons.active": "throttle_reasons",
}


def gpu_state() -> dict[str, str]:
    """Clocks, temperature, power and reasons for throttling of the first GPU, as it tells them now.

    Empty where there is no GPU, or no nvidia-smi to ask.
    """
    told = nvidia_smi(f"--query-gpu={','.join(_GPU_STATE)}", "--format=csv,noheader,nounits")
    if not told:
        return {}
    values = (value.strip() for value in told[0].split(","))
    return dict(zip(_GPU_STATE.values(), values, strict=False))


def nvidia_smi(*arguments: str) -> list[str]:
    """The lines that nvidia-smi answers with; none where it is not there or fails."""
    try:
        done = subprocess.run(
            ["nvidia-smi", *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def _engines() -> dict[str, str]:
    versions = {}
    for package in ENGINES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
