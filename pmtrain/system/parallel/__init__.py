"""Several processes that train one network together, by Paddle's own launchers and collectives.

On GPUs they talk by NCCL, on CPUs by gloo, which Paddle builds for Linux alone. `launch` starts them on this machine;
`python -m paddle.distributed.launch` starts them on several. Either way each of them calls `join`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pmtrain.system import console
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.hardware import available_cpus
from pmtrain.system.parallel.pulse import Pulse, reason_of

Value = TypeVar("Value")

RANK, SIZE = "PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM"  # set by Paddle's launchers
GO_ON = "hint: has the machine enough memory? A training goes on with `pmtrain train --resume RUN`"
# Paddle's remark on compiling, and Python's on what a killed process has left, which it cleans up.
QUIET = "ignore:No ccache found:UserWarning,ignore:resource_tracker:UserWarning"
# Seconds for the others to end after one has failed: time to finish a save where the first one is among them.
GRACE, GRACE_WITHOUT_SAVES = 60.0, 3.0


class LostProcess(PmtrainError):
    """Another process of the training has ended or doesn't answer."""


@dataclass(frozen=True)
class Processes:
    """The processes of a training: this one's number, from 0, and how many there are.

    A collective raises LostProcess if another process has ended.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process prints and writes files."""
        return self.rank == 0

    def sum(self, vector: Any) -> None:
        """Replace a tensor's values by their sums over all processes."""
        if self.size > 1:
            with _named_failures():
                _pulse(self.rank, self.size).meet()
                _distributed().all_reduce(vector)

    def largest(self, value: int) -> int:
        """The largest of all processes' values."""
        return max(self.gathered(value))

    def gathered(self, value: Value) -> list[Value]:
        """Every process's value, by number."""
        if self.size == 1:
            return [value]
        values: list[Value] = []
        with _named_failures():
            _pulse(self.rank, self.size).meet()
            _distributed().all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """The first process's value; that of the others isn't looked at."""
        return self.gathered(value if self.first else None)[0]


ALONE = Processes()


def here() -> Processes:
    """This process's place among those that a launcher started, by its environment variables; ALONE without any."""
    size = int(os.environ.get(SIZE, "1"))
    return Processes(int(os.environ.get(RANK, "0")), size) if size > 1 else ALONE


def local_rank() -> int:
    """This process's number among those of its machine."""
    return int(os.environ.get("PADDLE_LOCAL_RANK", os.environ.get(RANK, "0")))


def started_by_launcher() -> int:
    """How many processes Paddle's launcher, if it is not `launch`, has started on this machine, else 0."""
    return int(os.environ.get("PADDLE_LOCAL_SIZE", "0"))


@functools.cache
def join() -> Processes:
    """Connect to the other processes, if there are any; once.

    Raises:
        UsageError: this system's Paddle can't connect processes.
    """
    own = here()
    if own.size > 1:
        require_linux()
        with _named_failures(), contextlib.redirect_stderr(io.StringIO()):  # it prints its own settings
            _distributed().init_parallel_env()
            _pulse(own.rank, own.size)
    return own


@functools.cache
def _pulse(rank: int, size: int) -> Pulse:
    return Pulse(_distributed(), rank, size)


def require_linux() -> None:
    """Raises: UsageError, where Paddle's gloo isn't built."""
    if not sys.platform.startswith("linux"):
        raise UsageError(
            f"several processes need Linux: Paddle has no gloo for {sys.platform}",
            "leave --nproc out; one process uses every core",
        )


def launch(count: int, threads: int, program: Callable[[Sequence[str]], None]) -> int:
    """Run this command again in `count` processes and wait for them; return the exit code.

    If one of them fails or is killed, the others are ended.

    Args:
        threads: CPU threads of each process.
        program: what each process runs on this command's arguments; a function of a module.
    Raises:
        UsageError: this system's Paddle can't connect processes; there are more of them than GPUs, or, without any,
            than cores (and more than 2, which can be tried anywhere).
    """
    require_linux()
    for name, value in (("OMP_NUM_THREADS", str(threads)), ("PYTHONWARNINGS", QUIET)):
        os.environ[name] = value
    from pmtrain.system.framework import paddle  # loaded after the threads are set

    gpus = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    most = gpus or max(2, available_cpus())
    if count > most:
        what = "GPUs" if gpus else "cores"
        raise UsageError(f"--nproc {count}: more than this machine has {what}", f"give --nproc {most} at most")
    logging.disable(logging.INFO)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            backend = {} if gpus else {"backend": "gloo"}
            context = paddle.distributed.spawn(_child, (program, sys.argv), count, join=False, **backend)
    finally:
        logging.disable(logging.NOTSET)
    processes = context.processes  # the context holds their queues: it must outlive them
    # Ctrl-C in a terminal reaches the processes by itself; they save and end, and this one waits. It is ignored here
    # from now on only, because the processes would begin as deaf to it.
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: [process.terminate() for process in processes]),
    }
    try:
        return _waited_for(processes)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()
        for sig, handler in before.items():
            signal.signal(sig, handler)


def _child(program: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> None:
    """The body of a process that `launch` starts: it stops as on SIGTERM, with a save, if `launch` was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def stop_with_parent() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)

    threading.Thread(target=stop_with_parent, name="parent watch", daemon=True).start()
    program(arguments)


def _waited_for(processes: Sequence[Any]) -> int:
    """The exit code of processes that have all ended: the first that failed decides; a signal's is 128 + its number."""
    running, code = list(processes), 0
    deadline: float | None = None
    while running:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        multiprocessing.connection.wait([process.sentinel for process in running], left)
        for process in [process for process in running if not process.is_alive()]:
            running.remove(process)
            process.join()
            if process.exitcode and not code:
                code = 128 - process.exitcode if process.exitcode < 0 else process.exitcode
                deadline = time.monotonic() + (GRACE if processes[0] in running else GRACE_WITHOUT_SAVES)
                if process.exitcode < 0:
                    name = signal.Signals(-process.exitcode).name
                    console.error(f"process {processes.index(process)} was ended by {name}\n{GO_ON}")
        if deadline is not None and time.monotonic() >= deadline:
            for process in running:
                console.error(f"process {processes.index(process)} didn't answer and was ended\n{GO_ON}")
                process.kill()
            deadline = None
    return code


def _distributed() -> Any:
    from pmtrain.system.framework import paddle

    return paddle.distributed


@contextlib.contextmanager
def _named_failures() -> Iterator[None]:
    """Turn a broken connection, which gloo and NCCL report as a RuntimeError, into a message."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        raise LostProcess(
            f"another process has ended or hangs ({reason_of(error)})",
            "see its message; a training goes on with `pmtrain train --resume RUN`",
        ) from error
