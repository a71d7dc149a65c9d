"""`pmtrain train --nproc`: several processes of one training, on this machine's CPU."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pmtrain.runs.formats.state_dict import load_state
from tests.conftest import QUICK, command, environment

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Paddle has gloo for Linux alone")

OPTIONS = (*QUICK, "--layers", "18", "--batch-size", "4", "--epochs", "2", "--threads", "2")


@pytest.fixture(scope="module")
def pair(small_set, tmp_path_factory):
    """The same training by two processes, and by one in two parts: the same images in the same parts.

    Each computes with one thread: two add up in another order, and batch norms of two images make much of a last bit.
    """
    home = tmp_path_factory.mktemp("pair")
    done = {}
    for name, how in (("processes", ("--nproc", 2)), ("parts", ("--accumulate", 2, "--threads", 1))):
        arguments = ("train", "--data", small_set, "--output", home / name, *OPTIONS, *how)
        done[name] = subprocess.run(command(*arguments), env=environment({}), capture_output=True, timeout=300)
        assert done[name].returncode == 0, done[name].stderr.decode()
    return home, done


@pytest.mark.slow
def test_two_processes_learn_as_one_does_in_two_parts(pair):
    """Batches of 4 as halves of 2 either way: every training loss is the same, as the batch norms' statistics are."""
    _, done = pair
    losses = {
        name: [float(line.split()[-1]) for line in each.stdout.decode().splitlines() if line.startswith("epoch")]
        for name, each in done.items()
    }
    assert len(losses["parts"]) == 6
    assert losses["processes"] == pytest.approx(losses["parts"], abs=2e-3)
    assert (b"in each of 2 processes\n" in done["processes"].stderr) == (b"oneDNN engine" in done["processes"].stderr)
    assert b"Modified FLAGS" not in done["processes"].stderr and b"ccache" not in done["processes"].stderr


@pytest.mark.slow
def test_scores_are_one_process_s(pair, run_cli):
    """validation.csv of two processes, against `eval` of the last weights by one."""
    home, _ = pair
    state = next((home / "processes/last").glob("*/model.pdparams"))
    done = run_cli("eval", state, "--output", "alone", "--workers", 0, "--batch-size", 4)
    assert done.exit_code == 0, done.stderr
    rows = []
    for path in (home / "processes/validation.csv", "alone/predictions.csv"):
        with open(path, newline="", encoding="utf-8") as file:
            rows.append([(row["file"], float(row["logit"])) for row in csv.DictReader(file)])
    assert [path for path, _ in rows[0]] == [path for path, _ in rows[1]]
    np.testing.assert_allclose([logit for _, logit in rows[0]], [logit for _, logit in rows[1]], rtol=1e-5)


@pytest.mark.slow
def test_a_killed_process_ends_all_and_one_process_goes_on(small_set, tmp_path, run_cli):
    arguments = command(
        "train", "--data", small_set, "--output", tmp_path / "run", *OPTIONS, "--epochs", 500, "--nproc", 2
    )
    with subprocess.Popen(
        arguments, env=environment({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not (tmp_path / "run/last/state.json").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        victim = [child for child in map(int, children) if b"spawn_main" in _command_line(child)][-1]
        os.kill(victim, signal.SIGKILL)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGKILL
    assert "was ended by SIGKILL" in stderr and "Traceback" not in stderr
    state = load_state(next((tmp_path / "run/last").glob("*/model.pdparams")))
    assert all(np.isfinite(value).all() for value in state.values())
    epochs = len((tmp_path / "run/metrics.csv").read_text().splitlines())  # with its head
    done = run_cli("train", "--resume", tmp_path / "run", "--epochs", epochs + 1, "--nproc", 1)
    assert done.exit_code == 0, done.stderr
    assert "goes on with --nproc 1, not 2" in done.stderr


def _command_line(pid: int) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--mixup", 0.2), "--mixup 0.2"),
        (("--cutmix", 1), "--cutmix 1"),
        (("--sync-bn",), "give --drop-last"),
        (("--sync-bn", "--drop-last", "--warmup-head", 1), "Paddle can't freeze it"),
        (("--sync-bn", "--nproc", 1), "--sync-bn with one process"),
    ],
)
def test_what_can_not_be_shared_is_refused(run_cli, small_set, tmp_path, options, said):
    done = run_cli("train", "--data", small_set, "--nproc", 2, *options)
    assert done.exit_code == 2 and said in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())
