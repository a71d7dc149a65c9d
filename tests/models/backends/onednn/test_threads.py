"""How many threads, and on which cores."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from functools import partial
from types import SimpleNamespace

import pytest

from pmtrain.models.backends.onednn import threads
from pmtrain.system.hardware import available_cpus, thread_count
from tests.conftest import environment


def test_the_count_is_what_was_asked_for_or_the_cores(monkeypatch):
    cores = available_cpus()
    for asked, count in (("3", 3), ("4,2", 4), (" 5 ", 5), ("0", cores), ("many", cores), ("²", cores), ("", cores)):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert thread_count() == count


def test_windows_sets_the_count_and_pins_nothing(monkeypatch):
    """Simulated: no calls for affinity, and a runtime that has omp_set_num_threads alone."""
    counts = []
    runtime = SimpleNamespace(omp_set_num_threads=counts.append)
    monkeypatch.setattr(threads, "open_library", lambda: SimpleNamespace(openmp=runtime))
    monkeypatch.setattr(threads, "_prepared", threading.local())
    monkeypatch.setattr(threads, "_team_size", lambda: 6)
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    threads.prepare_threads()
    threads.prepare_threads()
    assert counts == [6]


@pytest.mark.parametrize("team", [True, False])
def test_every_job_is_run_once_and_the_first_error_is_raised(team, monkeypatch):
    if not team:  # as where there is no oneDNN, or its OpenMP can't start a team
        monkeypatch.setattr(threads, "_team_runtime", lambda: None)
    done: list[int] = []
    threads.share_work([partial(done.append, number) for number in range(100)])
    assert sorted(done) == list(range(100))
    seen: list[int] = []

    def job(number: int) -> None:
        seen.append(number)
        if number == 3:
            raise ValueError("the third")

    with pytest.raises(ValueError, match="the third"):
        threads.share_work([partial(job, number) for number in range(1000)])
    assert 3 in seen and len(seen) < 1000
    threads.share_work([])


@pytest.mark.skipif(thread_count() < 2, reason="it takes two threads")
def test_jobs_run_beside_each_other():
    """Each of two jobs waits until the other one has begun."""
    if threads._team_runtime() is None:
        pytest.skip("no team of threads here")
    begun = threading.Barrier(2)
    threads.share_work([partial(begun.wait, 60)] * 2)


PROBE = """
import os, sys
from pathlib import Path
import numpy as np
before = os.sched_getaffinity(0)
from pmtrain.system.framework import paddle
from pmtrain.models import build_model
from pmtrain.models.backends.onednn import attach
model = build_model(50)
attach(model)
model.eval()
with paddle.no_grad():
    model(paddle.zeros([1, 3, 64, 64]))
masks = []
for task in Path("/proc/self/task").iterdir():
    masks.append(os.sched_getaffinity(int(task.name)))
pinned = sorted(next(iter(mask)) for mask in masks if len(mask) == 1)
print(len(before), os.sched_getaffinity(0) == before, *pinned)
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no such call")
@pytest.mark.skipif(available_cpus() < 2, reason="it takes two cores")
@pytest.mark.parametrize("threads", ["all", "fewer"])
def test_workers_have_a_core_each_and_the_calling_thread_is_free(threads):
    cores = len(os.sched_getaffinity(0))
    count = cores if threads == "all" else cores - 1
    if threads == "all" and available_cpus() < cores:
        pytest.skip("a quota gives less than the cores")
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, env=environment({"OMP_NUM_THREADS": str(count)})
    )
    assert done.returncode == 0, done.stderr
    before, free, *pinned = done.stdout.split()
    assert (int(before), free) == (cores, "True")
    assert len(pinned) == len(set(pinned)) == (cores - 1 if threads == "all" else 0)
