"""A stop that the person or the system asks for, taken up between batches."""

from __future__ import annotations

import os
import signal


class Stopped(Exception):
    """The person or the system asked the run to stop."""


class StopSignal:
    """Ctrl-C and SIGTERM ask for a stop at the next batch; a second Ctrl-C stops at once, without a save."""

    # SIGBREAK is Ctrl-Break on Windows, where no SIGTERM arrives from outside.
    names = [name for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]

    def __init__(self) -> None:
        self.signum = 0

    def __enter__(self) -> StopSignal:
        self.before = {name: signal.signal(getattr(signal, name), self.receive) for name in self.names}
        return self

    def __exit__(self, *exc: object) -> None:
        for name, handler in self.before.items():
            signal.signal(getattr(signal, name), handler)

    def receive(self, signum: int, frame: object) -> None:
        if self.signum and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum
        # Not by print(): the signal may have come in the middle of one, and that can't be entered twice.
        os.write(2, b"\nstopping after this batch; Ctrl-C again stops at once, without saving\n")

    def check(self) -> None:
        """Raises: Stopped, once a signal has come."""
        if self.signum:
            raise Stopped
