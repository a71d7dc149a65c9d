"""Processes that wait for one another, and one that stops."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

import pytest

from pmtrain.system import parallel

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
