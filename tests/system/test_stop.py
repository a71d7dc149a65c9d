"""Signals that ask for a stop."""

from __future__ import annotations

import signal

import pytest

from pmtrain.system.stop import Stopped, StopSignal


@pytest.mark.parametrize("says", [True, False])
def test_of_several_processes_one_says_that_it_stops(says, capfd):
    with StopSignal(says) as stop:
        stop.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Stopped):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (stop.signum, "stopping after this batch" in capfd.readouterr().err) == (signal.SIGINT, says)
