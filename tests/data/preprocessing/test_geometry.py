"""Geometry: each operation against NumPy or SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pmtrain.data.preprocessing.augment import AUGMENTATIONS
from pmtrain.data.preprocessing.geometry import Geometry, warped
from tests.data.preprocessing.drawn import Draws, inside, smooth


def moved(geometry: Geometry, flips=(1.0, 1.0), draws=(0.0, 0.0, 0.0, 0.0)) -> np.ndarray:
    return warped(smooth(), geometry.matrix(Draws(random=[flips], uniform=[draws]), 64))


def test_flips_are_numpys():
    image, both = smooth(), Geometry(mirror=True, upside_down=True)
    np.testing.assert_array_equal(moved(both, (0.1, 0.9)), image[:, ::-1])
    np.testing.assert_array_equal(moved(both, (0.9, 0.1)), image[::-1])
    np.testing.assert_array_equal(moved(both, (0.9, 0.9)), image)
    np.testing.assert_array_equal(moved(Geometry(), (0.1, 0.1)), image)


@pytest.mark.parametrize("degrees", [90.0, 30.0, -77.5, 180.0])
def test_a_rotation_is_scipys(degrees):
    turned = moved(Geometry(rotation=180), draws=(degrees / 180, 0, 0, 0))
    expected = ndimage.rotate(smooth().astype(float), degrees, reshape=False, order=1)
    assert np.abs(inside(turned) - inside(expected)).max() <= 2
    corners = turned[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 0).all() == (degrees % 90 != 0)


@pytest.mark.parametrize(("degrees", "quarters"), [(-44, 0), (46, 1), (134, 1), (136, 2), (-100, -1), (-170, 2)])
def test_right_angles_are_numpys(degrees, quarters):
    turned = moved(Geometry(rotation=180, right_angles=True), draws=(degrees / 180, 0, 0, 0))
    np.testing.assert_array_equal(turned, np.rot90(smooth(), quarters))


@pytest.mark.parametrize("draw", [1.0, -1.0, 0.5])
def test_scale_and_shift_are_scipys(draw):
    factor, pixels = 1.25**draw, 0.1 * 64 * draw
    centre = (64 - 1) / 2
    scaled = moved(Geometry(scale=1.25), draws=(0, draw, 0, 0))
    shifted = moved(Geometry(shift=0.1), draws=(0, 0, draw, -draw / 2))
    for plane in range(3):
        source = smooth()[..., plane].astype(float)
        larger = ndimage.affine_transform(source, np.full(2, 1 / factor), centre - centre / factor, order=1)
        assert np.abs(inside(scaled[..., plane], 0.35) - inside(larger, 0.35)).max() <= 2
        expected = ndimage.shift(source, (-pixels / 2, pixels), order=1)  # rows are y: down is plus
        assert np.abs(inside(shifted[..., plane], 0.35) - inside(expected, 0.35)).max() <= 2
    assert (shifted[:, 0 if draw > 0 else -1] == 0).all()


def test_ranges_are_filled_and_kept():
    """Of 400 draws of `fundus`: half flipped, every quarter turn, scales and shifts as far as they may go."""
    row = AUGMENTATIONS["fundus"].geometry
    matrices = np.stack([row.matrix(np.random.default_rng(seed), 101) for seed in range(400)])
    linear = matrices[:, :, :2]
    scale = np.sqrt(np.abs(np.linalg.det(linear)))
    assert 1 / row.scale <= scale.min() < 0.95 and 1.05 < scale.max() <= row.scale
    assert 0.4 < np.mean(np.linalg.det(linear) < 0) < 0.6
    turn = np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0])) % 360
    assert (np.histogram(turn, 4, (0, 360))[0] > 70).all()
    offset = linear @ [50, 50] + matrices[:, :, 2] - 50  # of the centre
    assert row.shift * 101 * 0.95 < np.abs(offset).max() <= row.shift * 101 + 1e-9
