"""How processes wait for one another, and notice that one has stopped.

Paddle's gloo gives up a collective after 30 seconds, but one process may well be busy for minutes with what the others
wait for: reading the data, a slow disk, its share of an evaluation. So a collective begins only once all have come to
it, and until then a thread of each keeps in touch with the others.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from typing import Any

BEAT = 2.0  # seconds between two signs of life while the main thread is busy
# Seconds without a sign after which a process is taken for stopped; gloo's own limit is 30.
SILENCE = float(os.environ.get("PMTRAIN_SILENCE", "20"))
LEAVING = -1


class Silent(RuntimeError):
    """Another process gives no sign of life, or has ended."""


def reason_of(error: Exception) -> str:
    """Why a collective failed, in a few words; gloo names lines of its own source where a connection ends."""
    text = str(error).strip()
    return "the connection is lost" if "gloo/transport" in text else text.splitlines()[-1][-200:] if text else "unknown"


class Pulse:
    """The signs of life of one process.

    Args:
        distributed: Paddle's module of collectives, connected.
    """

    def __init__(self, distributed: Any, rank: int, size: int) -> None:
        self._distributed = distributed
        self._rank, self._size = rank, size
        self._group = distributed.new_group(list(range(size)), backend="gloo")  # not that of the main thread
        self._changed = threading.Condition()  # over all below
        self._come = 0  # collectives that this process's main thread has come to
        self._free = 0  # collectives that all have come to
        self._last = time.monotonic()  # when all were heard
        self._leaving = False
        self._ended: str | None = None  # why nothing is heard any more
        self._cause: Exception | None = None
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def meet(self) -> None:
        """Wait, as long as it takes, until all processes have come as far.

        Raises:
            Silent: one has ended, or wasn't heard for SILENCE seconds.
        """
        with self._changed:
            self._come += 1
            self._changed.notify_all()
            while self._free < self._come:
                if self._ended is not None:
                    raise Silent(self._ended) from self._cause
                if time.monotonic() - self._last > SILENCE:
                    self._ended = f"no sign of life for {SILENCE:.0f} seconds"
                self._changed.wait(0.5)  # a wait without an end would hold off Ctrl-C on some systems

    def close(self) -> None:
        """Tell the others that this process is done."""
        with self._changed:
            self._leaving = True
            self._changed.notify_all()
        self._thread.join(0 if self._ended else 2 * BEAT)

    def _beat(self) -> None:
        while self._ended is None:
            with self._changed:
                self._changed.wait_for(lambda: self._come > self._free or self._leaving, BEAT)
                own = LEAVING if self._leaving else self._come
            try:
                counts = self._all(own)
            except (RuntimeError, OSError) as error:
                ended: str | None = reason_of(error)
                self._cause = error
            else:
                ended = "it has ended" if LEAVING in counts else None
            with self._changed:
                if ended is None:
                    self._free, self._last = min(counts), time.monotonic()
                self._ended = self._ended or ended
                self._changed.notify_all()

    def _all(self, own: int) -> list[int]:
        """Every process's number."""
        from pmtrain.system.framework import paddle

        own_cell = [own if rank == self._rank else 0 for rank in range(self._size)]
        cells = paddle.to_tensor(own_cell, "int64", place=paddle.CPUPlace())  # gloo's, also where a GPU computes
        self._distributed.all_reduce(cells, group=self._group)
        return cells.tolist()
