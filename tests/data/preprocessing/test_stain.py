"""Stains against scikit-image's matrix, worked through pixel by pixel."""

from __future__ import annotations

import numpy as np

from pmtrain.data.preprocessing.stain import Stain
from tests.data.preprocessing.drawn import Draws

STILL = np.eye(2, 3)
# Haematoxylin, eosin, DAB: what a unit of each absorbs of red, green and blue.
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))


def of_amounts(amounts: np.ndarray) -> np.ndarray:
    """(..., 3) amounts of the stains -> BGR from 0 to 255."""
    density = sum(amounts[..., stain, None] * np.array(STAINS[stain]) for stain in range(3))
    return 255 * np.exp(-density[..., ::-1])


def test_amounts_are_changed_one_by_one():
    amounts = np.random.default_rng(0).uniform(0.1, 0.9, (20, 20, 3))
    image = np.rint(of_amounts(amounts)).astype(np.uint8)
    draws = np.array([[0.5, -1.0, 0.25], [-0.5, 0.8, 1.0]])
    changed = Stain(range=0.1)(image, STILL, Draws(uniform=[draws]), 2)
    expected = of_amounts(amounts * (1 + 0.2 * draws[0]) + 0.2 * draws[1])
    assert changed.dtype == np.float32
    assert np.abs(changed - np.minimum(expected, 255)).max() < 3  # the image's own rounding
    assert np.abs(changed - image).mean() > 10


def test_without_a_range_nothing_changes_and_black_and_white_stay_in_range():
    image = np.random.default_rng(1).integers(1, 256, (20, 20, 3), np.uint8)
    np.testing.assert_allclose(Stain(0.0)(image, STILL, np.random.default_rng(0)), image, rtol=1e-4)
    for value in (0, 255):
        for seed in range(10):
            changed = Stain(0.2)(np.full((4, 4, 3), value, np.uint8), STILL, np.random.default_rng(seed))
            assert changed.min() >= 0 and changed.max() <= 255
            assert np.abs(changed - value).max() < 130 if value else changed.max() < 20
