"""Scores as a table: what is written comes back to the bit."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pmtrain.data.dataset import Sample
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.score_table import read_logits, read_scores, score_table
from pmtrain.system.errors import PmtrainError


def test_a_table_comes_back_to_the_bit(tmp_path):
    samples = [Sample(Path(name), n, None, "p,1") for n, name in enumerate(["a, b.png", "é.png"])]
    logits = np.array([-0.1, math.nextafter(1 / 3, 1)])
    table = score_table(Scores(samples, np.array([0, 1]), logits), str_of, 0.5, {s.path: 7 for s in samples})
    lines = table.decode().splitlines()
    assert lines[0] == "file,patient,fold,label,logit,probability,prediction"
    assert lines[1].startswith('"a, b.png","p,1",7,0,-0.1,0.47502') and lines[1].endswith(",0")
    (tmp_path / "x.csv").write_bytes(table)
    assert list(read_logits(tmp_path / "x.csv").items()) == [("a, b.png", -0.1), ("é.png", logits[1])]


def test_names_that_a_spreadsheet_would_run_come_back_and_are_none(tmp_path):
    samples = [Sample(Path(name), 0, None, "=1+1") for name in ("=cmd|' /C calc'!A0.png", "-a.png")]
    table = score_table(Scores(samples, np.array([0, 1]), np.array([-1.5, 2.0])), str_of)
    assert not [line for line in table.decode().splitlines() if line.startswith(("=", "-")) or ",=" in line]
    (tmp_path / "x.csv").write_bytes(table)
    found = read_scores(tmp_path / "x.csv")
    assert list(found) == [str(sample.path) for sample in samples] and found["-a.png"] == ("=1+1", 1, 2.0)


def str_of(sample: Sample) -> str:
    return str(sample.path)


@pytest.mark.parametrize("text", ["file,label\na,1\n", "file,logit\na,x\n", "file,logit\na\n"])
def test_a_damaged_table_is_named(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(PmtrainError, match=r"x\.csv: can't be read"):
        read_logits(tmp_path / "x.csv")
