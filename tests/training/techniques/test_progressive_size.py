"""Sizes of training images by epoch, against lists written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.config import TrainConfig
from pmtrain.training.techniques.progressive_size import ProgressiveSize


@pytest.mark.parametrize(
    ("start", "full", "sizes"),
    [
        (64, 128, [64] * 3 + [96] * 2 + [128] * 10),
        (96, 128, [96] * 5 + [128] * 10),
        (48, 128, [48] * 4 + [80] * 3 + [112] * 3 + [128] * 20),  # three sizes in ten epochs
        (64, 100, [64] * 2 + [96] * 2 + [100] * 8),
        (32, 64, [32, 64, 64]),
        (32, 224, [32, 96, 160] + [224] * 7),  # six sizes in three epochs
    ],
)
def test_sizes_grow_evenly_over_a_third_of_the_epochs(start, full, sizes):
    config = TrainConfig(start_size=start, image_size=full, epochs=len(sizes))
    growing = ProgressiveSize.of(config)
    assert [growing.size(epoch) for epoch in range(len(sizes))] == sizes


def test_without_the_option_there_is_none():
    assert ProgressiveSize.of(TrainConfig()) is None


def test_an_image_is_brought_to_the_epochs_size_and_changed_then():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    given = []

    def then(image, *key):
        given.append(key)
        return 255 - image

    change = ProgressiveSize(32, 64, 3).changes(then)
    small = change(image, 0, 7, 2)
    means = image.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))  # by area: each pixel is the mean of four
    np.testing.assert_allclose(small, 255 - means, atol=0.51)
    np.testing.assert_array_equal(change(image, 2, 7), 255 - image)
    assert given == [(0, 7, 2), (2, 7, 0)]
