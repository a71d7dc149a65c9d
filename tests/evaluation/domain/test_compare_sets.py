"""Sets of one origin and of two, made of random numbers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pmtrain.evaluation.domain.compare_sets import OTHER, SAME, compare_sets, most_telling, tell_apart
from pmtrain.evaluation.domain.domain_model import DomainModel, Measured
from pmtrain.evaluation.domain.image_statistics import STATISTICS

K = len(STATISTICS)


def drawn(seed: int, count: int = 80, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Features and statistics; `shift` moves the statistic `blue`."""
    rng = np.random.default_rng(seed)
    statistics = rng.normal(0.5, 0.1, (count, K))
    statistics[:, list(STATISTICS).index("blue")] += shift
    return rng.random((count, 32), np.float32), statistics


@pytest.fixture(scope="module")
def model() -> DomainModel:
    parts = [Measured(*drawn(seed), np.random.default_rng(seed).normal(0.5, 0.3, (80, K))) for seed in (0, 1)]
    return DomainModel.fit(*parts, kept=80)


def test_a_set_of_the_same_origin_is_not_told_apart(model):
    found = compare_sets(model, *drawn(2), None, 0)
    assert found.verdict == SAME
    assert found.statistics.interval.low < 0.6
    assert [line for line in found.lines() if "most by" in line] == []


def test_a_set_of_another_origin_is_told_apart_by_what_differs(model):
    found = compare_sets(model, *drawn(2, shift=0.4), None, 0)
    assert found.verdict == OTHER
    assert next(iter(found.named)) == "blue"
    assert found.statistics.auc > 0.95 > found.features.auc
    assert "the calibration does not carry over" in "\n".join(found.lines())
    assert found.report()["statistics"]["auc"] == found.statistics.auc


def test_an_auc_of_1_by_patient_has_no_interval(model):
    found = compare_sets(model, *drawn(2, shift=50), [f"p {number // 2}" for number in range(80)], 0)
    assert (found.statistics.auc, found.statistics.interval.low) == (1.0, None)
    assert "AUC 1.000 by image statistics" in "\n".join(found.lines())


def test_too_few_images_are_judged_one_by_one_only(model):
    found = compare_sets(model, *drawn(2, count=9), None, 0)
    assert (found.statistics, found.verdict, len(found.familiar)) == (None, "", 9)
    assert "there are 9" in "\n".join(found.lines())


def test_images_of_a_patient_stay_in_one_fold():
    """Twins of pure noise: with one in each fold they would be recognised."""
    rng = np.random.default_rng(0)
    own, half = rng.normal(size=(60, 40)), rng.normal(size=(30, 40))
    twins, patients = np.repeat(half, 2, axis=0), [f"p {number // 2}" for number in range(60)]
    together = tell_apart(own, twins, patients, 0).auc
    split = tell_apart(own, twins, None, 0).auc
    assert together < split


def test_each_statistic_alone_is_scikit_learns_auc():
    (_, one), (_, other) = drawn(3), drawn(4, shift=-0.2)
    area = roc_auc_score([0] * 80 + [1] * 80, np.concatenate([one, other])[:, list(STATISTICS).index("blue")])
    assert most_telling(one, other)["blue"] == pytest.approx(1 - area)
