"""`eval` and `predict` with --adapt-bn: what they say, write and refuse."""

from __future__ import annotations

import json

import pytest


@pytest.mark.slow
def test_the_commands_say_so_or_refuse(checkpoint, small_set, run_cli, monkeypatch):
    few = run_cli("predict", checkpoint, small_set / "val", "--adapt-bn", "--workers", "0")
    assert few.exit_code == 2 and "8 images, and it takes 50" in few.stderr and not few.stdout
    monkeypatch.setattr("pmtrain.models.adapt_bn.FEWEST", 8)
    told = "statistics of these 8 images (--adapt-bn)"
    done = run_cli("predict", checkpoint, small_set / "val", "--adapt-bn", "--workers", "0")
    assert done.exit_code == 0 and told in done.stderr
    plain = run_cli("predict", checkpoint, small_set / "val", "--workers", "0")
    assert plain.stdout != done.stdout and told not in plain.stderr
    options = ("--data", small_set, "--workers", "0", "--n-boot", "100", "--output", "out")
    evaluated = run_cli("eval", checkpoint, *options, "--adapt-bn")
    assert evaluated.exit_code == 0 and told in evaluated.stdout
    with open("out/metrics.json") as file:
        assert json.load(file)["adapted_bn"] == 8
