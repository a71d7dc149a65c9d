"""OpenMP threads for oneDNN: the requested number and, on Linux, each on its own core."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable

from pmtrain.models.backends.onednn.library import LibraryUnavailable, open_library
from pmtrain.system.hardware import thread_count

_prepared = threading.local()


@functools.cache
def _team_size() -> int:
    """The thread count at the first use. Primitives are compiled for that number and must not run with more later."""
    return thread_count()


def prepare_threads() -> None:
    """Set the number of OpenMP threads for the calling thread, and pin the workers, once for each calling thread.

    OpenMP has a team for every thread that runs primitives, so each of these needs this call. Each worker is pinned to
    its own core, because the scheduler may put two of them on one core and leave them there. The calling thread is not
    pinned, so the processes that it starts (loader workers) inherit no restriction. With fewer threads than cores
    nothing is pinned, since another process may have chosen the same cores. Windows and macOS have no such call.
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
    def pin() -> None:
        number = openmp.omp_get_thread_num()
        if number:  # 0 is the calling thread
            with contextlib.suppress(OSError):  # a sandbox may forbid it
                os.sched_setaffinity(0, {cores[number]})

    _on_team(openmp, len(cores), pin)


def _on_team(openmp: ctypes.CDLL, count: int, work: Callable[[], None]) -> None:
    """Call `work`, which must not raise, on every thread of the team."""
    # How code compiled by GCC, such as oneDNN on Linux, starts a parallel region.
    body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: work())
    openmp.GOMP_parallel(body, None, ctypes.c_uint(count), ctypes.c_uint(0))


def share_work(jobs: Iterable[Callable[[], object]]) -> None:
    """Run independent jobs, in this order, on the threads that oneDNN uses, each when it is free.

    It gains where the jobs release Python's lock, as Paddle's operations and NumPy's on large arrays do. A thread of
    Python's would share a core with a thread of oneDNN's that spins while it waits. Without such a team, as on Windows
    and macOS, the calling thread runs them all.

    Raises: what the first job that failed raised; those not begun by then are left out.
    """
    waiting = deque(jobs)
    errors: list[BaseException] = []

    def work() -> None:
        while waiting and not errors:
            try:
                job = waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                job()
            except BaseException as error:
                errors.append(error)

    openmp = _team_runtime()
    if openmp is None or _team_size() == 1:
        work()
    else:
        prepare_threads()
        _on_team(openmp, _team_size(), work)
    if errors:
        raise errors[0]


def _team_runtime() -> ctypes.CDLL | None:
    """The OpenMP runtime, if it can start a team from here."""
    try:
        openmp = open_library().openmp
    except LibraryUnavailable:
        return None
    return openmp if hasattr(openmp, "GOMP_parallel") else None
