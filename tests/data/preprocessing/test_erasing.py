"""Random erasing: how often, how large, filled with what, and drawn from what."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.data.preprocessing.augment import Augment
from pmtrain.data.preprocessing.erasing import Erasing

# Two halves of 0 and 200: the mean colour, 100, is in no pixel.
IMAGE = np.repeat(np.array([0, 200], np.uint8), 32)[:, None, None].repeat(64, 1).repeat(3, 2)


def erased(probability: float, epoch: int, index: int, seed: int = 0) -> np.ndarray:
    return Erasing(Augment("none", seed), probability)(IMAGE, epoch, index)


def test_a_share_of_the_images_has_one_rectangle_of_the_mean_colour():
    before = IMAGE.copy()
    areas = []
    for index in range(400):
        found = erased(0.25, 0, index)
        covered = (found == 100).all(axis=2)
        assert (found[~covered] == IMAGE[~covered]).all()
        rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
        if len(rows):
            assert covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            areas.append(covered.mean())
    assert 70 < len(areas) < 130  # 100 expected, standard deviation 8.7
    assert 0.015 < min(areas) < 0.08 and 0.25 < max(areas) < 0.35
    assert np.mean(areas) == pytest.approx(0.175, abs=0.03)
    assert (before == IMAGE).all()


def test_it_depends_on_seed_epoch_and_image():
    assert (erased(1.0, 1, 2) == erased(1.0, 1, 2)).all()
    kinds = {erased(1.0, *key).tobytes() for key in ((1, 2), (2, 2), (1, 3), (1, 2, 5))}
    assert len(kinds) == 4
