"""Predictive values and calls at another prevalence, by Bayes's rule by hand; posteriors by Saerens's formula."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.metrics import Bootstrap, assess, assess_at_prevalence, shift_prior

# 8 of 10 positives and 3 of 20 negatives are called: sensitivity 0.8, specificity 0.85.
LABELS = [1] * 10 + [0] * 20
PROBABILITIES = [0.9] * 8 + [0.1] * 2 + [0.9] * 3 + [0.1] * 17


def test_values_and_calls_worked_by_hand():
    found = assess_at_prevalence(LABELS, PROBABILITIES, 0.5, 0.02, bootstrap=Bootstrap(n_boot=200))
    called, cleared = 0.8 * 0.02 + 0.15 * 0.98, 0.2 * 0.02 + 0.85 * 0.98
    values = {name: each.value.value for name, each in (found.measures | found.calls).items()}
    assert values == pytest.approx(
        {
            "ppv": 0.8 * 0.02 / called,
            "npv": 0.85 * 0.98 / cleared,
            "accuracy": 0.8 * 0.02 + 0.85 * 0.98,
            "number_needed_to_screen": 1 / (0.8 * 0.02),
            "called_positive": 1000 * called,
            "true_positives": 16,
            "false_positives": 147,
            "missed": 4,
        }
    )
    assert (found.prevalence, found.study) == (0.02, pytest.approx(1 / 3))


def test_at_the_studys_own_prevalence_they_are_the_studys():
    there = assess_at_prevalence(LABELS, PROBABILITIES, 0.5, 1 / 3, bootstrap=Bootstrap(n_boot=100)).measures
    here = assess(LABELS, PROBABILITIES, 0.5, bootstrap=Bootstrap(n_boot=100)).measures
    assert {name: each.value.value for name, each in there.items()} == pytest.approx(
        {name: here[name].value.value for name in there}
    )


def test_the_second_interval_is_mercaldos():
    # Mercaldo et al. 2007: logit PPV +- z sqrt((1 - se) / (se n1) + sp / ((1 - sp) n0)), and likewise NPV.
    found = assess_at_prevalence(LABELS, PROBABILITIES, 0.5, 0.02, bootstrap=Bootstrap(n_boot=100)).measures
    for name, variance in (
        ("ppv", 0.2 / (0.8 * 10) + 0.85 / (0.15 * 20)),
        ("npv", 0.8 / (0.2 * 10) + 0.15 / (0.85 * 20)),
    ):
        value = found[name].value.value
        ends = np.log(value / (1 - value)) + np.array([-1, 1]) * 1.959964 * np.sqrt(variance)
        second = found[name].second
        assert (second.low, second.high) == pytest.approx(1 / (1 + np.exp(-ends)), rel=1e-6)
    of_pairs = assess_at_prevalence(
        LABELS, PROBABILITIES, 0.5, 0.02, groups=np.arange(30) // 2, bootstrap=Bootstrap(n_boot=100)
    )
    assert of_pairs.measures["ppv"].second is None


@pytest.mark.parametrize("by_patient", [False, True])
def test_its_interval_is_that_of_a_plain_bootstrap(by_patient):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    p = 1 / (1 + np.exp(-rng.normal(2 * y - 1, 1)))
    groups = np.arange(120) // 3 if by_patient else None
    found = assess_at_prevalence(y, p, 0.5, 0.1, groups, bootstrap=Bootstrap(n_boot=2000, seed=1))
    draws = []
    for _ in range(2000):
        i = (3 * rng.integers(0, 40, 40)[:, None] + np.arange(3)).ravel() if by_patient else rng.integers(0, 120, 120)
        called = p[i] >= 0.5
        tpr, fpr = called[y[i] == 1].mean(), called[y[i] == 0].mean()
        draws.append([0.1 * tpr / (0.1 * tpr + 0.9 * fpr), 1000 * 0.9 * fpr])
    for column, each in zip(np.transpose(draws), (found.measures["ppv"], found.calls["false_positives"]), strict=True):
        got = (each.interval.low, each.interval.high)
        assert got == pytest.approx(np.quantile(column, [0.025, 0.975]), abs=0.25 * column.std())


def test_what_has_no_value_says_why():
    found = assess_at_prevalence([1, 1], [0.2, 0.8], 0.5, 0.1, bootstrap=Bootstrap(n_boot=100))
    for each in (found.measures | found.calls).values():
        assert (each.value.value, each.value.reason) == (None, "a class has no images")
    none = assess_at_prevalence([0, 1], [0.2, 0.3], 0.5, 0.1, bootstrap=Bootstrap(n_boot=100))
    assert none.measures["ppv"].value.reason == "no image reaches the threshold"
    assert none.calls["missed"].value.value == pytest.approx(100)


def test_posteriors_are_saerenss():
    # A posterior of 0.5 under a prior of 0.5 is the prior; likelihood ratio 9 on prior odds 1/49 is 9/58.
    assert shift_prior([0.5, 0.9, 0.0, 1.0], 0.5, 0.02) == pytest.approx([0.02, 9 / 58, 0.0, 1.0])
    there = shift_prior([0.1, 0.6], 0.3, 0.05)
    assert shift_prior(there, 0.05, 0.3) == pytest.approx([0.1, 0.6])
    with pytest.raises(ValueError, match="a prevalence is 0"):
        shift_prior([0.5], 0.3, 0)
