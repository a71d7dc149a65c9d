from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pmtrain.system import framework, hardware


def control_groups(root: Path, files: dict[str, str]) -> Path:
    """Files of control groups, and the list of those that a process is in: `a/b` (v2), `c` (v1)."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    own = root / "own"
    own.write_text("3:memory:/c\n2:cpu,cpuacct:/c\n1:name=systemd:/\n0::/a/b\nno group\n")
    return own


def test_available_memory_is_what_the_kernel_says():
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        pytest.skip("no /proc/meminfo to compare with")
    total = next(int(line.split()[1]) for line in meminfo.read_text().splitlines() if line.startswith("MemTotal"))
    assert 0 < hardware.available_memory() <= total * 1024


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory.max": "1000\n", "memory.current": "300\n"}, 700),
        ({"memory.max": "max\n", "memory.current": "300\n"}, None),
        ({"memory/memory.limit_in_bytes": "500\n", "memory/memory.usage_in_bytes": "200\n"}, 300),
        ({"a/b/memory.max": "1000\n", "a/b/memory.current": "300\n", "memory.max": "9\n", "memory.current": "2\n"}, 7),
        ({"memory/c/memory.limit_in_bytes": "500\n", "memory/c/memory.usage_in_bytes": "200\n"}, 300),
        ({"d/memory.max": "500\n", "d/memory.current": "200\n"}, None),
        ({}, None),
    ],
    ids=["v2", "v2 without limit", "v1", "the group around", "a v1 group", "another's", "no control group"],
)
def test_the_memory_left_of_a_container_limit(tmp_path, files, left):
    assert hardware._cgroup_memory_left(tmp_path, control_groups(tmp_path, files)) == left


def test_the_smaller_of_memory_and_limit_counts(monkeypatch):
    monkeypatch.setattr(hardware, "_system_memory", lambda: 1000)
    for left, expected in ((None, 1000), (400, 400), (4000, 1000), (-5, 0)):
        monkeypatch.setattr(hardware, "_cgroup_memory_left", lambda left=left: left)
        assert hardware.available_memory() == expected


def test_a_system_that_does_not_say_counts_as_a_gibibyte(monkeypatch):
    monkeypatch.setattr(hardware, "_system_memory", lambda: None)
    monkeypatch.setattr(hardware, "_cgroup_memory_left", lambda: None)
    assert hardware.available_memory() == 2**30


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no such call")
def test_the_allowed_cores_are_those_of_the_start():
    assert os.sched_getaffinity(0) == hardware.ALLOWED_CORES


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2),
        ({"cpu/c/cpu.cfs_quota_us": "50000\n", "cpu/c/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"d/cpu.max": "150000 100000\n"}, None),
        ({}, None),
    ],
    ids=[
        "v2", "v2 without limit", "v1", "v1 without limit", "the group around", "a v1 group", "another's",
        "no control group",
    ],
)  # fmt: skip
def test_the_cores_of_a_container_limit(tmp_path, files, quota):
    assert hardware._cgroup_quota(tmp_path, control_groups(tmp_path, files)) == quota


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no such call")
def test_the_smaller_of_cores_and_quota_counts_and_never_less_than_one(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5})
    for quota, expected in ((None, 4), (1.5, 2), (0.2, 1), (16.0, 4)):
        monkeypatch.setattr(hardware, "_cgroup_quota", lambda quota=quota: quota)
        assert hardware.available_cpus() == expected


class Windows:
    """A machine with Windows: what pmtrain asks it of its processor."""

    def __init__(self, monkeypatch, identifier: str, present: set[int]) -> None:
        kernel32 = SimpleNamespace(IsProcessorFeaturePresent=lambda number: int(number in present))
        monkeypatch.setattr(hardware.ctypes, "windll", SimpleNamespace(kernel32=kernel32), raising=False)
        monkeypatch.setattr(hardware.sys, "platform", "win32")
        monkeypatch.setenv("PROCESSOR_IDENTIFIER", identifier)


@pytest.mark.parametrize(
    ("identifier", "present", "path"),
    [
        # A Ryzen 5700X (AVX2), a Ryzen 7700 (AVX-512), and an Intel Core i5-12400.
        ("AMD64 Family 25 Model 33 Stepping 2, AuthenticAMD", {10, 39, 40}, "5"),
        ("AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD", {10, 39, 40, 41}, "7"),
        ("Intel64 Family 6 Model 151 Stepping 5, GenuineIntel", {10, 39, 40}, None),
        ("AMD64 Family 21 Model 2 Stepping 0, AuthenticAMD", {10, 39}, None),
    ],
)
def test_mkls_fast_path_is_chosen_for_amd_on_windows(monkeypatch, identifier, present, path):
    """Simulated, with the numbers of winnt.h: 39 AVX, 40 AVX2, 41 AVX-512 F."""
    Windows(monkeypatch, identifier, present)
    assert framework._settings().get("MKL_DEBUG_CPU_TYPE") == path


def test_the_processors_name_is_read_from_the_registry(monkeypatch):
    Windows(monkeypatch, "AMD64 Family 25 Model 33 Stepping 2, AuthenticAMD", set())
    asked = []

    @contextlib.contextmanager
    def open_key(root, key):
        asked.append((root, key))
        yield "opened"

    registry = SimpleNamespace(
        HKEY_LOCAL_MACHINE="HKLM",
        OpenKey=open_key,
        QueryValueEx=lambda key, name: ({"ProcessorNameString": "AMD Ryzen 7 5700X 8-Core Processor   "}[name], 1),
    )
    monkeypatch.setitem(sys.modules, "winreg", registry)
    assert hardware.processor_name() == "AMD Ryzen 7 5700X 8-Core Processor"
    assert asked == [("HKLM", r"HARDWARE\DESCRIPTION\System\CentralProcessor\0")]
    monkeypatch.setitem(sys.modules, "winreg", None)
    assert hardware.processor_name() == "AMD64 Family 25 Model 33 Stepping 2, AuthenticAMD"


@pytest.mark.parametrize(("system", "count"), [("nt", 60), ("posix", 128)])
def test_windows_has_no_more_processes_than_it_can_wait_for(monkeypatch, system, count):
    monkeypatch.setattr(hardware, "os", SimpleNamespace(name=system))
    assert hardware.worker_processes(128) == count
    assert hardware.worker_processes(3) == 3
