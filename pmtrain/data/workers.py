"""Decoding off the main thread: a pool of spawned processes, or one thread where none are wanted."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import connection, resource_tracker
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np

from pmtrain.data.images import BadImage, read_image
from pmtrain.data.transforms import Preprocess
from pmtrain.errors import PmtrainError
from pmtrain.hardware import ALLOWED_CORES

# A decoded image of training size, or why there is none.
Decoded = np.ndarray | str

TASKS_AHEAD = 2  # per worker: one in work and one waiting, so that no worker waits for the parent


def decode(path: Path, preprocess: Preprocess) -> Decoded:
    """Read and resize one image: uint8 (S, S, 3), or the reason why it can't be read."""
    try:
        return preprocess.resize(read_image(path))
    except BadImage as bad:
        return bad.reason


class DecodingThread:
    """Decodes one image after the other beside the main thread."""

    def __init__(self, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="decode")

    def submit(self, path: Path) -> Future[Decoded]:
        return self._executor.submit(decode, path, self._preprocess)

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)


class _Worker(NamedTuple):
    paths: connection.Connection
    futures: deque[Future[Decoded]]  # in the order of the paths sent


class DecodingProcesses:
    """Processes that decode what is submitted, by the spawn start method on every system.

    They hold nothing worth saving, so they leave Ctrl-C and SIGTERM to the parent, are killed by `close()`, and
    end by themselves when the parent is gone: a pipe to each is all that ties them to it.

    Raises, from the futures:
        PmtrainError: a worker died.
    """

    def __init__(self, count: int, preprocess: Preprocess) -> None:
        self._lock = threading.Lock()  # over all below
        self._waiting: deque[tuple[Path, Future[Decoded]]] = deque()
        # Of each worker, by the pipe its images come through: the pipe to it, and what it has been given.
        self._workers: dict[connection.Connection, _Worker] = {}
        self._processes: list[multiprocessing.process.BaseProcess] = []
        self._shape = (preprocess.size, preprocess.size, 3)
        self._failure: PmtrainError | None = None
        self._closing = False
        self._collector = threading.Thread(target=self._collect, name="collect images", daemon=True)
        # Runs before multiprocessing's own handler, which would wait for the workers for ever.
        atexit.register(self.close)
        self._start(count, preprocess)
        self._collector.start()

    def _start(self, count: int, preprocess: Preprocess) -> None:
        context = multiprocessing.get_context("spawn")
        with _signals_held():
            for _ in range(count):
                # One-way pipes, which carry images several times faster than two-way ones.
                paths_out, paths_in = context.Pipe(duplex=False)
                images_out, images_in = context.Pipe(duplex=False)
                process = context.Process(
                    target=_work, args=(paths_out, images_in, preprocess, ALLOWED_CORES), daemon=True
                )
                process.start()
                paths_out.close()  # the worker has its own copies; a pipe must end with it
                images_in.close()
                self._processes.append(process)
                self._workers[images_out] = _Worker(paths_in, deque())

    def submit(self, path: Path) -> Future[Decoded]:
        """Queue one image."""
        future: Future[Decoded] = Future()
        with self._lock:
            if self._failure:
                future.set_exception(self._failure)
                return future
            self._waiting.append((path, future))
            for worker in sorted(self._workers.values(), key=lambda worker: len(worker.futures)):
                self._feed(worker)
        return future

    def _feed(self, worker: _Worker) -> None:
        """Give a worker what it can take; the lock is held. Paths are short, so that sending never blocks."""
        while self._waiting and len(worker.futures) < TASKS_AHEAD:
            path, future = self._waiting.popleft()
            worker.futures.append(future)
            try:
                worker.paths.send(path)
            except OSError:  # the worker is dead: the collector finds that out and says so
                return

    def _collect(self) -> None:
        """Thread: hand results to their futures and new work to their workers, until every pipe has ended."""
        while self._workers:
            for ready in connection.wait(list(self._workers)):
                pipe = cast(connection.Connection, ready)
                try:
                    reason = pipe.recv()
                    decoded = reason or np.frombuffer(pipe.recv_bytes(), np.uint8).reshape(self._shape)
                except (EOFError, OSError):
                    self._bury(pipe)
                    continue
                with self._lock:
                    worker = self._workers[pipe]
                    future = worker.futures.popleft()
                    self._feed(worker)
                future.set_result(decoded)

    def _bury(self, pipe: connection.Connection) -> None:
        """Take a dead worker off the list; unless we killed it, everything asked for fails."""
        with self._lock:
            worker = self._workers.pop(pipe)
            pipe.close()
            worker.paths.close()
            lost = [*worker.futures]
            if not self._closing:
                self._failure = PmtrainError(
                    "a process that decodes images died; the system may be out of memory",
                    "use fewer with `--workers N`, or none with `--workers 0`",
                )
                lost += [future for _, future in self._waiting]
                self._waiting.clear()
        for future in lost:
            if self._failure:
                future.set_exception(self._failure)
            else:
                future.cancel()

    def close(self) -> None:
        """Kill the workers and wait until they are gone; nothing happens the second time."""
        with self._lock:
            self._closing = True
            lost = [future for _, future in self._waiting]
            self._waiting.clear()
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
        if self._collector.ident:  # Ctrl-C may have come before it was started
            self._collector.join()
        for future in lost:
            future.cancel()
        atexit.unregister(self.close)


class _signals_held:
    """Within, Ctrl-C and SIGTERM wait, and processes started inherit that: none dies of them while it starts."""

    def __enter__(self) -> None:
        self._before = None
        if hasattr(signal, "pthread_sigmask"):
            resource_tracker.ensure_running()  # it would be started below and let the signals through again
            self._before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


def _work(
    paths: connection.Connection, images: connection.Connection, preprocess: Preprocess, cores: frozenset[int]
) -> None:
    """A worker's life: paths in; out, for each, the reason why it can't be read, or None and the image."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if cores:  # OpenMP may have pinned the parent's thread that started us
        os.sched_setaffinity(0, cores)
    cv2.setNumThreads(1)
    try:
        while True:
            decoded = decode(paths.recv(), preprocess)
            if isinstance(decoded, str):
                images.send(decoded)
            else:
                images.send(None)
                images.send_bytes(np.ascontiguousarray(decoded).data.cast("B"))
    except (EOFError, OSError):  # the parent is gone
        return
