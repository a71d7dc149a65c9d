"""Mixup and CutMix: each mixed image is made of two of the batch, and its label tells in which shares."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.training.techniques.mixing import Mixing, box

# Image k is k + 1 everywhere; its label says whether k is odd.
IMAGES = np.broadcast_to(np.arange(1, 7, dtype=np.float32)[:, None, None, None], (6, 3, 8, 8)).copy()
LABELS = (np.arange(6) % 2).astype(np.float32)[:, None]


def test_off_changes_nothing():
    images, labels = Mixing(0.0, 0.0, 0)(IMAGES, LABELS, 0, 0)
    assert images is IMAGES
    assert labels is LABELS


@pytest.mark.parametrize("batch", range(5))
def test_mixup_takes_one_share_of_two_images_and_of_their_labels(batch):
    images, labels = Mixing(1.0, 0.0, 3)(IMAGES, LABELS, 2, batch)
    assert images.dtype == labels.dtype == np.float32
    assert (images == images[:, :1, :1, :1]).all()
    values = images[:, 0, 0, 0]
    # One share and one partner an image fit all six: value = s (k + 1) + (1 - s) (partner + 1).
    share = next(
        s
        for k in range(6)
        for j in range(6)
        if k != j and 0 <= (s := (values[k] - (j + 1)) / (k - j)) <= 1
        if all(np.isclose(s * (i + 1) + (1 - s) * np.arange(1, 7), values[i], atol=1e-4).any() for i in range(6))
    )
    partners = [np.abs(share * (i + 1) + (1 - share) * np.arange(1, 7) - values[i]).argmin() for i in range(6)]
    expected = share * LABELS[:, 0] + (1 - share) * LABELS[partners, 0]
    np.testing.assert_allclose(labels[:, 0], expected, atol=1e-3)


@pytest.mark.parametrize("batch", range(5))
def test_cutmix_puts_a_box_of_one_image_into_another(batch):
    images, labels = Mixing(0.0, 1.0, 3)(IMAGES, LABELS, 2, batch)
    for k in range(6):
        others = [value for value in np.unique(images[k]) if value != k + 1]
        assert len(others) <= 1
        share = (images[k] == k + 1).mean() if others else 1.0
        other = LABELS[int(others[0]) - 1, 0] if others else LABELS[k, 0]
        assert labels[k, 0] == pytest.approx(share * LABELS[k, 0] + (1 - share) * other)


def test_a_box_has_its_area_and_stays_inside():
    rng = np.random.default_rng(0)
    boxes = [box(rng, 64, 64, 0.25) for _ in range(200)]
    assert all(0 <= top <= bottom <= 64 and 0 <= left <= right <= 64 for top, bottom, left, right in boxes)
    assert max((bottom - top) * (right - left) for top, bottom, left, right in boxes) == 0.25 * 64 * 64


def test_what_is_drawn_depends_on_seed_epoch_and_batch():
    def mixed(seed, epoch, batch):
        return Mixing(1.0, 1.0, seed)(IMAGES, LABELS, epoch, batch)[0].tobytes()

    assert mixed(0, 1, 2) == mixed(0, 1, 2)
    assert len({mixed(0, 1, 2), mixed(1, 1, 2), mixed(0, 2, 2), mixed(0, 1, 3)}) == 4


def test_with_both_each_batch_takes_one_of_them():
    kinds = [len(np.unique(Mixing(1.0, 1.0, 0)(IMAGES, LABELS, 0, batch)[0][0])) for batch in range(40)]
    assert 8 < sum(kind == 2 for kind in kinds) < 32
