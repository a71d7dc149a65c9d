"""Intervals against SciPy, a published DeLong example, definitions by loops, and a bootstrap written the plain way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from pmtrain.metrics import (
    MEASURES,
    Bootstrap,
    bootstrap_intervals,
    delong,
    delong_interval,
    delong_test,
    evaluate_measures,
    intervals,
    sample_size,
    wilson,
)
from pmtrain.metrics.measures import Sample, Tally

# 113 patients with aneurysmal subarachnoid haemorrhage (Turck et al. 2010), with which pROC tests itself (Robin et al.
# 2011): by WFNS grade and outcome (1 is poor), their S100-beta in hundredths of a microgram per litre.
SAH = {
    (1, 0): "4 4 4 4 5 5 6 6 7 7 7 7 8 8 8 8 9 9 9 9 10 10 10 10 11 11 13 13 14 14 14 15 16 18 19 48 50",
    (1, 1): "7 8",
    (2, 0): "4 7 8 8 9 9 10 10 10 11 11 13 14 15 15 15 16 17 19 43",
    (2, 1): "7 7 9 9 10 10 11 14 25 30 41 58",
    (3, 0): "5 7 33",
    (3, 1): "13",
    (4, 0): "16 17 28 32 34 38 45 47",
    (4, 1): "13 16 23 26 27 48 71 96",
    (5, 0): "24 46 47 50",
    (5, 1): "3 12 22 32 33 35 44 44 49 52 56 70 71 74 77 82 86 207",
}
GRADE, OUTCOME = (np.concatenate([[key[i]] * len(row.split()) for key, row in SAH.items()]) for i in (0, 1))
S100B = np.concatenate([np.array(row.split(), int) for row in SAH.values()])


def some_images(n=120, seed=0, prevalence=0.4):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < prevalence).astype(int)
    x = np.round(rng.normal(1.5 * y - 0.7, 1), 1)  # rounded, for ties
    return y, 1 / (1 + np.exp(-x))


def test_delong_equals_the_published_numbers():
    # As pROC's own tests state them for these data: areas, variances, and the paired test.
    auc, covariance = delong(OUTCOME, np.stack([GRADE, S100B]))
    assert auc[0] == pytest.approx(0.823678861788618, abs=1e-14)
    assert np.diag(covariance) == pytest.approx([0.00146991470882363, 0.00266868245717244], rel=1e-12)
    test = delong_test(OUTCOME, GRADE, S100B)
    assert test.statistic == pytest.approx(2.20898359144091, rel=1e-12)
    assert test.p == pytest.approx(0.0271757822291882, rel=1e-12)
    half = stats.norm.ppf(0.975) * np.sqrt(np.array([1, -1]) @ covariance @ [1, -1])
    assert auc[0] - auc[1] - half == pytest.approx(0.0104061769564846, rel=1e-10)
    assert auc[0] - auc[1] + half == pytest.approx(0.174214419249478, rel=1e-10)


def delong_by_loops(y, scores, groups):
    """Obuchowski 1997 by the letter, all pairs; DeLong's where every group has one image."""
    positive, negative = np.flatnonzero(y), np.flatnonzero(y == 0)
    m, n = len(positive), len(negative)
    components = []
    for s in scores:
        wins = np.array([[(s[i] > s[j]) + (s[i] == s[j]) / 2 for j in negative] for i in positive])
        components.append((wins.mean(1), wins.mean(0), wins.mean()))
    names = sorted(set(groups))
    with_p = [g for g in names if any(groups[i] == g for i in positive)]
    with_n = [g for g in names if any(groups[j] == g for j in negative)]
    covariance = np.zeros((len(scores), len(scores)))
    for a, (pa, na, ta) in enumerate(components):
        for b, (pb, nb, tb) in enumerate(components):
            for g in names:
                xa = sum(pa[k] - ta for k, i in enumerate(positive) if groups[i] == g)
                xb = sum(pb[k] - tb for k, i in enumerate(positive) if groups[i] == g)
                ya = sum(na[k] - ta for k, j in enumerate(negative) if groups[j] == g)
                yb = sum(nb[k] - tb for k, j in enumerate(negative) if groups[j] == g)
                covariance[a, b] += (
                    len(with_p) / (len(with_p) - 1) * xa * xb / m**2
                    + len(with_n) / (len(with_n) - 1) * ya * yb / n**2
                    + len(names) / (len(names) - 1) * (xa * yb + xb * ya) / (m * n)
                )
    return [t for _, _, t in components], covariance


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("clustered", [False, True])
def test_delong_equals_its_definition_by_loops(seed, clustered):
    rng = np.random.default_rng(seed)
    y, p = some_images(40, seed)
    scores = np.stack([p, np.round(p + rng.normal(0, 0.3, 40), 1)])
    groups = rng.integers(0, 15, 40) if clustered else np.arange(40)
    auc, covariance = delong(y, scores, groups)
    expected_auc, expected = delong_by_loops(y, scores, groups)
    assert auc == pytest.approx(expected_auc, abs=1e-12)
    assert covariance == pytest.approx(expected, rel=1e-10, abs=1e-14)
    if not clustered:
        assert covariance == pytest.approx(delong(y, scores)[1], rel=1e-12)
        # The textbook form: the covariance of the components in each class.
        wins = (p[y == 1][:, None] > p[y == 0]) + (p[y == 1][:, None] == p[y == 0]) / 2
        textbook = wins.mean(1).var(ddof=1) / y.sum() + wins.mean(0).var(ddof=1) / (1 - y).sum()
        assert covariance[0, 0] == pytest.approx(textbook, rel=1e-10)


def test_two_equal_eyes_of_each_patient_are_worth_one():
    y, p = some_images(60)
    one = delong(y, p)[1][0, 0]
    both = np.concatenate
    assert delong(both([y, y]), both([p, p]), list(range(60)) * 2)[1][0, 0] == pytest.approx(one, rel=1e-10)
    assert delong(both([y, y]), both([p, p]))[1][0, 0] < 0.6 * one


def test_the_delong_interval_is_symmetric_in_the_logit_and_none_where_nothing_varies():
    y, p = some_images()
    i = delong_interval(y, p)
    auc, variance = delong(y, p)[0][0], delong(y, p)[1][0, 0]
    logit = stats.logistic.ppf
    assert logit(i.low) + logit(i.high) == pytest.approx(2 * logit(auc))
    assert logit(i.high) - logit(auc) == pytest.approx(1.959964 * math.sqrt(variance) / (auc * (1 - auc)), rel=1e-6)
    assert delong_interval([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], groups=list("abcd")).low is None
    for labels, words in (([0, 0, 0, 1], "1 positive"), ([0, 0, 0, 0], "0 positive"), ([1, 1, 1, 1], "0 negative")):
        none = delong_interval(labels, [0.1, 0.2, 0.8, 0.9])
        assert none.low is None and words in none.note
    assert (
        "2 negative images are all of one patient"
        in delong_interval([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], ["a", "a", "b", "c"]).note
    )
    with pytest.raises(ValueError, match="nan"):
        delong_interval([0, 0, 1, 1], [0.1, np.nan, 0.8, 0.9])


def test_an_auc_of_1_has_newcombes_interval():
    # 20 and 30 images told apart without an error: solved here by a root finder.
    y, p = np.repeat([1, 0], [20, 30]), np.repeat([0.9, 0.1], [20, 30])

    def excess(a):
        variance = a * (1 - a) / 600 * (1 + 24 * (1 - a) / (2 - a) + 24 * a / (1 + a))
        return (1 - a) - 1.959964 * math.sqrt(variance)

    interval = delong_interval(y, p)
    assert (interval.high, interval.method) == (1.0, "Newcombe")
    assert interval.low == pytest.approx(optimize.brentq(excess, 0.5, 1 - 1e-6), abs=1e-6)
    mirrored = delong_interval(1 - y, p)
    assert (mirrored.low, mirrored.high) == (0.0, pytest.approx(1 - interval.low))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_equals_scipy(n, share, level):
    k = round(share * n)
    expected = stats.binomtest(k, n).proportion_ci(level, method="wilson")
    interval = wilson(k, n, level)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert interval.low <= k / n <= interval.high


@pytest.mark.parametrize("proportion", [0.0, 0.5, 0.8, 0.97, 1.0])
@pytest.mark.parametrize("half_width", [0.01, 0.05, 0.2])
def test_the_sample_size_is_the_smallest_that_does(proportion, half_width):
    n, z = sample_size(proportion, half_width), 1.959963984540054

    def half(n):  # Wilson 1927, written out
        return z * np.sqrt(proportion * (1 - proportion) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)

    assert half(n) <= half_width
    assert n == 1 or half(n - 1) > half_width


def test_wilson_of_nothing_is_none_and_of_nonsense_an_error():
    assert wilson(0, 0).low is None and wilson(0, 0).note == "0 of 0"
    assert wilson(0, 10).low == 0.0 and wilson(10, 10).high == 1.0
    with pytest.raises(ValueError, match="11 of 10"):
        wilson(11, 10)
    with pytest.raises(ValueError, match="95"):
        wilson(1, 10, 95)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10), st.integers(0, 3)), min_size=1, max_size=15),
    st.integers(0, 10),
)
@example([(0, 0, 1), (1, 10, 2)], 0)  # 1 less a sigmoid that is nearly 1
@example([(0, 1, 1), (1, 0, 2), (1, 0, 3), (1, 0, 3), (1, 2, 3), (1, 8, 2)], 0)  # Newton's step goes astray
def test_weighting_images_equals_repeating_them(images, threshold):
    y, p, w = (np.array(column) for column in zip(*images, strict=True))
    if not w.sum():
        return
    sample = Sample(y, p / 10, threshold / 10)
    tally = Tally(sample, w[sample.order][None].astype(float))
    repeated = evaluate_measures(np.repeat(y, w), np.repeat(p / 10, w), threshold / 10)
    for name, measure in MEASURES.items():
        got, expected = measure.values(tally)[0], repeated[name].value
        if expected is None:
            assert np.isnan(got), name
        else:
            assert got == pytest.approx(expected, rel=1e-6, abs=1e-7), name


@pytest.mark.parametrize("by_patient", [False, True])
def test_the_bootstrap_equals_one_written_plainly_up_to_its_own_noise(by_patient):
    y, p = some_images(150)
    patients = [f"patient {i // 3}" for i in range(150)] if by_patient else None
    got = bootstrap_intervals(y, p, 0.5, groups=patients, bootstrap=Bootstrap(n_boot=2000, seed=1))
    rng, draws = np.random.default_rng(2), []
    for _ in range(2000):
        if by_patient:
            i = np.concatenate([np.arange(3 * k, 3 * k + 3) for k in rng.integers(0, 50, 50)])
        else:
            i = rng.integers(0, 150, 150)
        positives, negatives = p[i][y[i] == 1], p[i][y[i] == 0]
        auc = (np.sign(positives[:, None] - negatives) / 2 + 0.5).mean()
        precision = [(positives >= a).sum() / (p[i] >= a).sum() for a in positives]
        draws.append([auc, np.mean(precision), (positives >= 0.5).mean(), np.mean((p[i] - y[i]) ** 2)])
    for k, name in enumerate(("auc", "average_precision", "sensitivity", "brier")):
        column = np.array(draws)[:, k]
        # An end point found from 2,000 draws has a standard error of about 0.06 standard deviations.
        noise = 0.25 * column.std()
        assert got[name].low == pytest.approx(np.quantile(column, 0.025), abs=noise), name
        assert got[name].high == pytest.approx(np.quantile(column, 0.975), abs=noise), name
        assert ("patient (50)" if by_patient else "by image") in got[name].method


def test_the_bootstrap_agrees_with_delong_and_wilson():
    y, p = some_images(600)
    boot = bootstrap_intervals(y, p, 0.5)
    formula = {"auc": delong_interval(y, p)}
    for name in ("accuracy", "sensitivity", "specificity", "ppv", "npv"):
        value = evaluate_measures(y, p, 0.5)[name]
        formula[name] = wilson(value.k, value.n)
    for name, interval in formula.items():
        width = interval.high - interval.low
        assert boot[name].low == pytest.approx(interval.low, abs=0.12 * width), name
        assert boot[name].high == pytest.approx(interval.high, abs=0.12 * width), name


def test_the_seed_decides_and_neither_the_chunks_nor_the_order_of_rows_do(monkeypatch):
    y, p = some_images()
    first = bootstrap_intervals(y, p, 0.5, bootstrap=Bootstrap(n_boot=200, seed=3))
    assert bootstrap_intervals(y, p, 0.5, bootstrap=Bootstrap(n_boot=200, seed=3)) == first
    assert bootstrap_intervals(y, p, 0.5, bootstrap=Bootstrap(n_boot=200, seed=4)) != first
    shuffled = np.random.default_rng(0).permutation(len(y))
    assert bootstrap_intervals(y[shuffled], p[shuffled], 0.5, bootstrap=Bootstrap(n_boot=200, seed=3)) == first
    monkeypatch.setattr(intervals, "CHUNK", 7 * len(y))
    chunked = bootstrap_intervals(y, p, 0.5, bootstrap=Bootstrap(n_boot=200, seed=3))
    for name in MEASURES:
        assert (chunked[name].low, chunked[name].high) == pytest.approx((first[name].low, first[name].high), rel=1e-9)


def test_more_images_of_the_same_patients_do_not_narrow_the_interval():
    y, p = some_images(60)
    twice = [np.concatenate([a, a]) for a in (y, p)]
    one = bootstrap_intervals(y, p, 0.5)["auc"]
    grouped = bootstrap_intervals(*twice, 0.5, groups=list(range(60)) * 2)["auc"]
    alone = bootstrap_intervals(*twice, 0.5)["auc"]
    assert grouped.high - grouped.low == pytest.approx(one.high - one.low, rel=0.1)
    assert alone.high - alone.low < 0.85 * (one.high - one.low)


def test_resamples_in_which_a_measure_means_nothing_are_counted():
    y, p = np.array([1] + [0] * 9), np.linspace(0.95, 0.05, 10)
    boot = bootstrap_intervals(y, p, 0.5, bootstrap=Bootstrap(n_boot=2000))
    # The one positive is left out of a resample with probability 0.9 ** 10 = 0.349.
    assert boot["sensitivity"].undefined == pytest.approx(0.349 * 2000, abs=100)
    assert str(boot["sensitivity"].undefined) in boot["balanced_accuracy"].note
    assert "same value" in boot["sensitivity"].note
    assert boot["accuracy"].undefined == 0
    assert boot["calibration_slope"].low is None and "separate" in boot["calibration_slope"].note


def test_what_has_no_value_has_no_interval():
    boot = bootstrap_intervals([0, 0, 0], [0.1, 0.6, 0.7], 0.5, bootstrap=Bootstrap(n_boot=50))
    assert boot["auc"].low is None and boot["auc"].note == "no positive image" and boot["auc"].undefined == 50
    assert boot["brier"].low is not None
    for groups, n in ((["a"] * 3, 3), (None, 1)):
        boot = bootstrap_intervals(
            [0, 1, 1][:n], [0.1, 0.6, 0.7][:n], 0.5, groups=groups, bootstrap=Bootstrap(n_boot=50)
        )
        assert all(interval.low is None and interval.note for interval in boot.values())


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"groups": ["a", "b"]}, "2 groups but 3 images"),
        ({"groups": ["a", "b", None]}, r"groups\[2\] is None"),
        ({"groups": ["a", "", "b"]}, r"groups\[1\] is ''"),
        ({"groups": [1.0, np.nan, 2.0]}, r"groups\[1\] is nan"),
        ({"bootstrap": Bootstrap(n_boot=0)}, "n_boot is 0"),
        ({"bootstrap": Bootstrap(level=95)}, "95"),
        ({"bootstrap": Bootstrap(level=0.0)}, "0.0"),
    ],
)
def test_wrong_arguments_are_errors_that_print_them(arguments, words):
    with pytest.raises(ValueError, match=words):
        bootstrap_intervals([0, 1, 1], [0.1, 0.6, 0.7], 0.5, **arguments)
