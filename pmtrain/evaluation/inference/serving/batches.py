"""Requests gathered into batches: while the network computes one, the images that arrive wait for the next."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Overloaded(Exception):
    """Too many images are waiting."""


class Batches(Generic[Item, Result]):
    """One thread that runs a network on whatever waits, up to `most` images at once; no image is delayed for others.

    Args:
        run: a batch -> one result per image.
        most: images in a batch.
        waiting: images that may wait; further ones are refused.
        context: entered by the thread, for as long as it runs.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        most: int,
        waiting: int,
        context: AbstractContextManager | None = None,
    ) -> None:
        self._run, self._most, self._limit = run, most, waiting
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, args=(context or nullcontext(),), name="network")
        self._thread.start()

    async def result(self, image: Item) -> Result:
        """The network's result for one image.

        Raises:
            Overloaded: too many are waiting.
        """
        future = asyncio.get_running_loop().create_future()
        with self._wake:
            if self._closed or len(self._waiting) >= self._limit:
                raise Overloaded
            self._waiting.append((image, future))
            self._wake.notify()
        return await future

    def _work(self, context: AbstractContextManager) -> None:
        with context:
            while batch := self._next():
                loop = batch[0][1].get_loop()
                try:
                    results = self._run([image for image, _ in batch])
                except Exception as error:
                    loop.call_soon_threadsafe(_fail, [future for _, future in batch], error)
                else:
                    loop.call_soon_threadsafe(_finish, [future for _, future in batch], results)

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """What waits, up to a batch, once there is something; nothing when closed."""
        with self._wake:
            while not self._closed:
                # A request that was given up meanwhile costs no computation.
                while self._waiting and self._waiting[0][1].cancelled():
                    self._waiting.popleft()
                if self._waiting:
                    return [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                self._wake.wait()
        return []

    def close(self) -> None:
        """End the thread; what waits is dropped."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()


def _finish(futures: Sequence[asyncio.Future[Result]], results: Sequence[Result]) -> None:
    for future, result in zip(futures, results, strict=True):
        if not future.done():
            future.set_result(result)


def _fail(futures: Sequence[asyncio.Future[Result]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
