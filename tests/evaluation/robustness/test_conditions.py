"""Metrics over conditions: scikit-learn's values, the plain evaluation's intervals, paired losses."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from pmtrain.evaluation.robustness.conditions import over_conditions
from pmtrain.metrics import Bootstrap, bootstrap_intervals

RNG = np.random.default_rng(5)
LABELS = np.repeat([0, 1], [40, 30])
CLEAN = np.clip(RNG.normal(0.35 + 0.3 * LABELS, 0.2), 0, 1)
CHANGED = {
    (name, severity): np.clip(CLEAN + RNG.normal(0, noise * severity, 70), 0, 1)
    for name, noise in (("blur", 0.05), ("haze", 0.2))
    for severity in (1, 3)
}


def values_of(probabilities: np.ndarray) -> dict[str, float]:
    called = probabilities >= 0.4
    return {
        "auc": roc_auc_score(LABELS, probabilities),
        "sensitivity": recall_score(LABELS, called),
        "specificity": recall_score(LABELS, called, pos_label=0),
    }


def test_values_are_those_of_scikit_learn_and_their_means():
    reached = over_conditions(LABELS, CLEAN, CHANGED, 0.4, bootstrap=Bootstrap(n_boot=100))
    expected = {condition: values_of(probabilities) for condition, probabilities in CHANGED.items()}
    for name, clean in values_of(CLEAN).items():
        assert reached.clean[name].value.value == pytest.approx(clean)
        for condition, values in expected.items():
            assert reached.cells[condition][name].value.value == pytest.approx(values[name])
        means = {
            change: np.mean([expected[change, severity][name] for severity in (1, 3)]) for change in ("blur", "haze")
        }
        for change, mean in means.items():
            assert reached.by_change[change][name].value.value == pytest.approx(mean)
            assert reached.loss_by_change[change][name].value.value == pytest.approx(clean - mean)
        assert reached.mean[name].value.value == pytest.approx(np.mean(list(means.values())))
        assert reached.loss[name].value.value == pytest.approx(clean - np.mean(list(means.values())))


@pytest.mark.parametrize("groups", [None, [f"p{number // 3}" for number in RNG.permutation(70)]])
def test_intervals_of_the_images_as_they_are_equal_those_of_a_plain_evaluation(groups):
    reached = over_conditions(LABELS, CLEAN, {("none", 1): CLEAN, **CHANGED}, 0.4, groups, Bootstrap(0.9, 300, 7))
    plain = bootstrap_intervals(LABELS, CLEAN, 0.4, groups, Bootstrap(0.9, 300, 7))
    for name, measured in reached.clean.items():
        assert measured.interval == plain[name]
        assert reached.cells["none", 1][name].interval == plain[name]
        lost = reached.loss_by_change["none"][name].interval
        assert (lost.low, lost.high) == (0, 0)  # the same resamples on both sides
        low, high = reached.loss[name].interval.low, reached.loss[name].interval.high
        assert low < reached.loss[name].value.value < high
        assert high - low < plain[name].high - plain[name].low + 0.1


def test_a_class_without_images_has_a_reason():
    reached = over_conditions(
        np.zeros(4, int), np.full(4, 0.2), {("blur", 1): np.full(4, 0.5)}, 0.4, bootstrap=Bootstrap(n_boot=100)
    )
    assert reached.mean["auc"].value.value is None and reached.mean["auc"].value.reason == "no positive image"
    assert reached.mean["specificity"].value.value == 0
    assert reached.loss["specificity"].value.value == 1
