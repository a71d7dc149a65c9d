"""The curves against scikit-learn, and the band against a plain bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from pmtrain.metrics import (
    Bootstrap,
    calibration_bins,
    evaluate_measures,
    pr_points,
    roc_band,
    roc_points,
    wilson,
)

IMAGES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8).map(lambda i: i / 8)), min_size=2, max_size=30)


@settings(max_examples=200, deadline=None)
@given(IMAGES)
def test_roc_and_precision_recall_equal_scikit_learn(images):
    y, p = (np.array(column) for column in zip(*images, strict=True))
    assume(0 < y.sum() < len(y))
    fpr, tpr, thresholds = roc_points(y, p)
    for got, expected in zip((fpr, tpr, thresholds), sk.roc_curve(y, p, drop_intermediate=False), strict=True):
        assert got == pytest.approx(expected)
    assert sk.auc(fpr, tpr) == pytest.approx(evaluate_measures(y, p, 0.5)["auc"].value)
    recall, precision, cuts = pr_points(y, p)
    expected_precision, expected_recall, expected_cuts = sk.precision_recall_curve(y, p)
    # Theirs rises in threshold and ends at an added (0, 1).
    assert cuts == pytest.approx(expected_cuts[::-1])
    assert precision == pytest.approx(expected_precision[-2::-1])
    assert recall == pytest.approx(expected_recall[-2::-1])


@settings(max_examples=100, deadline=None)
@given(IMAGES)
def test_calibration_bins_hold_every_image_and_sum_to_the_calibration_error(images):
    y, p = (np.array(column) for column in zip(*images, strict=True))
    bins = calibration_bins(y, p)
    assert sum(b.n for b in bins) == len(y) and sum(b.positives for b in bins) == y.sum()
    gap = sum(b.n * abs(b.mean_probability - b.observed) for b in bins if b.n) / len(y)
    assert gap == pytest.approx(evaluate_measures(y, p, 0.5)["ece"].value, abs=1e-12)
    for b in bins:
        assert b.interval == wilson(b.positives, b.n)
        assert (b.mean_probability is None) == (b.n == 0)
        assert b.n == 0 or b.low <= b.mean_probability <= b.high


def test_an_edge_belongs_to_the_bin_above_and_1_to_the_last():
    p = np.arange(11) / 10
    assert [b.n for b in calibration_bins(np.zeros(11, int), p)] == [1] * 9 + [2]


def test_the_band_equals_a_plain_bootstrap_up_to_its_own_noise():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 150)
    p = 1 / (1 + np.exp(-np.round(rng.normal(y, 1), 1)))
    band = roc_band(y, p, n_points=11, bootstrap=Bootstrap(n_boot=1000))
    draws = []
    for _ in range(1000):
        i = rng.integers(0, 150, 150)
        fpr, tpr, _ = sk.roc_curve(y[i], p[i], drop_intermediate=False)
        # The highest TPR at each FPR, as a line between them.
        top = dict(zip(fpr, tpr, strict=True))
        exact = np.interp(band.fpr, list(top), list(top.values()))
        draws.append(exact)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    # Between points the two differ by where a line starts from; 0.05 is a third of the band's width.
    assert np.abs(band.low - low).max() < 0.05 and np.abs(band.high - high).max() < 0.05
    assert band.low[-1] == band.high[-1] == 1.0
    assert (np.diff(band.low) >= -1e-12).all() and (band.low <= band.high).all() and band.undefined == 0


def test_the_band_counts_resamples_without_a_class_and_draws_patients_whole():
    y, p = np.array([1, 0, 0, 0, 0, 0]), np.array([0.9, 0.8, 0.4, 0.3, 0.2, 0.1])
    band = roc_band(y, p, bootstrap=Bootstrap(n_boot=500))
    assert band.undefined == pytest.approx(500 * (5 / 6) ** 6, abs=60)
    whole = roc_band(y, p, groups=["a", "a", "a", "b", "b", "b"], bootstrap=Bootstrap(n_boot=500))
    assert whole.undefined == pytest.approx(125, abs=50)
    with pytest.raises(ValueError, match="0 positive and 2 negative"):
        roc_band([0, 0], [0.1, 0.2])
    with pytest.raises(ValueError, match="0 positive and 2 negative"):
        roc_points([0, 0], [0.1, 0.2])
