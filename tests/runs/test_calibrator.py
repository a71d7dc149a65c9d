"""A stored calibration: its map by hand, its inverse, its order, and old and damaged side files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.special import expit, logit

from pmtrain.runs.calibrator import Calibrator, calibrated_threshold, probabilities_of, raw_threshold
from pmtrain.runs.records import notes_info, parse_info

NEW = ("calibration", "prior")
ABOUT = {"prevalence": 0.4, "images": 10, "positives": 4}
LINE = Calibrator(method="platt", slope=0.5, intercept=-1.0, **ABOUT)
STEPS = Calibrator(method="isotonic", knots=((-2.0, -1.5), (0.0, 0.5), (4.0, 1.0)), **ABOUT)


def test_a_line_and_steps_worked_by_hand():
    assert LINE.logits([-2.0, 0.0, 3.0]) == pytest.approx([-2.0, -1.0, 0.5])
    # Halfway between knots, at a knot, and one logit beyond the first and two beyond the last.
    assert STEPS.logits([-1.0, 0.0, 2.0, -3.0, 6.0]) == pytest.approx([-0.5, 0.5, 0.75, -1.501, 1.002])
    assert probabilities_of([0.0], LINE) == pytest.approx([1 / (1 + np.e)])
    assert probabilities_of([0.0], None) == [0.5]


@pytest.mark.parametrize("calibrator", [LINE, STEPS], ids=["line", "steps"])
def test_the_order_stays_and_the_inverse_leads_back(calibrator):
    x = np.linspace(-9, 9, 181)
    y = calibrator.logits(x)
    assert (np.diff(y) > 0).all()
    assert calibrator.inverse(y) == pytest.approx(x, abs=1e-9)


@pytest.mark.parametrize("calibrator", [LINE, STEPS, None], ids=["line", "steps", "none"])
@pytest.mark.parametrize("threshold", [0.0, 0.03, 0.5, 0.9, 1.0])
def test_a_mapped_threshold_decides_alike(calibrator, threshold):
    logits = np.random.default_rng(0).normal(0, 4, 500)
    mapped = calibrated_threshold(threshold, calibrator)
    assert ((expit(logits) >= threshold) == (probabilities_of(logits, calibrator) >= mapped)).all()
    assert raw_threshold(mapped, calibrator) == pytest.approx(threshold, abs=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"slope": 0.0},
        {"slope": -1.0},
        {"knots": ((0.0, 1.0), (1.0, 1.0))},
        {"knots": ((1.0, 0.0), (0.0, 1.0))},
        {"prevalence": 0.0},
    ],
)
def test_a_map_that_does_not_increase_is_refused(wrong):
    with pytest.raises(ValidationError):
        Calibrator(**{"method": "platt", **ABOUT, **wrong})


def test_the_side_file_keeps_it_and_an_old_one_has_none(tmp_path):
    info = notes_info(50).model_copy(update={"threshold": 0.3, "calibration": STEPS, "prior": 0.25})
    again = parse_info(info.model_dump_json().encode(), tmp_path / "best.json")
    assert (again.calibration, again.prior, again.threshold) == (STEPS, 0.25, 0.3)
    # logit 0.3 = -0.847 lies between the first two knots, where the map is the logit plus a half.
    assert again.decision_threshold == pytest.approx(expit(logit(0.3) + 0.5))
    old = {
        name: value
        for name, value in json.loads(info.model_dump_json()).items()
        if name not in ("calibration", "prior")
    }
    before = parse_info(json.dumps(old).encode(), tmp_path / "best.json")
    assert (before.calibration, before.prior, before.decision_threshold) == (None, None, 0.3)
    assert before.probabilities(np.array([0.0])) == [0.5]
