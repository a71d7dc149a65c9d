"""Decoding beside the main thread: a pool of spawned processes, or one thread."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import connection, resource_tracker
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np

from pmtrain.data.images.read import BadImage, ImageFile
from pmtrain.data.images.shortcut_features import FeatureTable
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.system.errors import PmtrainError
from pmtrain.system.hardware import ALLOWED_CORES, worker_processes
from pmtrain.system.stop import StopSignal

# A decoded image of training size, or why there is none.
Decoded = np.ndarray | str

TASKS_AHEAD = 2  # per worker: one in work and one waiting, so that no worker waits for the parent


def decode(
    path: Path, preprocess: Preprocess, data: bytes | None = None, features: FeatureTable | None = None
) -> Decoded:
    """Read and resize one image: uint8 (S, S, 3), or the reason why it can't be read.

    Args:
        data: the file's bytes where they have been read already.
        features: gets the image's shortcut features if it wants them.
    """
    try:
        file = ImageFile(path, data)
        image = preprocess.read_file(file)
    except BadImage as bad:
        return bad.reason
    if features is not None:
        with contextlib.suppress(BadImage):  # of another scale than the image's: the baseline leaves it out
            features.fill(file)
    return image


class DecodingThread:
    """Decodes one image after the other beside the main thread, and measures the time.

    Args:
        features: as of `decode`.
    """

    def __init__(self, preprocess: Preprocess, features: FeatureTable | None = None) -> None:
        self.decoded = 0
        self.seconds = 0.0  # that those took
        self._preprocess = preprocess
        self._features = features
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="decode")

    def submit(self, path: Path, data: bytes | None = None) -> Future[Decoded]:
        """Queue one image; `data`: the file's bytes where they have been read already."""
        return self._executor.submit(self._decode, path, data)

    def _decode(self, path: Path, data: bytes | None) -> Decoded:
        started = time.perf_counter()
        decoded = decode(path, self._preprocess, data, self._features)
        self.seconds += time.perf_counter() - started
        self.decoded += 1
        return decoded

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)


class _Worker(NamedTuple):
    paths: connection.Connection
    tasks: dict[int, tuple[Path, Future[Decoded]]]  # what it has been given, by number


class DecodingProcesses:
    """Processes that decode what is submitted, started by `spawn` on every system.

    They hold nothing worth saving, so they ignore Ctrl-C and SIGTERM, are killed by `close()`, and end by themselves
    when the parent is gone: they are connected to it by a pipe each.

    Args:
        features: as of `decode`.
    Raises, from the futures:
        PmtrainError: a worker died.
    """

    def __init__(self, count: int, preprocess: Preprocess, features: FeatureTable | None = None) -> None:
        self._features = features
        self._lock = threading.Lock()  # over all below
        self._waiting: deque[tuple[Path, Future[Decoded]]] = deque()
        # By the pipe that a worker's images come through. Numbers tell whose an image is, even where an
        # exception (Ctrl-C) broke off a sending.
        self._workers: dict[connection.Connection, _Worker] = {}
        self._numbers = itertools.count()
        self._processes: list[multiprocessing.process.BaseProcess] = []
        self._shape = (preprocess.size, preprocess.size, 3)
        self._failure: PmtrainError | None = None
        self._closing = False
        arguments = (worker_processes(count), preprocess)
        self._thread = threading.Thread(target=self._run, args=arguments, name="decoders", daemon=True)
        # Runs before multiprocessing's own handler, which would wait for the workers for ever.
        atexit.register(self.close)
        self._thread.start()

    def _run(self, count: int, preprocess: Preprocess) -> None:
        """The thread: start the workers, then hand their images out until they are gone.

        Python runs signal handlers in the main thread alone, so that Ctrl-C can't break off a start here.
        """
        try:
            self._start(count, preprocess)
        except OSError as error:
            with self._lock:
                self._fail(f"can't start a process that decodes images: {error}")
        while self._workers:
            for ready in connection.wait(list(self._workers)):
                self._collect(cast(connection.Connection, ready))

    def _start(self, count: int, preprocess: Preprocess) -> None:
        context = multiprocessing.get_context("spawn")
        if hasattr(signal, "pthread_sigmask"):
            # Workers inherit this thread's mask: no signal meant for all of us kills one before it ignores them.
            resource_tracker.ensure_running()  # which would lift the mask if it were started later
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        for _ in range(count):
            with self._lock:
                if self._closing:
                    return
                # One-way pipes, which carry images several times faster than two-way ones.
                paths_out, paths_in = context.Pipe(duplex=False)
                images_out, images_in = context.Pipe(duplex=False)
                process = context.Process(
                    target=_work, args=(paths_out, images_in, preprocess, ALLOWED_CORES), daemon=True
                )
                with _children_ignore_ctrl_c():
                    process.start()
                paths_out.close()  # the worker has its own copies; a pipe must end with it
                images_in.close()
                self._processes.append(process)
                self._workers[images_out] = _Worker(paths_in, {})
                self._feed(self._workers[images_out])

    def submit(self, path: Path, data: bytes | None = None) -> Future[Decoded]:
        """Queue one image. A process reads the file itself: paths fit into a pipe, `data` doesn't."""
        future: Future[Decoded] = Future()
        with self._lock:
            if self._failure:
                future.set_exception(self._failure)
                return future
            self._waiting.append((path, future))
            for worker in sorted(self._workers.values(), key=lambda worker: len(worker.tasks)):
                self._feed(worker)
        return future

    def _feed(self, worker: _Worker) -> None:
        """Give a worker what it can take; the lock is held. Paths are short, so that sending never blocks."""
        while self._waiting and len(worker.tasks) < TASKS_AHEAD:
            path, future = self._waiting.popleft()
            number = next(self._numbers)
            worker.tasks[number] = path, future
            try:
                worker.paths.send((number, path, self._features is not None and self._features.wants(path)))
            except OSError:  # the worker is dead: the collector finds that out and says so
                return

    def _collect(self, pipe: connection.Connection) -> None:
        """Hand one result to its future and new work to its worker; take a dead worker off the list."""
        try:
            number, reason, row = pipe.recv()
            decoded = reason or np.frombuffer(pipe.recv_bytes(), np.uint8).reshape(self._shape)
        except (EOFError, OSError):
            with self._lock:
                worker = self._workers.pop(pipe)
                self._fail(
                    "a process that decodes images died; the system may be out of memory",
                    [future for _, future in worker.tasks.values()],
                )
            pipe.close()
            worker.paths.close()
            return
        with self._lock:
            worker = self._workers[pipe]
            path, future = worker.tasks.pop(number)
            self._feed(worker)
        if row is not None and self._features is not None:
            self._features.rows[path] = row
        future.set_result(decoded)

    def _fail(self, message: str, in_work: Iterable[Future[Decoded]] = ()) -> None:
        """Let what is in work and all that waits fail, or be cancelled where we are closing; the lock is held."""
        if not self._closing:
            self._failure = PmtrainError(message, "use fewer with `--workers N`, or none with `--workers 0`")
        for future in [*in_work, *(future for _, future in self._waiting)]:
            if self._failure:
                future.set_exception(self._failure)
            else:
                future.cancel()
        self._waiting.clear()

    def close(self) -> None:
        """Kill the workers and wait until they are gone; nothing happens the second time."""
        with self._lock:
            self._closing = True
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
        if self._thread.ident:  # Ctrl-C may have come before it was started
            self._thread.join()
        with self._lock:
            self._fail("closed")
        atexit.unregister(self.close)


@contextlib.contextmanager
def _children_ignore_ctrl_c() -> Iterator[None]:
    """On Windows, what is started meanwhile ignores Ctrl-C from its first moment on: a process inherits that there.

    Elsewhere the mask of signals does this.
    """
    if sys.platform != "win32":
        yield
        return
    handle = ctypes.windll.kernel32.SetConsoleCtrlHandler
    handle(None, True)
    try:
        yield
    finally:
        handle(None, False)


def _work(
    paths: connection.Connection, images: connection.Connection, preprocess: Preprocess, cores: frozenset[int]
) -> None:
    """A worker's loop. In: a number, a path, whether its features are wanted. Out: the number, the reason or None, the
    features or None; then the image, if there is no reason."""
    for name in StopSignal.names:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if cores:  # OpenMP may have pinned the parent's thread that started us
        os.sched_setaffinity(0, cores)
    cv2.setNumThreads(1)
    try:
        while True:
            number, path, wanted = paths.recv()
            features = FeatureTable([path] if wanted else [])
            decoded = decode(path, preprocess, None, features)
            if isinstance(decoded, str):
                images.send((number, decoded, None))
            else:
                images.send((number, None, features.rows.get(path)))
                images.send_bytes(np.ascontiguousarray(decoded).data.cast("B"))
    except (EOFError, OSError):  # the parent is gone
        return
