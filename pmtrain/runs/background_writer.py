"""Writes files in a thread while the training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from pmtrain.system import console
from pmtrain.system.errors import PmtrainError
from pmtrain.system.hardware import use_every_core

POLL = 0.2  # seconds: on Windows, Python sees Ctrl-C only between two waits


class BackgroundWriter:
    """Runs one job at a time in a thread. What a job raises is raised by the next `check`, `wait` or `start`.

    Used as a context manager, it waits for the last job at the end. Where an exception ends the block, that one goes
    on, and what the job raised is a warning.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.wait()
            return
        self._join()
        if self._error is not None:
            text = self._error.message if isinstance(self._error, PmtrainError) else repr(self._error)
            console.warn(f"the last save failed: {text}")

    def start(self, job: Callable[[], object]) -> None:
        """Run `job` in the thread, once the one before is done. It must own all that it writes.

        Raises: what the job before raised; then `job` is not run.
        """
        self.wait()
        # A daemon, so that Ctrl-C during the wait ends the program even where a disk hangs: files stay whole then too.
        self._thread = threading.Thread(target=self._run, args=(job,), name="pmtrain writer", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises: what the job raised.
        """
        self._join()
        self.check()

    def check(self) -> None:
        """Raises: what the last job raised, if it has; once."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _join(self) -> None:
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(POLL)
        self._thread = None

    def _run(self, job: Callable[[], object]) -> None:
        try:
            use_every_core()
            job()
        except BaseException as error:
            self._error = error
