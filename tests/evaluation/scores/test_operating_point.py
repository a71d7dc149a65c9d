"""The threshold that --threshold asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pmtrain.evaluation.scores.operating_point import operating_point
from pmtrain.evaluation.scores.score import Scores
from pmtrain.runs.checkpoint import Checkpoint
from pmtrain.runs.records import notes_info
from pmtrain.system.errors import PmtrainError


def test_a_threshold_is_stored_given_or_chosen():
    scores = Scores([], np.array([0, 0, 1, 1]), np.array([-2.0, -1.0, 1.0, 2.0]))
    checkpoint = Checkpoint({}, notes_info(50), Path("a"), None)
    stored, given = (operating_point(text, checkpoint, scores) for text in ("stored", "0.3"))
    assert (stored.value, stored.tuned) == (0.5, False)
    assert (given.value, given.tuned) == (0.3, False)
    chosen = operating_point("youden", checkpoint, scores)
    assert chosen.tuned
    assert 0.2689 < chosen.value <= 0.7311  # between the probabilities of -1 and 1
    with pytest.raises(PmtrainError, match="0 are positive"):
        operating_point("youden", checkpoint, Scores([], np.array([0, 0]), np.array([0.0, 1.0])))
