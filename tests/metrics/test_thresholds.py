"""Threshold rules: parsing, and the choice against trying every cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from pmtrain.metrics import ThresholdRule, choose_threshold, confusion, parse_threshold_rule
from pmtrain.system.errors import PmtrainError, UsageError

IMAGES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8).map(lambda i: i / 8)), min_size=2, max_size=30)

TUNED = ["youden", "sensitivity=0.95", "sensitivity=0.5", "specificity=0.9", "specificity=1", "cost=5:1", "cost=1:3"]


@pytest.mark.parametrize(
    "text, rule",
    [
        ("0.5", ThresholdRule("fixed", 0.5)),
        ("0", ThresholdRule("fixed", 0.0)),
        ("1", ThresholdRule("fixed", 1.0)),
        ("youden", ThresholdRule("youden")),
        (" Youden ", ThresholdRule("youden")),
        ("stored", ThresholdRule("stored")),
        ("sensitivity=0.95", ThresholdRule("sensitivity", 0.95)),
        ("specificity = 0.90", ThresholdRule("specificity", 0.9)),
        ("cost=5:1", ThresholdRule("cost", costs=(5.0, 1.0))),
        ("cost = 1:2.5", ThresholdRule("cost", costs=(1.0, 2.5))),
    ],
)
def test_a_rule_is_read_and_reads_back(text, rule):
    assert parse_threshold_rule(text) == rule
    assert parse_threshold_rule(str(rule)) == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "best",
        "1.5",
        "-0.1",
        "nan",
        "sensitivity",
        "sensitivity=",
        "sensitivity=95",
        "specificity=0",
        "youden=1",
        "cost",
        "cost=5",
        "cost=5:0",
        "cost=5:1:1",
        "cost=a:b",
        "cost=nan:1",
        "cost=inf:1",
    ],
)
def test_what_is_no_rule_is_refused_with_the_rules_there_are(text):
    with pytest.raises(UsageError, match="sensitivity=0.95") as caught:
        parse_threshold_rule(text)
    assert repr(text) in caught.value.message


def rates(y, p, t):
    c = confusion(y, p, t)
    return c.tp / (c.tp + c.fn), c.tn / (c.tn + c.fp)


@settings(max_examples=300, deadline=None)
@given(
    IMAGES,
    st.sampled_from(
        ["youden", "sensitivity=0.95", "sensitivity=0.5", "specificity=0.9", "specificity=1", "cost=5:1", "cost=1:3"]
    ),
)
def test_no_cut_is_better_by_the_rule(images, text):
    y, p = (np.array(column) for column in zip(*images, strict=True))
    assume(0 < y.sum() < len(y))
    rule = parse_threshold_rule(text)
    chosen = choose_threshold(y, p, rule)
    got = rates(y, p, chosen.value)
    assert (chosen.sensitivity, chosen.specificity) == pytest.approx(got)
    cuts = [rates(y, p, t) for t in np.append((np.arange(9) - 0.5) / 8, 1.1)]  # every cut between the eighths
    if rule.kind == "youden":
        best = max((round(se + sp, 9), round(se, 9)) for se, sp in cuts)
        assert (round(sum(got), 9), round(got[0], 9)) == best
    elif rule.kind == "sensitivity":
        best = max((sp, se) for se, sp in cuts if se >= rule.target)
        assert (got[1], got[0]) == pytest.approx(best)
    elif rule.kind == "cost":
        positives, negatives = y.sum(), len(y) - y.sum()

        def cost(se, sp):
            return round(rule.costs[0] * positives * (1 - se) + rule.costs[1] * negatives * (1 - sp), 9)

        assert (cost(*got), -round(got[0], 9)) == min((cost(se, sp), -round(se, 9)) for se, sp in cuts)
    else:
        best = max((se, sp) for se, sp in cuts if sp >= rule.target)
        assert got == pytest.approx(best)


def test_youden_equals_scikit_learns_curve():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    p = 1 / (1 + np.exp(-rng.normal(y, 1)))
    fpr, tpr, _ = roc_curve(y, p)
    chosen = choose_threshold(y, p, ThresholdRule("youden"))
    assert chosen.sensitivity + chosen.specificity - 1 == pytest.approx((tpr - fpr).max())
    assert not chosen.warning and chosen.n == 300


def test_the_cut_lies_halfway():
    y, p = [0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9]
    chosen = choose_threshold(y, p, ThresholdRule("youden"))
    assert chosen.value == pytest.approx(0.4)
    assert (chosen.sensitivity, chosen.specificity) == (1.0, 1.0)
    assert "4 images" in chosen.warning


def test_neighbouring_floats_are_still_told_apart():
    low, high = np.nextafter(0.5, 0), 0.5
    chosen = choose_threshold([0, 1], [low, high], ThresholdRule("youden"))
    assert confusion([0, 1], [low, high], chosen.value) == (1, 0, 0, 1)


def test_the_ends_everything_and_nothing_positive():
    # A positive at the bottom and a negative at the top.
    y, p = [1, 0, 1, 0], [0.0, 0.3, 0.6, 1.0]
    everything = choose_threshold(y, p, ThresholdRule("sensitivity", 1.0))
    assert everything.value == 0.0 and everything.sensitivity == 1.0
    nothing = choose_threshold(y, p, ThresholdRule("specificity", 1.0))
    assert nothing.value > 1 and (nothing.sensitivity, nothing.specificity) == (0.0, 1.0)


def test_a_tie_goes_to_the_more_sensitive():
    # Cut under 0.8: 1/2 and 1. Cut under 0.4: 1 and 1/2. Youden's index is 1/2 at both.
    chosen = choose_threshold([1, 0, 1, 0], [0.8, 0.6, 0.4, 0.2], ThresholdRule("youden"))
    assert chosen.value == pytest.approx(0.3)


def test_the_cost_depends_on_the_prevalence():
    # Called from 0.4: no miss, half the negatives called; from 0.8: half the positives missed, no negative called.
    y, p, rule = [1, 0, 1, 0], [0.8, 0.6, 0.4, 0.2], ThresholdRule("cost", costs=(5.0, 1.0))
    assert choose_threshold(y, p, rule).value == pytest.approx(0.3)  # a miss of four costs 5, a false alarm 1
    rare = choose_threshold(y, p, rule, prevalence=0.01)  # 5 x 0.01 / 2 against 0.99 / 2
    assert rare.value == pytest.approx(0.7)


def test_a_class_absent_is_an_error_with_the_way_out_but_a_number_stands():
    with pytest.raises(PmtrainError, match="0 are positive and 2 negative") as caught:
        choose_threshold([0, 0], [0.1, 0.2], ThresholdRule("youden"))
    assert "0.5" in caught.value.hint
    chosen = choose_threshold([0, 0], [0.1, 0.7], ThresholdRule("fixed", 0.5))
    assert (chosen.value, chosen.sensitivity, chosen.specificity) == (0.5, None, 0.5)
    with pytest.raises(ValueError, match="stored"):
        choose_threshold([0, 1], [0.1, 0.7], ThresholdRule("stored"))
