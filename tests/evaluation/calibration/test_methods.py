"""The ways to calibrate, against scikit-learn and known truth, and their cross-fitting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from pmtrain.evaluation.calibration.methods import AUTO, METHODS, cross_fitted, fit, measured
from pmtrain.runs.calibrator import Calibrator
from pmtrain.system.errors import PmtrainError


def overconfident(n: int, prevalence: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, the true logits (normal scores of unit variance, two apart), and a network's, 2.5 times as large."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < prevalence).astype(int)
    scores = rng.normal(2.0 * labels, 1)
    true = 2.0 * (scores - 1) + logit(prevalence)
    return labels, true, 2.5 * true


def test_temperature_finds_the_lowest_loss():
    labels, _, logits = overconfident(500)
    found = METHODS["temperature"](logits, labels, None)

    def loss(t):
        return np.mean(np.logaddexp(0, logits / t) - labels * logits / t)

    best = minimize(loss, 1.0, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14}).x[0]
    assert found["slope"] == pytest.approx(1 / best, rel=1e-4)
    assert found["intercept"] == 0.0


def test_platt_is_a_logistic_regression():
    labels, _, logits = overconfident(500)
    found = METHODS["platt"](logits, labels, None)
    model = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000).fit(logits[:, None], labels)
    assert found["slope"] == pytest.approx(model.coef_[0, 0], rel=1e-4)
    assert found["intercept"] == pytest.approx(model.intercept_[0], abs=1e-3)


def test_classes_apart_have_a_finite_map_by_platts_targets():
    logits, labels = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0]), np.array([0, 0, 0, 1, 1, 1])
    for method in METHODS:
        calibrated = Calibrator(
            method=method, **METHODS[method](logits, labels, None), prevalence=0.5, images=6, positives=3
        ).logits(logits)
        assert np.isfinite(calibrated).all()
        assert 0.6 < expit(calibrated[-1]) < 0.999


def test_isotonic_is_scikit_learns_at_the_centres_of_its_steps():
    labels, _, logits = overconfident(400, seed=3)
    found = Calibrator(
        method="isotonic", **METHODS["isotonic"](logits, labels, None), prevalence=0.5, images=400, positives=200
    )
    steps = IsotonicRegression(y_min=0, y_max=1).fit_transform(logits, labels)
    inner = [share for share in np.unique(steps) if 0 < share < 1]
    assert len(inner) > 3
    for share in inner:
        centre = logits[steps == share].mean()
        assert expit(found.logits(centre)) == pytest.approx(share)


@pytest.mark.parametrize("method", METHODS)
def test_each_comes_near_the_true_probabilities(method):
    labels, true, logits = overconfident(4000, seed=1)
    calibrator = fit(method, logits, labels, None)
    fresh_labels, fresh_true, fresh = overconfident(4000, seed=2)
    assert np.abs(expit(calibrator.logits(fresh)) - expit(fresh_true)).mean() < 0.02
    assert np.abs(expit(fresh) - expit(fresh_true)).mean() > 0.05
    assert measured(fresh_labels, calibrator.logits(fresh))["calibration_slope"] == pytest.approx(1, abs=0.1)
    assert calibrator.after["ece"] < 0.03 < calibrator.before["ece"]


@pytest.mark.parametrize("method", METHODS)
def test_class_weights_are_undone(method):
    # 20 % are positive; a class weight of 4 made the network learn half and half.
    labels, true, _ = overconfident(4000, prevalence=0.2)
    shifted = 1.7 * (true - logit(0.2))
    calibrator = fit(method, shifted, labels, 0.5)
    assert expit(calibrator.logits(shifted)).mean() == pytest.approx(0.2, abs=0.01)
    assert np.abs(expit(calibrator.logits(shifted)) - expit(true)).mean() < 0.02
    assert calibrator.prevalence == pytest.approx(labels.mean())


def test_cross_fitting_holds_patients_out_whole():
    rng = np.random.default_rng(0)
    groups = np.arange(60) // 3
    labels = groups % 2  # three images of each of 20 patients
    logits = rng.normal(2.0 * labels - 1, 1.5)
    calibrated, folds = cross_fitted("platt", logits, labels, None, groups)
    assert folds == 5
    # Within a patient, one map: the slope between any two of his images is the same.
    slopes = [(calibrated[i + 1] - calibrated[i]) / (logits[i + 1] - logits[i]) for i in range(0, 60, 3)]
    assert len({round(slope, 9) for slope in slopes}) == 5
    everything = METHODS["platt"](logits, labels, None)["slope"]
    assert all(abs(slope - everything) > 1e-9 for slope in slopes)


def test_too_few_images_to_cross_fit_are_told():
    calibrator = fit("platt", np.array([-1.0, 1.0, 0.5]), np.array([0, 1, 0]), None)
    assert (calibrator.folds, calibrator.after) == (0, {})
    with pytest.raises(PmtrainError, match="0 positive ones and 2 negative"):
        fit("platt", np.zeros(2), np.zeros(2, int), None)


def test_scores_the_wrong_way_round_are_refused():
    labels, _, logits = overconfident(100)
    with pytest.raises(PmtrainError, match="higher scores are less often positive"):
        fit("platt", -logits, labels, None)


def test_auto_takes_the_simplest_of_about_the_lowest_loss_on_images_held_out():
    labels, _, logits = overconfident(600)
    found = fit(AUTO, logits, labels, None)
    losses = {method: fit(method, logits, labels, None).after["loss"] for method in METHODS}
    assert found.tried == pytest.approx(losses)
    assert found.method == "temperature"  # which is true here
    # A wrong share of positives is no matter for one number to divide by.
    assert fit(AUTO, logits - 3, labels, None).method == "platt"
    # Its own figures are of images that neither the map nor the choice has seen.
    crossed = np.empty(600)
    for seen, held in StratifiedKFold(5, shuffle=True, random_state=0).split(logits[:, None], labels):
        crossed[held] = fit(AUTO, logits[seen], labels[seen], None).logits(logits[held])
    assert found.after["loss"] == pytest.approx(log_loss(labels, expit(crossed)))
    # A kink, which no straight line through the logits follows: only a free function does.
    rng = np.random.default_rng(1)
    logits = rng.uniform(-4, 4, 4000)
    labels = (rng.random(4000) < np.where(logits < 0, 0.1, 0.9)).astype(int)
    assert fit(AUTO, logits, labels, None).method == "isotonic"
    few = fit(AUTO, np.array([-1.0, 1.0, 2.0]), np.array([0, 1, 1]), None)
    assert few.method == "temperature"
