"""Processes that wait for one another, and one that stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from pmtrain.system import parallel
from pmtrain.system.errors import UsageError
from pmtrain.system.parallel.pulse import reason_of
from tests.conftest import environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Paddle has gloo for Linux alone"),
]


def meet_then_stop(arguments: Sequence[str]) -> None:
    """The body of each process: they tell each other their numbers, and the second one freezes."""
    processes = parallel.join()
    print("heard", processes.rank, processes.gathered(processes.rank), processes.largest(processes.rank), flush=True)
    if processes.rank:
        os.kill(os.getpid(), signal.SIGSTOP)
    try:
        processes.gathered(None)
    except parallel.LostProcess as error:
        print(error, flush=True)
        sys.exit(7)


@pytest.mark.filterwarnings("ignore:Your model will be trained under CPUONLY mode")
def test_a_process_that_stops_is_named_and_ends_all(monkeypatch, capfd):
    monkeypatch.setenv("PMTRAIN_SILENCE", "3")
    for name in ("OMP_NUM_THREADS", "PYTHONWARNINGS"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # set by `launch`, put back afterwards
    assert parallel.launch(2, 1, meet_then_stop) == 7
    out, err = capfd.readouterr()
    assert "heard 0 [0, 1] 1\n" in out and "heard 1 [0, 1] 1\n" in out
    assert "no sign of life for 3 seconds" in out
    assert "error: process 1 didn't answer and was ended" in err


def test_more_processes_than_cores_are_refused(monkeypatch):
    for name in ("OMP_NUM_THREADS", "PYTHONWARNINGS"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    count = max(3, (os.cpu_count() or 1) + 1)
    with pytest.raises(UsageError, match=f"--nproc {count}: more than this machine has (cores|GPUs)"):
        parallel.launch(count, 1, meet_then_stop)


STARTS_A_CHILD = """
import multiprocessing, time
from pmtrain.system.parallel import _child

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=_child, args=(time.sleep, 60))
    child.start()
    print(child.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_processes_end_when_the_one_that_started_them_is_killed(tmp_path):
    program = tmp_path / "starts.py"
    program.write_text(STARTS_A_CHILD)
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True, env=environment({})) as parent:
        assert parent.stdout
        stat = Path("/proc", parent.stdout.readline().strip(), "stat")
        assert "Z" not in stat.read_text().rpartition(")")[2].split()[0]
        parent.kill()
    ends = time.monotonic() + 30
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < ends, "it goes on alone"
        time.sleep(0.05)


def test_gloo_s_own_words_are_left_out():
    said = "[/paddle/third_party/gloo/gloo/transport/tcp/pair.cc:584] TIMEOUT self_rank = 0 pair_rank = 1"
    assert reason_of(RuntimeError(said)) == "the connection is lost"
    assert reason_of(RuntimeError("first\nNCCL error")) == "NCCL error" and reason_of(OSError()) == "unknown"
