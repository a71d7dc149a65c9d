"""The benchmarks' arithmetic and their command lines; what they measure is nobody's to assert."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture
def turns(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from bench import turns

    return turns


def test_a_summary_holds_the_median_and_the_quartiles(turns):
    runner = turns.Runner("one", Path(sys.executable), {}, times=[5.0, 1.0, 3.0, 2.0, 4.0])
    row = turns.summary(runner)
    assert (row["median"], row["low"], row["high"], row["best"]) == (3.0, 2.0, 4.0, 1.0)
    assert turns.summary(turns.Runner("none", Path(sys.executable), {}, error="why"))["error"] == "why"


def test_a_ratio_compares_the_turns_of_one_round(turns):
    # The machine halves its speed after the first round; the runners' ratio stays.
    rows = [{"runner": "a", "times": [1.0, 2.0, 2.0]}, {"runner": "b", "times": [2.0, 4.0, 4.0]}]
    assert turns.ratio(rows, "a", ["b"]) == 0.5
    assert turns.ratio(rows, "a", ["missing"]) is None


def test_the_best_other_is_the_one_of_the_lowest_median(turns):
    rows = [{"runner": name, "times": [time]} for name, time in (("a", 3.0), ("b", 4.0), ("c", 2.0))]
    assert turns.ratio(rows, "a", ["b", "c"]) == 1.5


def test_a_table_is_markdown(turns):
    table = turns.table(
        [{"name": "x", "value": 2.5}], {"runner": lambda row: row["name"], "s": lambda row: row["value"]}
    )
    assert table.splitlines() == ["| runner | s   |", "|--------|-----|", "| x      | 2.5 |"]


@pytest.mark.parametrize("script", ["bench_train.py", "bench_eval.py"])
def test_the_command_line_explains_itself_and_needs_the_standard_library_alone(script):
    command = [sys.executable, "-S", str(SCRIPTS / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "--rounds" in done.stdout


def test_a_worker_says_what_failed(turns):
    runner = turns.Runner("no-such-runner", Path(sys.executable), {"work": "train", "warm": 0})
    runner.start()
    assert "no-such-runner" in runner.error
    runner.turn()
    assert runner.times == []
