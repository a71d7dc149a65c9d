"""Jobs in processes of their own: their output in order, an error, a killed one, a stop."""

from __future__ import annotations

import functools
import os
import signal
import sys
import time

import pytest

from pmtrain.system import console
from pmtrain.system.errors import PmtrainError
from pmtrain.system.parallel.side_by_side import side_by_side
from pmtrain.system.stop import StopSignal


def wait_for(stop: StopSignal, path) -> None:
    """Return once there is such a file, or the signal has come."""
    while not path.exists() and not stop.signum:
        time.sleep(0.01)


def first(folder, stop: StopSignal) -> str:
    """Ends after the second, which therefore runs beside it."""
    console.result("first begins")
    wait_for(stop, folder / "second")
    console.notice("first ends")
    return "one"


def second(folder, stop: StopSignal) -> str:
    console.result("second")
    (folder / "second").touch()
    return "two"


def cores(stop: StopSignal) -> list[int]:
    return sorted(os.sched_getaffinity(0))


def refuses(stop: StopSignal) -> None:
    raise PmtrainError("no room", "make some")


def killed(stop: StopSignal) -> None:
    os.kill(os.getpid(), signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


def until_told(folder, stop: StopSignal) -> int:
    (folder / "waiting").touch()
    wait_for(stop, folder / "never")
    (folder / "stopped").write_text(str(int(stop.signum)))
    return stop.signum


def test_jobs_run_together_and_print_in_order(tmp_path, capsys):
    jobs = {name: functools.partial(job, tmp_path) for name, job in (("a", first), ("b", second))}
    assert side_by_side(jobs, 2, StopSignal()) == ["one", "two"]
    assert capsys.readouterr() == ("first begins\nsecond\n", "first ends\n")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system doesn't tell which cores it uses")
def test_each_has_its_share_of_the_cores():
    own = sorted(os.sched_getaffinity(0))
    found = side_by_side({"a": cores, "b": cores}, 2, StopSignal())
    assert sorted(os.sched_getaffinity(0)) == own
    assert found == ([own[: len(own) // 2], own[len(own) // 2 :]] if len(own) > 1 else [own, own])


@pytest.mark.parametrize(("job", "said"), [(refuses, "b: no room"), (killed, "b was ended by SIG")])
def test_one_that_fails_stops_the_others_and_no_more_begin(job, said, tmp_path):
    jobs = {"a": functools.partial(until_told, tmp_path), "b": job, "c": functools.partial(second, tmp_path)}
    with pytest.raises(PmtrainError, match=said):
        side_by_side(jobs, 2, StopSignal())
    assert (tmp_path / "stopped").read_text() == str(int(signal.SIGTERM))
    assert not (tmp_path / "second").exists()


def test_a_stop_reaches_all(tmp_path):
    stop = StopSignal()
    stop.signum = signal.SIGINT
    assert side_by_side({"a": refuses}, 2, stop) == [None]

    class LaterStop(StopSignal):
        @property
        def signum(self) -> int:
            return signal.SIGINT if (tmp_path / "waiting").exists() else 0

        @signum.setter
        def signum(self, value: int) -> None:
            pass

    jobs = {"a": functools.partial(until_told, tmp_path), "b": functools.partial(until_told, tmp_path)}
    assert side_by_side(jobs, 1, LaterStop()) == [signal.SIGINT, None]
