"""What this machine offers: cores and memory that may be used, and the processor's maker and instructions."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import sys
from pathlib import Path

# Read when the program starts: once Paddle computes, OpenMP may have pinned the main thread to one core, and
# processes started from it would inherit that. Empty where the system has no such call (Windows, macOS).
ALLOWED_CORES = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def available_cpus() -> int:
    """Cores that this process may use: the affinity mask and a container's quota both counted, at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # Windows and macOS have no such call
        cores = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(cores, math.ceil(quota)) if quota else cores)


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPUs granted by the container's control group (v2, then v1), None where there is no limit."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def available_memory() -> int:
    """Bytes that this process may still take, a container's limit counted; 1 GiB where the system won't say.

    Linux: what the kernel counts as available. Windows: free physical memory. Elsewhere: half of the physical
    memory, since how much of it is free isn't told.
    """
    available = _system_memory() or 2**30
    left = _cgroup_memory_left()
    return available if left is None else max(0, min(available, left))


def _system_memory() -> int | None:
    if sys.platform == "win32":

        class MemoryStatus(ctypes.Structure):
            _fields_ = [
                ("length", ctypes.c_ulong),
                ("load", ctypes.c_ulong),
                ("total", ctypes.c_ulonglong),
                ("available", ctypes.c_ulonglong),
                ("rest", ctypes.c_ulonglong * 5),
            ]

        status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
        return status.available if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (OSError, ValueError):
        return None


def _cgroup_memory_left(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes left under the container's memory limit (v2, then v1), None where there is no limit."""
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            return int((root / limit).read_text()) - int((root / usage).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return None


def processor_vendor() -> str:
    """`AuthenticAMD`, `GenuineIntel`, ... as the processor names itself; empty where the system won't say."""
    return _cpuinfo("vendor_id") or platform.processor().rpartition(",")[2].strip()


def processor_name() -> str:
    """The model name for a bug report."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def processor_features() -> frozenset[str]:
    """Instruction sets by their Linux names (`avx512f`, `avx512_bf16`, `amx_bf16`, ...); empty where unknown."""
    return frozenset(_cpuinfo("flags").split())


def _cpuinfo(field: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(field)), "")
