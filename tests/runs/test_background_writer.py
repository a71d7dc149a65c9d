"""One job at a time, none lost, and what a job raises reaches the thread that trains."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from pmtrain.runs.background_writer import BackgroundWriter
from pmtrain.system.errors import PmtrainError

FULL = PmtrainError("can't write x: No space left on device", "free some space on that disk")


def fail() -> None:
    raise FULL


def test_a_job_runs_beside_the_thread_that_started_it():
    going_on, seen = threading.Event(), []
    with BackgroundWriter() as writer:
        writer.start(lambda: seen.append(going_on.wait(60)))
        assert not seen
        going_on.set()
    assert seen == [True]


def test_jobs_never_overlap_and_come_in_order():
    running, most, done = 0, 0, []

    def job(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.01)  # a second writer, if there were one, would come in here
        done.append(number)
        running -= 1

    with BackgroundWriter() as writer:
        for number in range(10):
            writer.start(lambda number=number: job(number))
    assert most == 1 and done == list(range(10))


@pytest.mark.parametrize("by", ["check", "wait", "start", "the end"])
def test_what_a_job_raises_is_raised_once(by):
    later: list[str] = []
    with pytest.raises(PmtrainError) as caught, BackgroundWriter() as writer:
        writer.start(fail)
        while by == "check":
            writer.check()
            time.sleep(0.001)
        if by == "wait":
            writer.wait()
        if by == "start":
            writer.start(lambda: later.append("written over a failed save"))
    assert caught.value is FULL and not later
    writer.check()
    writer.start(lambda: later.append("written"))  # the disk has space again
    writer.wait()
    assert later == ["written"]


def test_an_error_that_ends_the_block_goes_on_and_a_failed_save_is_a_warning(capsys):
    with pytest.raises(ZeroDivisionError), BackgroundWriter() as writer:
        writer.start(fail)
        raise ZeroDivisionError
    assert "warning: the last save failed: can't write x: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_the_end_waits_for_the_job(error):
    done, begun = [], threading.Event()

    def job() -> None:
        begun.set()
        time.sleep(0.05)  # so that a writer that doesn't wait is found out
        done.append(1)

    try:
        with BackgroundWriter() as writer:
            writer.start(job)
            begun.wait(60)
            if error:
                raise error
    except KeyboardInterrupt:
        assert error
    assert done


@pytest.mark.skipif(os.name == "nt", reason="Windows has no os.kill with SIGINT")
def test_ctrl_c_breaks_the_wait_and_the_job_goes_on():
    released, done = threading.Event(), []

    def job() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        released.wait(60)
        done.append(1)

    writer = BackgroundWriter()
    with pytest.raises(KeyboardInterrupt):
        writer.start(job)
        writer.wait()
    assert not done
    released.set()
    writer.wait()
    assert done
