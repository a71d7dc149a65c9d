"""Two models on the same images: against SciPy, pROC's published test and a plain bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pmtrain.metrics import (
    MEASURES,
    Bootstrap,
    ScoredSet,
    compare_scores,
    delong,
    delong_test,
    evaluate_measures,
    mcnemar_test,
    unpaired_changes,
)


def two_models(n=200, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    shared = rng.normal(y, 1)
    return y, *(1 / (1 + np.exp(-(shared + rng.normal(0, spread, n)))) for spread in (0.3, 1.5))


def test_delongs_test_is_the_normal_one_of_the_difference():
    y, a, b = two_models()
    test = delong_test(y, a, b)
    auc, covariance = delong(y, np.stack([a, b]))
    contrast = np.array([1, -1])
    z = (auc[0] - auc[1]) / np.sqrt(contrast @ covariance @ contrast)
    assert test.statistic == pytest.approx(z)
    assert test.p == pytest.approx(2 * stats.norm.sf(abs(z)))
    assert delong_test(y, b, a).statistic == pytest.approx(-z)


def test_delongs_test_says_when_there_is_nothing_to_test():
    y, a, _ = two_models()
    same = delong_test(y, a, a / 2)
    assert same.p is None and "zero variance" in same.note
    alone = delong_test([0, 0, 1], [0.1, 0.2, 0.3], [0.2, 0.1, 0.3])
    assert alone.p is None and "1 positive" in alone.note
    assert delong_test([0, 0, 1, 1], [-3.0, 2.0, 7.0, 1.0], [5.0, 6.0, 4.0, 9.0]).p is not None  # any scores
    with pytest.raises(ValueError, match="3 labels but 2 scores"):
        delong_test([0, 0, 1], [0.1, 0.2], [0.2, 0.1])


def test_delongs_test_holds_its_level_where_the_models_are_equally_good():
    rng, rejected = np.random.default_rng(0), 0
    for _ in range(400):
        y = rng.integers(0, 2, 80)
        shared = rng.normal(y, 1)
        rejected += delong_test(y, shared + rng.normal(0, 1, 80), shared + rng.normal(0, 1, 80)).p < 0.05
    assert 0.02 <= rejected / 400 <= 0.09  # 5 % give or take four standard errors


@pytest.mark.parametrize("only_a, only_b", [(0, 1), (3, 9), (10, 10), (25, 4)])
def test_mcnemar_equals_scipys_binomial_test(only_a, only_b):
    y = np.ones(only_a + only_b + 7, int)
    right_a = np.array([True] * only_a + [False] * only_b + [True] * 7)
    right_b = np.array([False] * only_a + [True] * only_b + [True] * 7)
    test = mcnemar_test(y, right_a, right_b)
    tail = stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)
    assert test.p == pytest.approx(min(1, 2 * tail)) and test.counts == (only_a, only_b)


def test_mcnemar_of_equal_models_is_1():
    test = mcnemar_test([0, 1], [True, True], [True, True])
    assert (test.p, test.counts) == (1.0, (0, 0)) and test.note
    with pytest.raises(ValueError, match="2 labels but 1"):
        mcnemar_test([0, 1], [True, True], [True])


def test_every_difference_is_that_of_the_measures_with_an_interval():
    y, a, b = two_models()
    comparison = compare_scores(y, a, b, 0.4, 0.6, bootstrap=Bootstrap(n_boot=500))
    of_a, of_b = evaluate_measures(y, a, 0.4), evaluate_measures(y, b, 0.6)
    assert list(comparison.differences) == list(MEASURES)
    for name, difference in comparison.differences.items():
        assert difference.difference == pytest.approx(of_a[name].value - of_b[name].value, abs=1e-12)
        assert difference.interval.low < difference.difference < difference.interval.high
    right = [(scores >= t) == y for scores, t in ((a, 0.4), (b, 0.6))]
    assert comparison.mcnemar.counts == ((right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum())
    assert comparison.delong == delong_test(y, a, b)


def test_the_paired_bootstrap_equals_one_written_plainly_up_to_its_own_noise():
    y, a, b = two_models()
    patients = np.arange(200) // 2
    comparison = compare_scores(y, a, b, 0.5, 0.5, groups=patients, bootstrap=Bootstrap(n_boot=3000))
    assert "independent" in comparison.mcnemar.note and "by patient" in comparison.delong.method
    got = comparison.differences["auc"].interval
    rng, draws = np.random.default_rng(5), []
    for _ in range(3000):
        drawn = rng.integers(0, 100, 100)
        i = np.concatenate([2 * drawn, 2 * drawn + 1])
        aucs = [(np.sign(s[i][y[i] == 1][:, None] - s[i][y[i] == 0]) / 2 + 0.5).mean() for s in (a, b)]
        draws.append(aucs[0] - aucs[1])
    noise = 0.25 * np.std(draws)
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=noise)
    assert got.method == "paired percentile bootstrap by patient (100), 3000 resamples"


def test_a_model_against_itself_differs_by_nothing():
    y, a, _ = two_models()
    comparison = compare_scores(y, a, a, 0.5, 0.5, bootstrap=Bootstrap(n_boot=100))
    for difference in comparison.differences.values():
        assert difference.difference == difference.interval.low == difference.interval.high == 0
    assert comparison.mcnemar.p == 1.0 and comparison.delong.p is None


def test_one_class_absent_leaves_reasons():
    comparison = compare_scores([0, 0, 0], [0.1, 0.2, 0.9], [0.2, 0.6, 0.7], 0.5, 0.5, bootstrap=Bootstrap(n_boot=50))
    auc = comparison.differences["auc"]
    assert auc.difference is None and auc.interval.note == "no positive image"
    assert comparison.delong.p is None and comparison.mcnemar.p == 1.0
    assert comparison.differences["brier"].difference is not None


def test_two_sets_of_other_images_are_resampled_apart():
    y, first, second = two_models(300)
    sets = [ScoredSet(y[:200], first[:200]), ScoredSet(y[200:], second[200:])]
    (changes,) = unpaired_changes(
        sets[0], sets[1:], 0.5, ("auc", "sensitivity", "ece"), bootstrap=Bootstrap(n_boot=1000)
    )
    values = [evaluate_measures(each.labels, each.probabilities, 0.5) for each in sets]
    for name, change in changes.items():
        assert change.value == pytest.approx(values[1][name].value - values[0][name].value)
        assert change.interval.low < change.value < change.interval.high
    # Variances of independent sets add up.
    variances = [delong(each.labels, each.probabilities)[1][0, 0] for each in sets]
    half = stats.norm.ppf(0.975) * np.sqrt(sum(variances))
    delonged = changes["auc"].second
    assert (delonged.low, delonged.high) == pytest.approx((changes["auc"].value - half, changes["auc"].value + half))
    k = [values[place]["sensitivity"] for place in (0, 1)]
    half = stats.norm.ppf(0.975) * np.sqrt(sum(v.value * (1 - v.value) / v.n for v in k))
    found = changes["sensitivity"].interval
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.12)
    # The same images twice: an interval of two independent sets, not of a difference that is 0 for certain.
    (same,) = unpaired_changes(sets[0], [sets[0]], 0.5, ("auc",), bootstrap=Bootstrap(n_boot=500))
    assert same["auc"].value == 0
    assert same["auc"].interval.high - same["auc"].interval.low > 0.05


def test_a_set_without_a_class_has_no_change():
    y, first, _ = two_models(60)
    (changes,) = unpaired_changes(
        ScoredSet(y, first), [ScoredSet(np.ones(9, int), first[:9])], 0.5, ("auc",), bootstrap=Bootstrap(n_boot=100)
    )
    assert changes["auc"].value is None and "no negative image" in changes["auc"].interval.note
