"""OpenMP threads for oneDNN: as many as asked for, and no two of a team on one core."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading

from pmtrain.models.backends.onednn.library import open_library
from pmtrain.system.hardware import available_cpus

_prepared = threading.local()


def thread_count() -> int:
    """OMP_NUM_THREADS where it is a number, else the cores that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(asked) if asked.isdecimal() and int(asked) > 0 else available_cpus()


@functools.cache
def _team_size() -> int:
    """The count at the first use: a primitive is made for as many threads and must not meet more later."""
    return thread_count()


def prepare_threads() -> None:
    """Give the calling thread's OpenMP team its size and its cores, once for each thread that comes here.

    A team belongs to the thread that runs primitives, so every such thread is prepared by itself. The workers are
    kept each to a core of its own, because the system's scheduler may start two of them on the same one and leave
    them there. The calling thread stays free: what it starts (loader workers) inherits no restriction. With fewer
    threads than cores nothing is pinned, since another process may have picked the same cores.
    """
    openmp = open_library().openmp
    if openmp is None or getattr(_prepared, "done", False):
        return
    count = _team_size()
    openmp.omp_set_num_threads(count)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if 1 < count == len(cores):
            _pin_workers(openmp, cores)
    _prepared.done = True


def _pin_workers(openmp: ctypes.CDLL, cores: list[int]) -> None:
    def pin(_: int | None) -> None:
        number = openmp.omp_get_thread_num()
        if number:  # 0 is the calling thread
            with contextlib.suppress(OSError):  # a sandbox may forbid it
                os.sched_setaffinity(0, {cores[number]})

    # The entry point by which code built with GCC, as oneDNN is, starts a parallel region.
    body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(pin)
    openmp.GOMP_parallel(body, None, ctypes.c_uint(len(cores)), ctypes.c_uint(0))
