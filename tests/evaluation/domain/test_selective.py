"""Coverage against accuracy on images counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from pmtrain.evaluation.domain.domain_model import IN_DOMAIN, REFUSED, Familiarity
from pmtrain.evaluation.domain.selective import selective

LABELS = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0])
# Wrong: the second at 0.45 and the seventh at 0.60, the two nearest to 0.5.
PROBABILITIES = np.array([0.9, 0.45, 0.8, 0.95, 0.99, 0.1, 0.6, 0.2, 0.05, 0.01])


def test_the_most_doubtful_go_first():
    found = selective(LABELS, PROBABILITIES, 0.5, defer=0.2)
    assert found.order.tolist()[:2] == [1, 6] and set(found.order.tolist()[-2:]) == {4, 9}
    assert found.to_a_person.tolist() == [1, 6]
    kept = found.deferred
    assert (kept.accuracy.k, kept.accuracy.n) == (8, 8)
    assert (kept.sensitivity.k, kept.sensitivity.n) == (4, 4)
    assert (kept.specificity.k, kept.specificity.n) == (4, 4)
    assert found.lines()[1:] == [
        "left to a person (--defer 0.2): the 2 most doubtful of 10 images",
        "on the other 8: accuracy 1.0000 (0.676 to 1.000), sensitivity 1.0000 (0.510 to 1.000), specificity 1.0000"
        " (0.510 to 1.000)",
    ]


def test_the_curve_is_measured_at_each_coverage():
    found = selective(LABELS, PROBABILITIES, 0.5)
    rows = {kept.coverage: (kept.accuracy.k, kept.accuracy.n) for kept in found.curve}
    # 5 % of ten images is one image: rounded up.
    assert rows == {1.0: (8, 10), 0.95: (8, 9), 0.9: (8, 9), 0.8: (8, 8), 0.7: (7, 7), 0.5: (5, 5)}
    assert (found.deferred, found.lines(), len(found.to_a_person)) == (None, [], 0)


def test_doubt_is_measured_from_the_threshold_in_logits():
    found = selective(np.array([0, 1, 1]), np.array([0.001, 0.01, 0.5]), threshold=0.012, defer=0.1)
    assert found.order.tolist() == [1, 0, 2]
    assert found.to_a_person.tolist() == [1]


def test_refused_images_are_the_most_doubtful():
    familiar = [Familiarity(0.5, IN_DOMAIN, "")] * 9 + [Familiarity(0.0, REFUSED, "blank")]
    assert selective(LABELS, PROBABILITIES, 0.5, 0.1, familiar).to_a_person.tolist() == [9]


def test_a_class_without_images_is_undefined():
    found = selective(np.ones(4, int), np.array([0.9, 0.8, 0.7, 0.6]), 0.5, defer=0.5)
    assert found.deferred.specificity.value is None
    assert found.deferred.report()["specificity"] == {"value": None, "k": 0, "n": 0}


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_scores_of_0_and_1_have_an_order(probability):
    found = selective(np.array([0, 1]), np.array([probability, 0.5]), 0.5, defer=0.5)
    assert found.to_a_person.tolist() == [1]


def test_networks_that_disagree_make_an_image_more_doubtful():
    labels, probabilities = np.array([1, 1, 0]), expit(np.array([2.0, 1.9, -1.0]))
    assert selective(labels, probabilities, 0.5).order.tolist() == [2, 1, 0]
    apart = np.array([4.0, 0.0, np.nan])
    # 2 / sqrt(1 + pi / 8 * 16) = 0.741 is less than 1: a network alone (NaN) counts as it is.
    assert selective(labels, probabilities, 0.5, spread=apart).order.tolist() == [0, 2, 1]
