"""The share of positives that a network learned, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pmtrain.config import TrainConfig, dump_yaml
from pmtrain.evaluation.calibration.prior import held_prevalence, learned_prior, prior_of
from pmtrain.runs.calibrator import Calibrator
from pmtrain.runs.checkpoint import Checkpoint
from pmtrain.runs.records import notes_info

LABELS = np.repeat([0, 1], [30, 10])


@pytest.mark.parametrize(
    ("weights", "sampler", "prior"),
    [
        (None, "shuffle", 1 / 4),
        ((1.0, 3.0), "shuffle", 1 / 2),  # 10 images that count for 30
        ((40 / 60, 40 / 20), "shuffle", 1 / 2),  # balanced
        (None, "balanced", 1 / 2),
        ((1.0, 3.0), "balanced", 3 / 4),
    ],
)
def test_it_follows_weights_and_sampler(weights, sampler, prior):
    assert learned_prior(LABELS, weights, sampler) == pytest.approx(prior)
    assert learned_prior(np.zeros(3), weights, sampler) is None


def test_an_older_checkpoint_takes_it_from_its_run(tmp_path):
    info = notes_info(50)
    checkpoint = Checkpoint({}, info, tmp_path / "best.pdparams", None)
    assert prior_of(checkpoint) is None
    (tmp_path / "config.yaml").write_text(dump_yaml(TrainConfig(class_weight="3")))
    counts = {"train": {"negative": 30, "positive": 10}}
    (tmp_path / "run.json").write_text(json.dumps({"data": {"images": counts}}))
    assert prior_of(checkpoint) == pytest.approx(1 / 2)
    own = Checkpoint({}, info.model_copy(update={"prior": 0.3}), tmp_path / "best.pdparams", None)
    assert (prior_of(own), held_prevalence(own)) == (0.3, 0.3)
    calibration = Calibrator(method="platt", prevalence=0.6, images=10, positives=6)
    fitted = Checkpoint({}, own.info.model_copy(update={"calibration": calibration}), own.path, None)
    assert held_prevalence(fitted) == 0.6
    (tmp_path / "run.json").write_text("{}")
    assert prior_of(checkpoint) is None
