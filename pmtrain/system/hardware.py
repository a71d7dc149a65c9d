"""The machine: cores and memory that may be used, and the processor's vendor, name and instruction sets."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# Read when the program starts: once Paddle computes, OpenMP may have pinned the main thread to one core, and
# processes started from it would inherit that. Empty where the system has no such call (Windows, macOS).
ALLOWED_CORES = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()

MOST_PROCESSES = 60  # Windows waits for 63 handles in one call; multiprocessing needs some for itself


def use_every_core() -> None:
    """Let the calling thread run on every core again: OpenMP may have pinned the thread that started it to one."""
    if ALLOWED_CORES:
        os.sched_setaffinity(0, ALLOWED_CORES)


def available_cpus() -> int:
    """Cores that this process may use, at least 1; limited by its affinity mask and by a container's quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # Windows and macOS have no such call
        cores = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(cores, math.ceil(quota)) if quota else cores)


def thread_count() -> int:
    """OMP_NUM_THREADS if it is a positive number, else the number of cores that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(asked) if asked.isdecimal() and int(asked) > 0 else available_cpus()


def worker_processes(wanted: int) -> int:
    """As many processes as wanted, at most MOST_PROCESSES on Windows, which can't wait for more at once."""
    return min(wanted, MOST_PROCESSES) if os.name == "nt" else wanted


def _cgroup_quota(root: Path = CGROUPS, own: Path = OWN_CGROUPS) -> float | None:
    """CPUs granted by the control groups that this process is in, None where there is no limit."""
    quotas = []
    for group in _control_groups("cpu", root, own):
        try:
            if (group / "cpu.max").exists():
                quota, period = (group / "cpu.max").read_text().split()
            else:
                quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if quota != "max" and int(quota) > 0:
                quotas.append(int(quota) / int(period))
        except (OSError, ValueError):
            continue
    return min(quotas, default=None)


def _control_groups(controller: str, root: Path, own: Path) -> Iterator[Path]:
    """The folders of a process's control group and of all that it lies in, whose limits hold as well (v2 and v1).

    Args:
        root: where the groups are mounted; in a container its own group may be the top.
        own: lists the groups of the process, `0::/a/b` (v2) and `4:cpu,cpuacct:/a/b` (v1).
    """
    try:
        lines = own.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        lines = []
    for line in ["0::/", f"0:{controller}:/", *lines]:
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers or controller in controllers.split(","):
            here = PurePosixPath("/", path)
            for group in (here, *here.parents):
                yield (root / controller if controllers else root) / group.relative_to("/")


def available_memory() -> int:
    """Bytes that this process may still allocate, within a container's limit; 1 GiB where the system doesn't tell.

    Linux: what the kernel counts as available. Windows: free physical memory. Elsewhere: half of the physical
    memory, since the system doesn't tell how much of it is free.
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


def _cgroup_memory_left(root: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int | None:
    """Bytes left under the limits of the control groups that this process is in, None where there is no limit."""
    left = []
    for group in _control_groups("memory", root, own):
        for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            try:
                left.append(int((group / limit).read_text()) - int((group / usage).read_text()))
            except (OSError, ValueError):  # no such file, or "max"
                continue
    return min(left, default=None)


# Kernel32's IsProcessorFeaturePresent knows them by these numbers (winnt.h: PF_AVX2_INSTRUCTIONS_AVAILABLE,
# PF_AVX512F_INSTRUCTIONS_AVAILABLE), from Windows 10 version 2004 on; older ones say no.
WINDOWS_FEATURES = {"avx2": 40, "avx512f": 41}


def processor_vendor() -> str:
    """`AuthenticAMD`, `GenuineIntel`, ... as the processor names itself; empty where the system doesn't tell."""
    if sys.platform == "win32":
        # "AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD"; asking WMI, as Python 3.12 does, can take seconds.
        return os.environ.get("PROCESSOR_IDENTIFIER", "").rpartition(",")[2].strip()
    return _cpuinfo("vendor_id")


def processor_name() -> str:
    """The model name, for a bug report."""
    if sys.platform == "win32":
        return _windows_processor_name() or os.environ.get("PROCESSOR_IDENTIFIER", "") or platform.machine()
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.machine()
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def processor_features() -> frozenset[str]:
    """Instruction sets by their Linux names (`avx2`, `avx512f`, `amx_bf16`, ...); on Windows those two of
    WINDOWS_FEATURES alone; empty where unknown."""
    if sys.platform == "win32":
        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        return frozenset(name for name, number in WINDOWS_FEATURES.items() if present(number))
    return frozenset(_cpuinfo("flags").split())


def _windows_processor_name() -> str:
    try:
        import winreg

        key = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as opened:  # type: ignore[attr-defined]
            return str(winreg.QueryValueEx(opened, "ProcessorNameString")[0]).strip()  # type: ignore[attr-defined]
    except (ImportError, OSError):
        return ""


def _sysctl(name: str) -> str:
    try:
        done = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _cpuinfo(field: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(field)), "")
