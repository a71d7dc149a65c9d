"""What this machine offers: cores that may be used, and the processor's maker and instructions."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path


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
