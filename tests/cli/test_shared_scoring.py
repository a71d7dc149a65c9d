"""`pmtrain eval --nproc` and `predict --nproc`: the images shared out, and the results of one process."""

from __future__ import annotations

import shutil
import sys

import pytest

from pmtrain.system.hardware import thread_count

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Paddle has gloo for Linux alone"),
]


def two() -> tuple[object, ...]:
    """Two processes with the threads each that this one has: other sums of floats would differ in their last bits."""
    return "--nproc", 2, "--threads", 2 * thread_count()


def test_an_evaluation_by_two_processes_is_one_s(checkpoint, small_set, run_cli, run_process, tmp_path):
    """8 images in batches of 3, three for two processes; a bad one; and the same images changed."""
    data = tmp_path / "data"
    shutil.copytree(small_set, data)
    next((data / "val" / "sick").iterdir()).write_bytes(b"no image")
    options = ("--data", data, "--batch-size", 3, "--on-bad-image", "skip", "--cache-limit", 0, "--n-boot", 100)
    more = ("--shift", "stain", "--shift-severities", "1")
    alone = run_cli("eval", checkpoint, *options, *more, "--output", "alone")
    assert alone.exit_code == 0, alone.stderr
    shared = run_process("eval", checkpoint, *options, *more, "--output", "shared", *two(), text=True)
    assert shared.returncode == 0, shared.stderr
    assert shared.stdout == alone.stdout
    assert shared.stderr.count("left out") == 1
    for name in ("predictions.csv", "metrics.json", "shift.csv"):
        assert (tmp_path / "shared" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name


def test_predictions_by_two_processes_are_one_s_in_the_order_given(
    checkpoint, small_set, run_cli, run_process, tmp_path
):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    arguments = ("predict", checkpoint, small_set / "val", bad, small_set / "train", "--batch-size", 4, "--workers", 0)
    alone = run_cli(*arguments)
    shared = run_process(*arguments, *two(), text=True)
    assert alone.exit_code == shared.returncode == 1, shared.stderr
    assert len(alone.stdout.splitlines()) == 1 + 8 + 1 + 12
    assert shared.stdout == alone.stdout
    assert shared.stderr.count("1 of 21 images couldn't be read") == 1 and "process 1" not in shared.stderr
