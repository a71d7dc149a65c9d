"""Every measure against scikit-learn, and against its definition worked out by loops or by hand."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from pmtrain.metrics import MEASURES, Confusion, bce, confusion, evaluate_measures

# Few distinct probabilities, so that ties among the scores and with the threshold are common.
PROBABILITY = st.one_of(st.integers(0, 10).map(lambda i: i / 10), st.floats(0, 1))
IMAGES = st.lists(st.tuples(st.integers(0, 1), PROBABILITY), min_size=1, max_size=40)
THRESHOLD = st.one_of(st.integers(0, 10).map(lambda i: i / 10), st.floats(0, 1))

SKLEARN = {
    "auc": lambda y, p, c: sk.roc_auc_score(y, p),
    "average_precision": lambda y, p, c: sk.average_precision_score(y, p),
    "accuracy": lambda y, p, c: sk.accuracy_score(y, c),
    "balanced_accuracy": lambda y, p, c: sk.balanced_accuracy_score(y, c),
    "sensitivity": lambda y, p, c: sk.recall_score(y, c),
    "specificity": lambda y, p, c: sk.recall_score(y, c, pos_label=0),
    "ppv": lambda y, p, c: sk.precision_score(y, c),
    "npv": lambda y, p, c: sk.precision_score(y, c, pos_label=0),
    "lr_positive": lambda y, p, c: sk.class_likelihood_ratios(y, c)[0],
    "lr_negative": lambda y, p, c: sk.class_likelihood_ratios(y, c)[1],
    "f1": lambda y, p, c: sk.f1_score(y, c),
    "kappa": lambda y, p, c: sk.cohen_kappa_score(y, c),
    "mcc": lambda y, p, c: sk.matthews_corrcoef(y, c),
    "brier": lambda y, p, c: sk.brier_score_loss(y, p),
}


def arrays(images):
    labels, probabilities = zip(*images, strict=True)
    return np.array(labels), np.array(probabilities)


@settings(max_examples=150, deadline=None)
@given(IMAGES, THRESHOLD)
def test_every_measure_equals_scikit_learn(images, threshold):
    y, p = arrays(images)
    values = evaluate_measures(y, p, threshold)
    assert list(values) == list(MEASURES)
    for name, oracle in SKLEARN.items():
        if values[name].value is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its words on an absent class
                expected = oracle(y, p, (p >= threshold).astype(int))
            assert values[name].value == pytest.approx(expected, abs=1e-12), name


@settings(max_examples=300, deadline=None)
@given(IMAGES, THRESHOLD)
def test_a_measure_is_none_only_with_a_reason_and_exactly_where_it_means_nothing(images, threshold):
    y, p = arrays(images)
    values, c = evaluate_measures(y, p, threshold), p >= threshold
    for value in values.values():
        assert (value.value is None) == bool(value.reason)
        assert value.value is None or math.isfinite(value.value)
    none = {name for name, value in values.items() if value.value is None}
    both = {"auc", "average_precision", "balanced_accuracy", "ppv", "npv", "kappa", "mcc"}
    both |= {"calibration_slope", "calibration_intercept", "lr_positive", "lr_negative", "number_needed_to_screen"}
    expected = set()
    if not y.any():
        expected |= both | {"sensitivity", "f1"}
    if y.all():
        expected |= both | {"specificity"}
    if not c.any():
        expected |= {"ppv", "mcc"}
    if c.all():
        expected |= {"npv", "mcc"}
    if not c[y == 0].any():
        expected |= {"lr_positive"}
    if c[y == 0].all():
        expected |= {"lr_negative"}
    if not c[y == 1].any():
        expected |= {"number_needed_to_screen"}
    assert none - {"calibration_slope"} == expected - {"calibration_slope"}


@settings(max_examples=200, deadline=None)
@given(IMAGES)
def test_auc_and_average_precision_equal_their_definitions_by_loops(images):
    y, p = arrays(images)
    positives, negatives = p[y == 1], p[y == 0]
    assume(len(positives) and len(negatives))
    values = evaluate_measures(y, p, 0.5)
    wins = sum((a > b) + (a == b) / 2 for a in positives for b in negatives)
    assert values["auc"].value == pytest.approx(wins / len(positives) / len(negatives), abs=1e-12)
    precisions = [(positives >= a).sum() / (p >= a).sum() for a in positives]
    assert values["average_precision"].value == pytest.approx(np.mean(precisions), abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(IMAGES)
def test_calibration_error_equals_its_definition_by_loops(images):
    y, p = arrays(images)
    gaps = 0.0
    for i in range(10):
        inside = [j for j in range(len(p)) if i / 10 <= p[j] and (p[j] < (i + 1) / 10 or i == 9)]
        if inside:
            gaps += len(inside) * abs(np.mean(p[inside]) - np.mean(y[inside]))
    assert evaluate_measures(y, p, 0.5)["ece"].value == pytest.approx(gaps / len(p), abs=1e-12)


def test_worked_by_hand():
    # Sorted: 0.9+ 0.8- 0.7+ | 0.4+ 0.3- 0.2- 0.1-, cut at 0.5.
    y = [1, 0, 1, 1, 0, 0, 0]
    p = [0.9, 0.8, 0.7, 0.4, 0.3, 0.2, 0.1]
    v = {name: value.value for name, value in evaluate_measures(y, p, 0.5).items()}
    assert confusion(y, p, 0.5) == Confusion(tp=2, fp=1, fn=1, tn=3)
    assert v["auc"] == pytest.approx(10 / 12)
    assert v["average_precision"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert v["accuracy"] == pytest.approx(5 / 7)
    assert v["balanced_accuracy"] == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert (v["sensitivity"], v["specificity"]) == pytest.approx((2 / 3, 3 / 4))
    assert (v["ppv"], v["npv"]) == pytest.approx((2 / 3, 3 / 4))
    assert (v["lr_positive"], v["lr_negative"]) == pytest.approx((8 / 3, 4 / 9))
    assert v["number_needed_to_screen"] == pytest.approx(7 / 2)
    assert v["f1"] == pytest.approx(2 / 3)
    assert v["kappa"] == pytest.approx((5 / 7 - 25 / 49) / (1 - 25 / 49))
    assert v["mcc"] == pytest.approx((2 * 3 - 1 * 1) / math.sqrt(3 * 3 * 4 * 4))
    assert v["brier"] == pytest.approx((0.01 + 0.64 + 0.09 + 0.36 + 0.09 + 0.04 + 0.01) / 7)
    assert v["ece"] == pytest.approx((0.1 + 0.8 + 0.3 + 0.6 + 0.3 + 0.2 + 0.1) / 7)
    counts = {name: (value.k, value.n) for name, value in evaluate_measures(y, p, 0.5).items() if value.n is not None}
    assert counts == {
        "accuracy": (5, 7),
        "sensitivity": (2, 3),
        "specificity": (3, 4),
        "ppv": (2, 3),
        "npv": (3, 4),
    }


def test_a_probability_equal_to_the_threshold_is_positive():
    assert confusion([1, 0], [0.3, 0.3], 0.3) == Confusion(tp=1, fp=1, fn=0, tn=0)
    assert confusion([1, 0], np.float32([0.3, 0.3]), float(np.float32(0.3))) == Confusion(tp=1, fp=1, fn=0, tn=0)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_equals_scikit_learns_logistic_regression(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(0.3, 2, 300)
    y = (rng.random(300) < 1 / (1 + np.exp(-(0.5 + 0.7 * x)))).astype(int)
    v = evaluate_measures(y, 1 / (1 + np.exp(-x)), 0.5)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x[:, None], y)
    assert v["calibration_slope"].value == pytest.approx(oracle.coef_[0, 0], rel=1e-5)
    # At the intercept the mean of the shifted probabilities is the prevalence: the score equation of the fit.
    shifted = 1 / (1 + np.exp(-(x + v["calibration_intercept"].value)))
    assert shifted.mean() == pytest.approx(y.mean(), abs=1e-9)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-30, 30).map(lambda i: i / 2)), min_size=2, max_size=25))
def test_the_slope_solves_its_score_equations_or_is_none(images):
    y, x = arrays(images)
    assume(0 < y.sum() < len(y))
    slope = evaluate_measures(y, 1 / (1 + np.exp(-x)), 0.5)["calibration_slope"]
    low, high = (x[y == 0].min(), x[y == 1].min()), (x[y == 0].max(), x[y == 1].max())
    if high[0] <= low[1] or high[1] <= low[0]:
        assert slope.value is None and "separate" in slope.reason
        return
    assert slope.value is not None
    # With the slope given, the intercept is where the residuals sum to 0; then they have to be orthogonal to x.
    a, b = -1e4, 1e4
    for _ in range(200):
        a, b = (a, (a + b) / 2) if _residuals(y, x, (a + b) / 2, slope.value).sum() < 0 else ((a + b) / 2, b)
    assert abs(_residuals(y, x, a, slope.value) @ x) < 1e-4


def _residuals(y, x, intercept, slope):
    return y - 1 / (1 + np.exp(-np.clip(intercept + slope * x, -700, 700)))


def test_probabilities_of_exactly_0_and_1_have_a_calibration():
    v = evaluate_measures([0, 0, 1, 0, 1, 1], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0], 0.5)
    # Odds 1:2 at one logit and 2:1 at the other: the slope is 2 log 2 over the distance between the logits.
    assert v["calibration_slope"].value == pytest.approx(2 * math.log(2) / (2 * math.log(1e12)), rel=1e-3)
    assert v["calibration_intercept"].value == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("label, reason", [(0, "no positive image"), (1, "no negative image")])
def test_one_class_absent_is_none_with_the_reason(label, reason):
    values = evaluate_measures([label] * 3, [0.2, 0.6, 0.9], 0.5)
    for name in ("auc", "average_precision", "balanced_accuracy", "ppv", "npv", "kappa", "mcc", "calibration_slope"):
        assert (values[name].value, values[name].reason) == (None, reason), name
    assert values["brier"].value is not None and values["accuracy"].value is not None
    absent = values["specificity" if label else "sensitivity"]
    assert (absent.value, absent.k, absent.n) == (None, 0, 0)


@pytest.mark.parametrize(
    "labels, probabilities, threshold, words",
    [
        ([], [], 0.5, "0 labels"),
        ([0, 1], [0.1, 0.2, 0.3], 0.5, "2 labels but 3 scores"),
        ([0, 1], [0.1, np.nan], 0.5, r"scores\[1\] is nan"),
        ([0, 1], [0.1, np.inf], 0.5, r"scores\[1\] is inf"),
        ([0, 1], [1.5, 0.2], 0.5, r"scores\[0\] is 1.5"),
        ([0, 2], [0.5, 0.2], 0.5, r"labels\[1\] is 2"),
        ([0.0, np.nan], [0.5, 0.2], 0.5, r"labels\[1\] is nan"),
        ([[0], [1]], [0.5, 0.2], 0.5, r"\(2, 1\)"),
        ([0, 1], [0.5, 0.2], np.nan, "threshold is nan"),
    ],
)
def test_what_cannot_be_measured_is_an_error_that_prints_the_values(labels, probabilities, threshold, words):
    with pytest.raises(ValueError, match=words):
        evaluate_measures(labels, probabilities, threshold)
    with pytest.raises(ValueError, match=words):
        confusion(labels, probabilities, threshold)


def test_bce_equals_log_loss_and_survives_huge_logits():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 3, 50), rng.integers(0, 2, 50)
    assert bce(y, x) == pytest.approx(sk.log_loss(y, 1 / (1 + np.exp(-x))), rel=1e-9)
    assert bce([1, 0], [1e5, -1e5]) == 0
    assert bce([0, 1], [1e5, -1e5]) == 1e5
    assert bce([1], [0.0]) == pytest.approx(math.log(2))
    for labels, logits in (([], []), ([1], [np.nan]), ([1, 0], [0.5])):
        with pytest.raises(ValueError):
            bce(labels, logits)


def test_nothing_slow_is_imported_with_the_measures():
    code = "import sys, pmtrain.metrics; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded and not {"scipy", "sklearn", "paddle"} & set(loaded)


def test_the_intercept_is_found_where_the_network_is_surely_wrong():
    # Half the positives have a probability of 0, so that no slope leads from one end of the likelihood to the other.
    labels = np.repeat([0, 1, 1, 1], [1, 8, 3, 2])
    probabilities = np.repeat([0.1, 0, 0.2, 0.8], [1, 8, 3, 2])
    offset = logit(np.clip(probabilities, 1e-12, 1 - 1e-12))
    root = brentq(lambda a: (labels - expit(offset + a)).sum(), -60, 60)
    assert evaluate_measures(labels, probabilities, 0.5)["calibration_intercept"].value == pytest.approx(root, abs=1e-4)
