"""scripts/soak.py: a training that is killed 20 times at random instants comes to the same bits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "soak.py"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it looks for processes in /proc")
def test_twenty_kills_at_random_instants_lose_nothing():
    program = [sys.executable, SCRIPT, "--forked", "--kills", "20", "--seed", "1", "--epochs", "4"]
    done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment({}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal the undisturbed run's to the bit; temporary files left: none; processes left: none" in done.stdout
