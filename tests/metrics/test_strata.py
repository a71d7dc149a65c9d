"""AUC within strata against a count of pairs, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pmtrain.metrics import Bootstrap
from pmtrain.metrics.strata import auc_within_strata, strata_of

RNG = np.random.default_rng(11)
LABELS = RNG.permutation(np.repeat([0, 1], [70, 50]))
SHORTCUT = np.round(LABELS + RNG.normal(0, 1, 120), 1)  # with ties
SCORES = np.round(np.clip(0.5 + 0.2 * LABELS + 0.05 * SHORTCUT + RNG.normal(0, 0.2, 120), 0, 1), 2)


def by_hand(labels, scores, stratum) -> tuple[float, int]:
    right = pairs = 0.0
    for i in np.flatnonzero(labels == 1):
        for j in np.flatnonzero(labels == 0):
            if stratum[i] == stratum[j]:
                pairs += 1
                right += 1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
    return right / pairs if pairs else np.nan, int(pairs)


@pytest.mark.parametrize("count", [1, 3, 8, None])
def test_it_is_the_share_of_pairs_counted_one_by_one(count):
    found = auc_within_strata(LABELS, SCORES, SHORTCUT, count=count, bootstrap=Bootstrap(n_boot=100))
    stratum = strata_of(SHORTCUT, count)
    value, pairs = by_hand(LABELS, SCORES, stratum)
    assert (found.value, found.pairs) == (pytest.approx(value), pairs)
    assert found.stratifier == pytest.approx(by_hand(LABELS, SHORTCUT, stratum)[0])
    assert found.of_pairs == 70 * 50
    assert found.mixed <= found.strata == len(set(stratum))
    if count == 1:
        assert found.value == pytest.approx(roc_auc_score(LABELS, SCORES))


def test_strata_are_quantiles_that_never_part_equal_scores():
    assert strata_of([5.0, 1, 2, 3, 4, 0], 3).tolist() == [2, 0, 1, 1, 2, 0]
    assert strata_of([1.0, 1, 1, 1, 2, 3], 3).tolist() == [0, 0, 0, 0, 1, 1]
    for value in set(SHORTCUT):
        assert len(set(strata_of(SHORTCUT, 8)[SHORTCUT == value])) == 1
    assert [len(set(strata_of(np.arange(n)))) for n in (20, 400, 5000)] == [5, 20, 50]


@pytest.mark.parametrize("groups", [None, [f"p{number // 2}" for number in RNG.permutation(120)]])
def test_its_interval_is_that_of_resamples_drawn_as_lists(groups):
    """Each image taken as often as the same generator draws it (its patient), and the pairs counted again."""
    found = auc_within_strata(LABELS, SCORES, SHORTCUT, groups, Bootstrap(0.9, n_boot=60, seed=4), count=4)
    units = list(range(120)) if groups is None else list(dict.fromkeys(groups))
    rng, stratum, values = np.random.default_rng(4), strata_of(SHORTCUT, 4), []
    for drawn in rng.integers(0, len(units), (60, len(units))):
        of = {unit: [i for i in range(120) if (i if groups is None else groups[i]) == unit] for unit in units}
        rows = np.array([row for number in drawn for row in of[units[number]]])
        values.append(by_hand(LABELS[rows], SCORES[rows], stratum[rows])[0])
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])))


def test_where_the_other_score_parts_the_classes_there_is_none_and_a_reason():
    found = auc_within_strata(LABELS, SCORES, LABELS.astype(float), bootstrap=Bootstrap(n_boot=100))
    assert (found.value, found.pairs, found.stratifier, found.interval.low) == (None, 0, None, None)
    assert found.interval.note == "no stratum has both classes"


def test_a_score_that_only_repeats_the_other_ranks_nothing_within_fine_strata():
    n = 4000
    labels = RNG.integers(0, 2, n)
    other = labels + RNG.normal(0, 1, n)
    ranks = other.argsort().argsort() / n
    found = auc_within_strata(labels, ranks, other, bootstrap=Bootstrap(n_boot=100))
    assert roc_auc_score(labels, ranks) > 0.7
    assert found.value == pytest.approx(found.stratifier) == pytest.approx(0.5, abs=0.05)
