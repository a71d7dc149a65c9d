"""Requests gathered into batches: while the networks compute, the images that arrive wait for the next one."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, NamedTuple, TypeVar

from pmtrain.system.hardware import use_every_core

Given = TypeVar("Given")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Overloaded(Exception):
    """Too many images are waiting."""


class Worker(NamedTuple, Generic[Item, Result]):
    """A network of its own.

    Args:
        run: a batch -> one result per image.
        context: entered by the worker's thread, for as long as it runs.
    """

    run: Callable[[Sequence[Item]], Sequence[Result]]
    context: AbstractContextManager = nullcontext()


class Batches(Generic[Given, Item, Result]):
    """A thread for each worker, on whatever waits, up to `most` images at once; no image is delayed for others.

    Batches have few sizes (`batch_sizes`): the engine has a plan for each, and keeps a limited number of them.

    Args:
        workers: networks that give the same results.
        most: images in a batch.
        waiting: images that may wait; further ones are refused.
        prepare: makes an image of what was given, in one of `threads` threads, which hands it to the networks itself:
            the event loop is woken once for each image.
    """

    def __init__(
        self,
        workers: Sequence[Worker[Item, Result]],
        most: int,
        waiting: int,
        prepare: Callable[[Given], Item],
        threads: int = 1,
    ) -> None:
        self._prepare = prepare
        self._preparing = ThreadPoolExecutor(threads, "decode", initializer=use_every_core)
        self._sizes, self._limit = batch_sizes(most), waiting
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, args=(worker,), name="network") for worker in workers]
        for thread in self._threads:
            thread.start()

    async def result(self, given: Given) -> Result:
        """The network's result for one image.

        Raises:
            Overloaded: too many are waiting.
            Exception: what `prepare` or the network raised.
        """
        future = asyncio.get_running_loop().create_future()
        if self._closed:
            raise Overloaded
        self._preparing.submit(self._put, given, future)
        return await future

    def _put(self, given: Given, future: asyncio.Future[Result]) -> None:
        if future.cancelled():  # given up meanwhile
            return
        try:
            image = self._prepare(given)
            with self._wake:
                if self._closed or len(self._waiting) >= self._limit:
                    raise Overloaded
                self._waiting.append((image, future))
                self._wake.notify()
        except Exception as error:
            future.get_loop().call_soon_threadsafe(_fail, [future], error)

    def _work(self, worker: Worker[Item, Result]) -> None:
        use_every_core()  # OpenMP may have pinned the thread that started this one
        with worker.context:
            while batch := self._next():
                loop = batch[0][1].get_loop()
                try:
                    results = worker.run([image for image, _ in batch])
                except Exception as error:
                    loop.call_soon_threadsafe(_fail, [future for _, future in batch], error)
                else:
                    loop.call_soon_threadsafe(_finish, [future for _, future in batch], results)

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """The longest waiting ones, as many as make a batch, once there is something; nothing when closed."""
        with self._wake:
            while not self._closed:
                # A request that was given up meanwhile costs no computation.
                while self._waiting and self._waiting[0][1].cancelled():
                    self._waiting.popleft()
                if self._waiting:
                    count = next(size for size in self._sizes if size <= len(self._waiting))
                    return [self._waiting.popleft() for _ in range(count)]
                self._wake.wait()
        return []

    def close(self) -> None:
        """End the threads; what waits is dropped."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        self._preparing.shutdown(cancel_futures=True)
        for thread in self._threads:
            thread.join()


def batch_sizes(most: int) -> list[int]:
    """`most` and the powers of two below it, from the largest on: 6 -> 6, 4, 2, 1."""
    return [most, *(2**power for power in range((most - 1).bit_length() - 1, -1, -1))]


def _finish(futures: Sequence[asyncio.Future[Result]], results: Sequence[Result]) -> None:
    for future, result in zip(futures, results, strict=True):
        if not future.done():
            future.set_result(result)


def _fail(futures: Sequence[asyncio.Future[Result]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
