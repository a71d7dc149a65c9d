"""Which images an epoch has, and what errors on each class weigh."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from pmtrain.data.loading.balance import balanced, class_weights, shuffled
from pmtrain.system.errors import PmtrainError


def labels_of(negatives: int, positives: int) -> np.ndarray:
    return np.random.default_rng(0).permutation([0] * negatives + [1] * positives)


def test_shuffled_is_the_order_that_runs_have_always_had():
    seeds = np.random.SeedSequence(3, spawn_key=(0, 2))
    np.testing.assert_array_equal(shuffled(labels_of(9, 2), 3, 2), np.random.default_rng(seeds).permutation(11))


@pytest.mark.parametrize(("negatives", "positives"), [(90, 10), (10, 90), (7, 4), (4, 7), (5, 5), (1, 1), (50, 1)])
def test_both_classes_come_equally_often(negatives, positives):
    labels, n = labels_of(negatives, positives), negatives + positives
    larger = int(positives > negatives)
    for epoch in range(4):
        order = balanced(labels, 0, epoch)
        assert len(order) == n
        count = Counter(labels[order].tolist())
        assert (count[larger], count[1 - larger]) == (n - n // 2, n // 2)


@pytest.mark.parametrize(("negatives", "positives"), [(90, 10), (7, 4), (50, 1)])
def test_no_image_is_ever_two_passes_ahead_of_another_of_its_class(negatives, positives):
    labels = labels_of(negatives, positives)
    total = np.zeros(len(labels), int)
    for epoch in range(9):
        in_epoch = np.bincount(balanced(labels, 4, epoch), minlength=len(labels))
        total += in_epoch
        for label in (0, 1):
            assert np.ptp(total[labels == label]) <= 1
            assert np.ptp(in_epoch[labels == label]) <= 2


def test_the_order_depends_on_seed_and_epoch_alone_and_each_is_another():
    labels = labels_of(30, 9)
    made = {(seed, epoch): tuple(balanced(labels, seed, epoch).tolist()) for seed in (0, 1) for epoch in (5, 0, 3)}
    assert len(set(made.values())) == 6
    assert all(tuple(balanced(labels, *key).tolist()) == order for key, order in made.items())


def test_which_of_the_larger_class_come_is_by_lot():
    """Over many seeds each of 30 negative images is as often in the first epoch: 39 / 2 of 30."""
    labels = labels_of(30, 9)
    often = np.zeros(39)
    for seed in range(400):
        often += np.bincount(balanced(labels, seed, 0), minlength=39)
    share = often[labels == 0] / 400
    assert np.abs(share - 20 / 30).max() < 5 * np.sqrt(2 / 9 / 400)


@pytest.mark.parametrize(("negatives", "positives"), [(90, 10), (10, 90), (3, 3), (1, 499)])
def test_balanced_weights_are_scikit_learns(negatives, positives):
    labels = labels_of(negatives, positives)
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    np.testing.assert_allclose(class_weights("balanced", labels), expected, rtol=1e-15)


def test_a_number_is_the_positive_classs_weight():
    assert class_weights("2.5", labels_of(3, 1)) == (1.0, 2.5)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_can_not_be_balanced(label):
    labels = np.full(4, label)
    with pytest.raises(PmtrainError, match=rf"--sampler balanced needs.*{4 * label} positive"):
        balanced(labels, 0, 0)
    with pytest.raises(PmtrainError, match="--class-weight balanced needs"):
        class_weights("balanced", labels)
