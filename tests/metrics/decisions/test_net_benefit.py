"""Decision curves: against the dcurves package, by hand, and a bootstrap written plainly."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.metrics import Bootstrap, decision_curve

LABELS = [1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0]
PROBABILITIES = [0.91, 0.42, 0.08, 0.37, 0.33, 0.74, 0.5, 0.02, 0.5, 0.61, 0.12, 0.25]
THRESHOLDS = [0.05, 0.1, 0.25, 0.37, 0.5, 0.8]

# dcurves 1.1.7, of dca(data=DataFrame({"y": LABELS, "p": PROBABILITIES}), outcome="y", modelnames=["p"],
# thresholds=THRESHOLDS, prevalence=None or 0.1): net_benefit of the models p and all.
DCURVES = {
    None: (
        [
            0.3026315789473684, 0.27777777777777773, 0.19444444444444442,
            0.18650793650793648, 0.08333333333333331, 0.08333333333333333,
        ],
        [
            0.2982456140350877, 0.25925925925925924, 0.11111111111111108,
            -0.05820105820105825, -0.3333333333333334, -2.333333333333334,
        ],
    ),
    0.1: (
        [
            0.05855263157894737, 0.024999999999999994, -0.0875,
            -0.09821428571428573, -0.15, 0.025,
        ],
        [
            0.052631578947368425, 0.0, -0.19999999999999998,
            -0.4285714285714286, -0.8, -3.500000000000001,
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("prevalence", DCURVES)
def test_net_benefit_equals_that_of_dcurves(prevalence):
    curve = decision_curve(
        LABELS, PROBABILITIES, thresholds=THRESHOLDS, prevalence=prevalence, bootstrap=Bootstrap(n_boot=100)
    )
    model, treat_all = DCURVES[prevalence]
    assert curve.model == pytest.approx(model, abs=1e-12)
    assert curve.treat_all == pytest.approx(treat_all, abs=1e-12)
    assert curve.gain == pytest.approx(np.subtract(model, np.maximum(treat_all, 0)), abs=1e-12)
    assert curve.prevalence == pytest.approx(4 / 12 if prevalence is None else prevalence)


def test_net_benefit_worked_by_hand():
    # At 0.5 four of five positives and one of five negatives are treated, and one costs as much as the other finds.
    labels, probabilities = [1] * 5 + [0] * 5, [0.9, 0.8, 0.7, 0.5, 0.1, 0.6, 0.4, 0.3, 0.2, 0.0]
    curve = decision_curve(labels, probabilities, thresholds=[0.2, 0.5], bootstrap=Bootstrap(n_boot=100))
    assert curve.model == pytest.approx([4 / 10 - 4 / 10 / 4, 4 / 10 - 1 / 10], abs=1e-12)
    assert curve.treat_all == pytest.approx([0.5 - 0.5 / 4, 0], abs=1e-12)
    # In a population of 2 % a sensitivity of 4/5 finds 0.016, and the false positives are 1/5 of 98 %.
    rare = decision_curve(labels, probabilities, thresholds=[0.5], prevalence=0.02, bootstrap=Bootstrap(n_boot=100))
    assert rare.model == pytest.approx([0.8 * 0.02 - 0.2 * 0.98], abs=1e-12)


@pytest.mark.parametrize("by_patient", [False, True])
def test_its_interval_is_that_of_a_plain_bootstrap(by_patient):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    p = 1 / (1 + np.exp(-rng.normal(2 * y - 1, 1)))
    groups = np.arange(120) // 3 if by_patient else None
    curve = decision_curve(y, p, groups, thresholds=[0.3], bootstrap=Bootstrap(n_boot=2000, seed=1))
    draws = []
    for _ in range(2000):
        i = (3 * rng.integers(0, 40, 40)[:, None] + np.arange(3)).ravel() if by_patient else rng.integers(0, 120, 120)
        treated = p[i] >= 0.3
        model = (treated & (y[i] == 1)).mean() - (treated & (y[i] == 0)).mean() * 3 / 7
        draws.append([model, model - max(y[i].mean() - (1 - y[i].mean()) * 3 / 7, 0)])
    for column, ends in zip(
        np.transpose(draws), ((curve.low, curve.high), (curve.gain_low, curve.gain_high)), strict=True
    ):
        got = np.concatenate(ends)
        assert got == pytest.approx(np.quantile(column, [0.025, 0.975]), abs=0.25 * column.std())
    assert ("patient (40)" if by_patient else "by image") in curve.method


def test_the_useful_range_is_where_the_gain_lies_above_both():
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1], 300)
    informed = decision_curve(y, np.clip(rng.normal(0.2 + 0.6 * y, 0.1), 0.001, 0.999), bootstrap=Bootstrap(n_boot=200))
    ((first, last),) = informed.useful()
    assert first < 0.3 and last > 0.7
    assert decision_curve(y, np.full(600, 0.5), bootstrap=Bootstrap(n_boot=200)).useful() == []


def test_what_has_no_interval_says_why_and_one_class_has_a_curve():
    alone = decision_curve([1], [0.6], thresholds=[0.5], bootstrap=Bootstrap(n_boot=100))
    assert (alone.note, np.isnan(alone.low[0]), alone.model[0]) == ("only one image", True, 1.0)
    ill = decision_curve([1, 1, 1], [0.2, 0.6, 0.9], thresholds=[0.5], bootstrap=Bootstrap(n_boot=100))
    assert ill.model[0] == pytest.approx(2 / 3)
    assert (
        decision_curve([1, 1], [0.2, 0.6], thresholds=[0.5], prevalence=0.1, bootstrap=Bootstrap(n_boot=100)).note
        == "a class has no images"
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [({"thresholds": [0.5, 1.0]}, "a threshold is 1.0"), ({"prevalence": 1.5}, "a prevalence is 1.5")],
)
def test_what_is_out_of_range_is_named(more, words):
    with pytest.raises(ValueError, match=words):
        decision_curve([0, 1], [0.2, 0.8], **more)
