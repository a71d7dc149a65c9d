"""`pmtrain serve` as a process: it says where it is, answers there, and ends with Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from tests.conftest import command, environment

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C reaches every process of the console there")
def test_it_serves_until_ctrl_c(checkpoint, small_set):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command("serve", checkpoint, "--port", 0), env=environment({}), **pipes) as process:
        try:
            address = process.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            image = next((small_set / "val").rglob("*.png")).read_bytes()
            request = urllib.request.Request(f"{address}predict", image, {"Content-Type": "image/png"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert 0 < json.load(answer)["predictions"][0]["probability"] < 1
            process.send_signal(signal.SIGINT)
            printed, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, printed) == (0, "")
    assert said.splitlines()[-1] == "stopped"


def test_a_port_in_use_is_an_error(checkpoint, run_cli):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run_cli("serve", checkpoint, "--port", taken.getsockname()[1])
    assert done.exit_code == 2
    assert "--port" in done.stderr


def test_a_missing_package_is_named(checkpoint, run_cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = run_cli("serve", checkpoint)
    assert done.exit_code == 1
    assert 'pip install "pmtrain[serve]"' in done.stderr
