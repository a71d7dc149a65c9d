"""What is said of one set of scores: which interval stands beside which measure, and how it is printed."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.stats import binomtest

from pmtrain.metrics import MEASURES, Bootstrap, assess, bootstrap_intervals, delong_interval
from pmtrain.metrics.text import Notes, confusion_lines, measure_lines, method_lines, sample_size_lines

RNG = np.random.default_rng(3)
LABELS = np.repeat([0, 1], [30, 20])
PROBABILITIES = np.clip(RNG.normal(0.35 + 0.3 * LABELS, 0.2), 0.01, 0.99)


def test_each_measure_has_its_intervals():
    found = assess(LABELS, PROBABILITIES, 0.5, bootstrap=Bootstrap(n_boot=200, seed=4))
    assert (found.n, found.positives, found.patients, found.prevalence) == (50, 20, None, 0.4)
    intervals = bootstrap_intervals(LABELS, PROBABILITIES, 0.5, bootstrap=Bootstrap(n_boot=200, seed=4))
    ratios = ("lr_positive", "lr_negative")
    assert {name: measured.interval for name, measured in found.measures.items() if name not in ratios} == {
        name: interval for name, interval in intervals.items() if name not in ratios
    }
    assert found.measures["auc"].second == delong_interval(LABELS, PROBABILITIES)
    called = PROBABILITIES >= 0.5
    ci = binomtest(int((called & (LABELS == 1)).sum()), 20).proportion_ci(method="wilson")
    second = found.measures["sensitivity"].second
    assert (second.low, second.high) == pytest.approx((ci.low, ci.high))
    assert {name for name, measured in found.measures.items() if measured.second} == {
        "auc", "accuracy", "sensitivity", "specificity", "ppv", "npv",
    }  # fmt: skip


def test_wilson_is_for_one_image_a_patient_alone():
    of_pairs = assess(LABELS, PROBABILITIES, 0.5, groups=np.arange(50) // 2, bootstrap=Bootstrap(n_boot=100))
    assert of_pairs.patients == 25
    assert {name for name, measured in of_pairs.measures.items() if measured.second} == {"auc"}
    single = assess(LABELS, PROBABILITIES, 0.5, groups=np.arange(50), bootstrap=Bootstrap(n_boot=100))
    assert single.measures["accuracy"].second.method == "Wilson"


def test_a_likelihood_ratio_has_simels_interval():
    # Simel et al. 1991 by hand: 8 of 10 positives and 3 of 20 negatives are called; LR+ = 0.8 / 0.15.
    found = assess(
        [1] * 10 + [0] * 20, [0.9] * 8 + [0.1] * 2 + [0.9] * 3 + [0.1] * 17, 0.5, bootstrap=Bootstrap(n_boot=100)
    )
    ratio, width = 0.8 / 0.15, 1.959964 * np.sqrt(1 / 8 - 1 / 10 + 1 / 3 - 1 / 20)
    interval = found.measures["lr_positive"].interval
    assert interval.method == "log method"
    assert (interval.low, interval.high) == pytest.approx((ratio * np.exp(-width), ratio * np.exp(width)), rel=1e-6)
    ratio, width = 0.2 / 0.85, 1.959964 * np.sqrt(1 / 2 - 1 / 10 + 1 / 17 - 1 / 20)
    interval = found.measures["lr_negative"].interval
    assert (interval.low, interval.high) == pytest.approx((ratio * np.exp(-width), ratio * np.exp(width)), rel=1e-6)


def test_the_bootstrap_stands_where_the_log_method_has_no_interval():
    none_missed = assess([1] * 10 + [0] * 20, [0.9] * 13 + [0.1] * 17, 0.5, bootstrap=Bootstrap(n_boot=100))
    interval = none_missed.measures["lr_negative"].interval
    assert "bootstrap" in interval.method and (interval.low, interval.high) == (0, 0)
    of_pairs = assess(LABELS, PROBABILITIES, 0.5, groups=np.arange(50) // 2, bootstrap=Bootstrap(n_boot=100))
    assert "bootstrap by patient" in of_pairs.measures["lr_positive"].interval.method


def test_the_sample_size_is_that_of_the_sensitivity_at_this_prevalence():
    found = assess([1] * 10 + [0] * 30, [0.9] * 8 + [0.1] * 32, 0.5, bootstrap=Bootstrap(n_boot=100))
    needed = found.sample_size
    for count, reached in ((needed.positives, True), (needed.positives - 1, False)):
        ci = binomtest(round(0.8 * count * 1000) // 1000, count).proportion_ci(method="wilson")
        assert ((ci.high - ci.low) / 2 <= 0.05 + 2e-4) == reached or abs((ci.high - ci.low) / 2 - 0.05) < 3e-4
    assert needed.images == 4 * needed.positives
    assert 230 < needed.positives < 250  # without Wilson's correction 1.96^2 x 0.8 x 0.2 / 0.05^2 = 246
    (line,) = sample_size_lines(found, 0.95)
    assert f"needs {needed.positives} independent positive images" in line
    assert sample_size_lines(assess([0, 0], [0.1, 0.2], 0.5, bootstrap=Bootstrap(n_boot=100)), 0.95) == []


def test_lines_are_aligned_and_say_how_intervals_were_made():
    found, notes = assess(LABELS, PROBABILITIES, 0.5, bootstrap=Bootstrap(level=0.9, n_boot=200)), Notes()
    lines = measure_lines(found, notes)
    assert [line[:26].rstrip() for line in lines] == [measure.title for measure in MEASURES.values()]
    assert {line.index(".") for line in lines} == {29}
    assert re.fullmatch(r"AUC +0\.\d{4} \(90 % CI 0\.\d{3} to [01]\.\d{3}\)  DeLong 0\.\d{3} to [01]\.\d{3}", lines[0])
    assert method_lines(found, 7)[0] == (
        "intervals: percentile bootstrap by image, 200 resamples, seed 7; the threshold is held fixed"
    )
    assert [line.split() for line in confusion_lines(found, ("well", "ill"))] == [
        ["called", "well", "called", "ill"],
        ["well", str(found.confusion.tn), str(found.confusion.fp)],
        ["ill", str(found.confusion.fn), str(found.confusion.tp)],
    ]


def test_what_has_no_interval_says_why():
    notes = Notes()
    lines = measure_lines(assess([1, 1, 1], [0.2, 0.6, 0.7], 0.5, bootstrap=Bootstrap(n_boot=100)), notes)
    assert lines[0].endswith("undefined: no negative image")
    perfect = measure_lines(assess([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], 0.5, bootstrap=Bootstrap(n_boot=100)), notes)
    assert "1.0000 (95 % CI 1.000 to 1.000) [" in perfect[0]
    assert "every resample gives the same value" in "".join(notes.lines())
    assert "(no interval: only one image)" in "".join(
        measure_lines(assess([1], [0.6], 0.5, bootstrap=Bootstrap(n_boot=100)), Notes())
    )
