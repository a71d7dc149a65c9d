"""Stopping between batches when the user or the system asks for it."""

from __future__ import annotations

import os
import signal
import threading


class Stopped(Exception):
    """The user or the system asked the run to stop."""


class StopSignal:
    """Ctrl-C and SIGTERM ask for a stop at the next batch; a second Ctrl-C stops at once, without saving.

    Args:
        says: whether it tells so; of several processes that get the signal together, one does.
    """

    # On Windows no SIGTERM comes from outside; SIGBREAK is Ctrl-Break, and the window or the session being closed.
    names = [name for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]

    def __init__(self, says: bool = True) -> None:
        self.says = says
        self.signum = 0

    def __enter__(self) -> StopSignal:
        # Only the main thread may receive signals; a run in another one can't be stopped by them.
        names = self.names if threading.current_thread() is threading.main_thread() else []
        self.before = {name: signal.signal(getattr(signal, name), self.receive) for name in names}
        return self

    def __exit__(self, *exc: object) -> None:
        for name, handler in self.before.items():
            signal.signal(getattr(signal, name), handler)

    def receive(self, signum: int, frame: object) -> None:
        if self.signum and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum
        if self.says:  # not with print(): the signal may have interrupted one, and print() can't be entered twice
            os.write(2, b"\nstopping after this batch; Ctrl-C again stops at once, without saving\n")

    def check(self) -> None:
        """Raises: Stopped, once a signal has come."""
        if self.signum:
            raise Stopped
