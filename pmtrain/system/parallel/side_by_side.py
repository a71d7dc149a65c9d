"""Jobs that have nothing to do with one another, each in a process and on cores of its own."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from pmtrain.system import console
from pmtrain.system.errors import PmtrainError
from pmtrain.system.stop import StopSignal

POLL = 0.2  # seconds: so often the parent looks whether it was asked to stop
Job = Callable[[StopSignal], Any]  # what can be sent to a process; it stops, and returns, soon after the signal
OUT, ERR, DONE, FAILED = "out", "err", "done", "failed"


@dataclass
class _Running:
    process: BaseProcess
    number: int
    cores: frozenset[int]
    told: bool = False  # to stop


@dataclass
class _Ended:
    """What a job left: its lines that weren't printed yet, its result, and its error."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    result: Any = None
    error: PmtrainError | None = None
    ended: bool = False


def side_by_side(jobs: Mapping[str, Job], count: int, stop: StopSignal) -> list[Any]:
    """Run jobs, by name, `count` at a time; return their results in order, None for one that never began.

    What a job prints appears when those before it have ended, so that the output is that of one after the other. Where
    the system lets a process choose, each has a share of the cores.

    Raises:
        PmtrainError: a job's own, or a job was killed; the others were stopped first.
    """
    names, waiting = list(jobs), list(enumerate(jobs.values()))
    found = [_Ended() for _ in names]
    running: dict[Connection, _Running] = {}
    free = _shares(count)
    failed = False
    try:
        while running or (waiting and not stop.signum and not failed):
            while waiting and len(running) < count and not stop.signum and not failed:
                number, job = waiting.pop(0)
                connection, started = _start(number, job, free.pop(0))
                running[connection] = started
            for connection, job_of in running.items():
                if (stop.signum or failed) and not job_of.told:
                    job_of.told = True
                    with contextlib.suppress(OSError):  # it has just ended
                        connection.send(stop.signum or signal.SIGTERM)
            wait(list(running), POLL)
            for connection in [each for each in running if each.poll()]:
                job_of = running[connection]
                of = found[job_of.number]
                try:
                    kind, value = connection.recv()
                except (EOFError, OSError):
                    del running[connection]
                    free.append(job_of.cores)
                    job_of.process.join()
                    of.ended = True
                    if of.error is None and job_of.process.exitcode:
                        of.error = _ended_by(names[job_of.number], job_of.process.exitcode)
                    failed = failed or of.error is not None
                else:
                    _keep(of, names[job_of.number], kind, value)
            _print(found)
        _print(found, all_lines=True)
    finally:
        for each in running.values():
            each.process.kill()
            each.process.join()
    if failed and not stop.signum:
        raise next(each.error for each in found if each.error)
    return [each.result for each in found]


def _shares(count: int) -> list[frozenset[int]]:
    """The cores of each of `count` jobs; empty where they can't or needn't be shared out."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return [frozenset(cores[len(cores) * n // count : len(cores) * (n + 1) // count]) for n in range(count)]


def _start(number: int, job: Job, cores: frozenset[int]) -> tuple[Connection, _Running]:
    """A process of its own; it inherits the cores of the thread that starts it."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_body, args=(job, theirs))
    before = os.sched_getaffinity(0) if cores else frozenset()
    try:
        if cores:
            os.sched_setaffinity(0, cores)
        process.start()
    finally:
        if cores:
            os.sched_setaffinity(0, before)
        theirs.close()
    return ours, _Running(process, number, cores)


def _keep(of: _Ended, name: str, kind: str, value: Any) -> None:
    if kind == DONE:
        of.result = value
    elif kind == FAILED:
        message, hint = value
        of.error = PmtrainError(f"{name}: {message}", hint)
    else:
        of.lines.append((kind, value))


def _ended_by(name: str, exitcode: int) -> PmtrainError:
    how = f"was ended by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"ended with code {exitcode}"
    return PmtrainError(f"{name} {how}", "go on with `pmtrain train --resume RUN`")


def _print(found: list[_Ended], all_lines: bool = False) -> None:
    """Print what may be printed: the lines of the ended jobs from the first on, and of the one after them; or all."""
    for each in found:
        for kind, line in each.lines:
            (console.result if kind == OUT else console.notice)(line)
        each.lines.clear()
        if not (each.ended or all_lines):
            break


class _Lines(io.TextIOBase):
    """A text stream whose lines go to another process."""

    _lock = threading.Lock()  # over the connection, and over what is begun

    def __init__(self, connection: Connection, kind: str) -> None:
        self._connection, self._kind, self._begun = connection, kind, ""

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
            for line in lines:
                with contextlib.suppress(OSError):  # the parent is gone, and this process stops soon
                    self._connection.send((self._kind, line))
        return len(text)


def _body(job: Job, connection: Connection) -> None:
    """The process of one job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal comes to all; the parent tells this one
    stop = StopSignal()

    def listen() -> None:
        try:
            stop.signum = connection.recv()
        except (EOFError, OSError):
            stop.signum = signal.SIGTERM  # the parent was killed

    threading.Thread(target=listen, name="stop", daemon=True).start()
    with _printing_to(connection):
        try:
            message = DONE, job(stop)
        except PmtrainError as error:
            message = FAILED, (error.message, error.hint)
        except MemoryError:
            message = FAILED, ("out of memory", "try a smaller --batch-size or --image-size, or a smaller --nproc")
        except BaseException as error:
            if os.environ.get("PMTRAIN_DEBUG"):
                traceback.print_exc()
            message = FAILED, (f"{type(error).__name__}: {' '.join(str(error).split())[:500]}", "see --debug")
    with contextlib.suppress(OSError):
        connection.send(message)
        connection.close()


@contextlib.contextmanager
def _printing_to(connection: Connection) -> Iterator[None]:
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Lines(connection, OUT), _Lines(connection, ERR)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
